"""Ceph's quiesce hook: which images are mapped with it, which snapshots call it, and where it lies."""

import errno
import os

import pytest
from device_facts import GOOD, IMAGE, SPEC
from saltrbd import boot_program, device_nbd, device_plan, errors, freeze, freeze_helper, proc, quiesce, quiesce_program, settings, snapshot
from saltrbd.device_plan import Current, Desired
from saltrbd.run import Result
from saltrbd.spec import Spec

HOOK = "/usr/local/lib/rbd-quiesce/0123456789abcdef/hook"
OURS = ["rbd-nbd", "map", "rbd/a", "--exclusive", "--quiesce", "--quiesce-hook", HOOK]


@pytest.mark.parametrize(
    ("argv", "read_only", "quiesce"),
    [
        (OURS, False, HOOK),
        (OURS[:4], False, ""),
        (OURS[:4] + OURS[5:], False, ""),
        (OURS[:4] + ["--read-only"], True, None),
    ],
    ids=["with it", "without", "named and not wanted", "read-only"],
)
def test_what_a_daemon_says(argv, read_only, quiesce, monkeypatch):
    monkeypatch.setattr(device_nbd, "_read_only", lambda device: read_only)
    monkeypatch.setattr(proc, "environ_of", lambda pid: {device_nbd.MARK: "fsid.id"})
    mapping = device_nbd._served({"id": 7, "device": "/dev/nbd0", "pool": "rbd", "image": "a"}, argv)
    assert mapping.quiesce == quiesce and mapping.fault is None


class Wanted:
    def __init__(self, options=(), read_only=False):
        self.options, self.read_only = list(options), read_only


@pytest.mark.parametrize(
    ("wanted", "knows", "words"),
    [
        (Wanted(), True, ["--quiesce", "--quiesce-hook", HOOK]),
        (Wanted([("io-timeout", "60")]), True, ["--quiesce", "--quiesce-hook", HOOK]),
        (Wanted([("quiesce", None)]), True, ["--quiesce", "--quiesce-hook", HOOK]),
        (Wanted([("quiesce", "off")]), True, []),
        (Wanted(read_only=True), True, []),
        (Wanted(), False, []),
    ],
    ids=["by default", "beside others", "wanted", "not wanted", "read-only", "before Ceph 16"],
)
def test_what_is_mapped_with_it(wanted, knows, words, monkeypatch):
    monkeypatch.setattr(device_nbd, "run", lambda *_, **more: Result(0, "  --quiesce-hook <path>" if knows else "  --exclusive", ""))
    monkeypatch.setattr(quiesce_program, "hook", lambda: HOOK)
    assert device_nbd._hook(wanted) == words
    assert "quiesce" not in " ".join(device_nbd._words(wanted.options))


@pytest.mark.parametrize("option", [("quiesce", "on"), ("quiesce-hook", "x"), ("quiesce_hook", "x")])
def test_options_that_are_refused(option):
    with pytest.raises(errors.InvalidArgument, match="quiesce"):
        device_nbd.check([option])


@pytest.mark.parametrize(
    ("quiesce", "options", "told"),
    [("", [], True), ("", [("quiesce", "off")], False), (HOOK, [], False), (None, [], False)],
    ids=["mapped before", "not wanted", "there", "not for this device"],
)
def test_a_device_without_it_is_told_and_nothing_is_changed(quiesce, options, told):
    mapping = GOOD._replace(driver="nbd", quiesce=quiesce)
    plan = device_plan.plan(SPEC, Current(IMAGE, mapping), Desired("nbd", False, True, options), [])
    assert (plan.steps, plan.changes, plan.refusals) == ([], {}, [])
    assert [SPEC.image in note and "without Ceph's quiesce hook" in note for note in plan.notes] == [True] * told


@pytest.mark.parametrize(
    ("frozen", "consistency", "expected"),
    [(True, "auto", "skip"), (True, "filesystem", "skip"), (False, "auto", "try"), (False, "crash", "skip")],
)
def test_which_snapshots_call_it(frozen, consistency, expected):
    assert snapshot.quiesce({Spec("rbd", "", "a", ""): None} if frozen else {}, consistency) == expected


@pytest.mark.parametrize("alive", [True, False])
def test_what_is_kept_frozen_has_somebody_who_holds_it(alive, tmp_path, monkeypatch):
    monkeypatch.setattr(freeze, "PASSING", str(tmp_path))
    monkeypatch.setattr(proc, "argv_of", lambda pid: ["python3", freeze.HELPER] if alive else [])
    assert not freeze.keep("7:0") and not freeze.unkeep("7:0")
    (tmp_path / "7:0").write_text('{"pid": 9, "name": "rbd/a", "path": "/mnt"}')
    for _ in range(2):  # each of the snapshots that others make while Salt holds it
        assert freeze.keep("7:0") == alive
        assert freeze.unkeep("7:0") == alive
        assert os.listdir(tmp_path) == ["7:0"] * alive and not freeze.unkeep("7:0")


@pytest.mark.parametrize(
    ("there", "kept", "left"),
    [
        (["7:0"], False, ["7:0.thawing"]),
        (["7:0.kept"], True, ["7:0.kept"]),
        (["7:0.thawing"], False, ["7:0.thawing"]),
        ([], False, []),
    ],
    ids=["nobody's", "kept", "being thawed", "without a mark"],
)
def test_what_the_helper_that_is_told_to_thaw_makes_of_its_mark(there, kept, left, tmp_path):
    for name in there:
        (tmp_path / name).touch()
    assert freeze_helper.is_kept(str(tmp_path / "7:0")) == kept
    assert os.listdir(tmp_path) == left


def test_a_mark_that_comes_back_in_that_moment_is_not_thawed_yet(tmp_path, monkeypatch):
    """Whoever kept it renames it back between the helper's two looks; somebody else may keep it in the next moment."""
    mark = tmp_path / "7:0"
    (tmp_path / "7:0.kept").touch()
    rename = os.rename

    def meanwhile(old, new):
        try:
            rename(old, new)
        finally:
            if (tmp_path / "7:0.kept").exists():
                rename(tmp_path / "7:0.kept", mark)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", meanwhile)
        assert freeze_helper.is_kept(str(mark))
    assert not freeze_helper.is_kept(str(mark))


def test_a_mark_that_goes_while_it_is_read(tmp_path, monkeypatch):
    """Its helper has thawed, by its time limit, between the two looks at it."""
    marks = {"name": "rbd/a", "pid": 9, "path": "/mnt"}
    read = [marks, marks]
    monkeypatch.setattr(freeze, "MARKS", str(tmp_path))
    monkeypatch.setattr(freeze, "_read", lambda path: read.pop() if read else None)
    monkeypatch.setattr(proc, "argv_of", lambda pid: ["python3", freeze.HELPER])
    monkeypatch.setattr(proc, "start_of", lambda pid: None)
    monkeypatch.setattr(os, "kill", lambda pid, number: (_ for _ in ()).throw(ProcessLookupError()))
    (tmp_path / "7:0").touch()
    target = freeze.Target(Spec("rbd", "", "a", ""), "/mnt", "/dev/nbd0", "ext4", "7:0")
    assert freeze.thaw({target.spec: target}, settings.load({}, {})) == ["rbd/a"]


@pytest.fixture
def quiesced(tmp_path, monkeypatch):
    """The hook on a device whose filesystem can be frozen (a fake): returns its settings and what was frozen and thawed."""
    done = []
    monkeypatch.setattr(quiesce, "QUIESCED", str(tmp_path / "quiesced"))
    monkeypatch.setattr(freeze, "own_devices", lambda *_: {})
    monkeypatch.setattr(freeze, "on_device", lambda name, *_: freeze.Target(name, "/mnt", name, "ext4", "43:0"))
    monkeypatch.setattr(freeze, "keep", lambda number: False)
    monkeypatch.setattr(freeze, "freeze", lambda *_, **more: done.append("frozen"))
    monkeypatch.setattr(freeze, "thaw_passing", lambda *_: done.append("thawed") or True)
    return settings.load({}, {}), done


@pytest.mark.parametrize("text", ["", "[12.5"])
def test_a_damaged_note_is_in_nobodys_way(text, quiesced, tmp_path):
    chosen, done = quiesced
    (tmp_path / "quiesced").mkdir()
    (tmp_path / "quiesced/nbd0").write_text(text)
    quiesce.unquiesce("/dev/nbd0", chosen)
    assert os.listdir(tmp_path / "quiesced") == [] and done == []
    (tmp_path / "quiesced/nbd0").write_text(text)
    quiesce.quiesce("/dev/nbd0", chosen)
    quiesce.unquiesce("/dev/nbd0", chosen)
    assert done == ["frozen", "thawed"] and os.listdir(tmp_path / "quiesced") == []


def test_what_cannot_be_noted_is_thawed(quiesced, tmp_path, monkeypatch):
    """No space is left in /run: unquiesce would not know that anything is frozen."""
    chosen, done = quiesced

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        quiesce.quiesce("/dev/nbd0", chosen)
    assert done == ["frozen", "thawed"] and os.listdir(tmp_path / "quiesced") == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(quiesce_program, "FOLDER", str(tmp_path / "hooks"))
    monkeypatch.setattr(proc, "processes", lambda program: [])
    return tmp_path / "hooks"


def test_a_version_is_written_once(folder):
    path = quiesce_program.hook()
    first = os.stat(path).st_ino
    assert quiesce_program.hook() == path and os.stat(path).st_ino == first
    assert os.stat(path).st_mode & 0o777 == 0o755 and os.listdir(folder) == [path.split("/")[-2]]
    (folder / path.split("/")[-2] / "saltrbd/spec.py").write_text("damaged")
    assert quiesce_program.hook() == path
    assert boot_program.files(os.path.dirname(path) + "/saltrbd") == boot_program.files(boot_program.PACKAGE)


@pytest.mark.parametrize(
    ("age", "used", "stays"),
    [(10_000, False, False), (10_000, True, True), (10, False, True)],
    ids=["old", "called by an rbd-nbd", "may be called in a moment"],
)
def test_other_versions(age, used, stays, folder, monkeypatch):
    other = folder / "ffffffffffffffff"
    other.mkdir(parents=True)
    os.utime(other, (os.stat(other).st_mtime - age,) * 2)
    argv = ["rbd-nbd", "map", "rbd/a", "--quiesce-hook", str(other / "hook")]
    monkeypatch.setattr(proc, "processes", lambda program: [proc.Process(7, 1, argv)] if used else [])
    quiesce_program.hook()
    assert other.exists() == stays


def test_another_run_that_names_its_version_in_that_moment(folder, monkeypatch):
    """What it has begun was there when the folder was listed."""
    list_of = os.listdir
    found = lambda path: list_of(path) + ["ffffffffffffffff.77"] * (path == str(folder))  # noqa: E731
    monkeypatch.setattr(os, "listdir", found)
    assert os.access(quiesce_program.hook(), os.X_OK)


def test_where_it_cannot_be_written(folder):
    folder.parent.joinpath("hooks").write_text("a file")
    with pytest.raises(errors.CommandFailed, match="quiesce: False"):
        quiesce_program.hook()
