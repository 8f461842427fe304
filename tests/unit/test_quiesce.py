"""Ceph's quiesce hook: which images are mapped with it, which snapshots call it, and where it lies."""

import os

import pytest
from device_facts import GOOD, IMAGE, SPEC
from saltrbd import boot_program, device_nbd, device_plan, errors, freeze, proc, quiesce_program, snapshot
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
    spec = Spec("rbd", "", "a", "s")
    assert snapshot.quiesce(spec, {spec.head: None} if frozen else {}, consistency) == expected


@pytest.mark.parametrize("alive", [True, False])
def test_what_is_kept_frozen_has_somebody_who_holds_it(alive, tmp_path, monkeypatch):
    monkeypatch.setattr(freeze, "PASSING", str(tmp_path))
    monkeypatch.setattr(proc, "argv_of", lambda pid: ["python3", freeze.HELPER] if alive else [])
    assert not freeze.keep("7:0") and not freeze.unkeep("7:0")
    (tmp_path / "7:0").write_text('{"pid": 9, "name": "rbd/a", "path": "/mnt"}')
    assert freeze.keep("7:0") == alive
    assert freeze.unkeep("7:0") == alive
    assert not os.listdir(tmp_path) and not freeze.unkeep("7:0")


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


def test_where_it_cannot_be_written(folder):
    folder.parent.joinpath("hooks").write_text("a file")
    with pytest.raises(errors.CommandFailed, match="quiesce: False"):
        quiesce_program.hook()
