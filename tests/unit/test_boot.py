"""The unit that maps an image at boot: its name, its record, what a state would change."""

import os
import sys

import pytest
from saltrbd import boot, boot_program, boot_service, device_plan, errors, owner, settings, spec
from saltrbd.device_plan import Desired
from saltrbd.mapping import link_path

FSID = "00000000-0000-0000-0000-000000000001"
SPEC = spec.parse("rbd/a")
ID = "10226b8b4567"
IMAGE = {"id": ID, "snapshots": []}
WANT = Desired("auto", False, True, [("discard", "ignore")], True)


class Ceph:
    """A client as far as the plan asks it."""

    fsid = FSID
    settings = settings.load({"id": "one"}, {"ceph": {"monitors": ["192.0.2.1:6789"], "keyring": "/etc/ceph/k"}})


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """The folders that the units lie in, empty; nothing of systemd is asked."""
    for name in ("FOLDER", "WANTS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(boot, name, str(tmp_path / name))
    monkeypatch.setattr(boot_program, "FOLDER", str(tmp_path / "program"))
    monkeypatch.setattr(boot_program, "TEMPLATE", str(tmp_path / "template"))
    monkeypatch.setattr(boot, "possible", lambda: True)
    return tmp_path


def written(etc, want=WANT, where=SPEC):
    """What a state leaves behind."""
    name = boot.unit(link_path(FSID, where))
    boot.keep(boot._path(name), boot.json.dumps(boot.record(Ceph.settings, FSID, where, want, ID)))
    boot_program.write(boot.FOLDER)
    (etc / "WANTS" / name).symlink_to(etc / "template")
    return name


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("rbd/a", "rbd-volume@rbd:a:"),
        ("rbd/a@s", "rbd-volume@rbd:a_s:"),
        ("rbd/n/a", "rbd-volume@rbd:n_:a:"),
        ("rbd/Größe,12", "rbd-volume@rbd:Gr__e_12:"),
        ("rbd/" + "x" * 250, "rbd-volume@rbd:xxx"),
    ],
)
def test_a_name_that_systemd_and_fstab_take(text, begins):
    name = boot.unit(link_path(FSID, spec.parse(text)))
    assert name.startswith(begins) and name.endswith(".service")
    assert len(name) <= 255 and not set(name) & set("\\,%/ ")


def test_names_tell_images_and_clusters_apart():
    texts = ["rbd/a", "rbd/a@s", "rbd/a_s", "rbd/n/a", "rbd/n_", "rbd/ä", "rbd/ö"]
    names = {boot.unit(link_path(fsid, spec.parse(text))) for text in texts for fsid in (FSID, FSID[:-1] + "2")}
    assert len(names) == 2 * len(texts)


def test_a_record_reads_back(etc):
    name = written(etc)
    assert boot.enabled(FSID, SPEC) == boot.record(Ceph.settings, FSID, SPEC, WANT, ID)
    assert boot.load(name[len("rbd-volume@") : -len(".service")])["options"] == {"discard": "ignore"}
    assert boot.unit_of(FSID, SPEC) == name
    other = spec.parse("rbd/b")
    assert boot.enabled(FSID, other) is None and boot.unit_of(FSID, other) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '"none"', "null", "{}", '{"spec": ["rbd", "", "a", ""]}'])
def test_a_damaged_record_is_none(etc, text):
    name = written(etc)
    with open(boot._path(name), "w") as file:
        file.write(text)
    assert boot.enabled(FSID, SPEC) is None and boot.unit_of(FSID, SPEC) == name


def test_the_settings_of_another_version(etc):
    kept = dict(boot.record(Ceph.settings, FSID, SPEC, WANT, ID)["settings"], of_tomorrow=1)
    del kept["driver"]
    assert settings.restored(kept) == Ceph.settings._replace(fsid=FSID)


@pytest.mark.parametrize(
    ("damage", "want", "old", "new"),
    [
        (None, WANT, "same", "same"),
        (None, WANT._replace(persist=None), "same", "same"),
        (None, WANT._replace(persist=False), "unit", None),
        (None, WANT._replace(options=[]), "unit, outdated", "unit"),
        (None, WANT._replace(driver="fuse"), "unit, outdated", "unit"),
        ("record", WANT, "unit, outdated", "unit"),
        ("link", WANT, "unit, outdated", "unit"),
        ("template", WANT, "unit, outdated", "unit"),
        ("program", WANT, "unit, outdated", "unit"),
        ("all", WANT, None, "unit"),
        ("all", WANT._replace(persist=False), "same", "same"),
    ],
)
def test_what_the_boot_needs(etc, damage, want, old, new):
    name = written(etc)
    paths = {
        "record": etc / boot._path(name),
        "link": etc / "WANTS" / name,
        "template": etc / "template",
        "program": etc / "program/saltrbd/spec.py",
    }
    for path in paths.values() if damage == "all" else [paths[damage]] if damage else []:
        path.unlink()
    found, unit = device_plan.look_boot(Ceph, SPEC, want, IMAGE)
    words = {"unit": name, "unit, outdated": name + ", outdated", None: None}
    assert found == (None if old == "same" else {"old": words[old], "new": words[new]})
    assert unit == (None if damage == "all" and old == "same" else name if old == "same" else words[new])


def test_without_systemd_nothing_is_written(etc, monkeypatch):
    monkeypatch.setattr(boot, "possible", lambda: False)
    assert device_plan.look_boot(Ceph, SPEC, WANT, IMAGE) == (None, None)


def test_another_image_of_that_name(etc):
    written(etc)
    assert device_plan.look_boot(Ceph, SPEC, WANT, dict(IMAGE, id="another"))[0]["old"].endswith(", outdated")


NAME = boot.unit(link_path(FSID, SPEC))


@pytest.mark.parametrize(
    ("planned", "want", "expected"),
    [
        (None, WANT, ({"old": None, "new": NAME}, NAME)),
        (None, WANT._replace(persist=None), (None, None)),
        ({"at_boot": NAME}, WANT, (None, NAME)),
        ({"at_boot": NAME}, WANT._replace(persist=False), ({"old": NAME, "new": None}, None)),
        ({"at_boot": None}, WANT, ({"old": None, "new": NAME}, NAME)),
        ({"at_boot": None}, WANT._replace(persist=False), (None, None)),
    ],
)
def test_what_earlier_states_of_a_dry_run_planned(etc, planned, want, expected):
    written(etc)
    assert device_plan.look_boot(Ceph, SPEC, want, IMAGE, {("device", "rbd/a"): planned}) == expected


def test_the_program_is_mended_by_one_state_of_a_run(etc):
    written(etc)
    (etc / "program/saltrbd/spec.py").write_text("of another version")
    assert device_plan.look_boot(Ceph, SPEC, WANT, IMAGE)[0] is not None
    assert device_plan.look_boot(Ceph, SPEC, WANT, IMAGE, {device_plan.PROGRAM: {}})[0] is None


def test_a_copy_of_another_time_is_the_same_program(etc):
    """Salt gives what it syncs a new time, whatever is in it."""
    written(etc)
    os.utime(etc / "program/saltrbd/spec.py", (1, 1))
    assert boot.program_is_right()
    assert device_plan.look_boot(Ceph, SPEC, WANT, IMAGE)[0] is None


def test_the_last_record_takes_all_along(etc):
    other = spec.parse("rbd/b")
    written(etc)
    name = boot.unit(link_path(FSID, other))
    boot.keep(boot._path(name), "{}")
    boot.forget(FSID, SPEC)
    assert boot.unit_of(FSID, SPEC) is None and boot.program_is_right()
    (etc / "FOLDER/cut.off.json.77").write_text("{")
    boot.forget(FSID, other)
    assert sorted(path.name for path in etc.iterdir()) == ["WANTS"]


KEPT = boot.record(Ceph.settings, FSID, SPEC, WANT, ID)


class Holder:
    """A lock as far as the guard asks it."""

    facts = {"host": "other"}


@pytest.mark.parametrize(
    ("kept", "image", "verdict", "words"),
    [
        (KEPT, {"id": "another"}, None, "another one by now .id another, not 10226b8b4567"),
        (dict(KEPT, image_id="new"), {}, None, "not to be mapped at boot any more"),
        (KEPT, {}, owner.Verdict(holder=Holder, blocklist="192.0.2.9:0/1"), "mapped last by the host other; at boot nothing is taken over"),
    ],
)
def test_what_only_salt_may_do(etc, kept, image, verdict, words):
    name = written(etc)
    instance = name[len("rbd-volume@") : -len(".service")]
    with pytest.raises(errors.Refused, match=words):
        boot_service._check(Ceph, SPEC, kept, instance, device_plan.Current(dict(IMAGE, **image), verdict=verdict))
    mine = owner.Verdict(holder=type("Mine", (), {"facts": {"host": "one"}}))
    boot_service._check(Ceph, SPEC, KEPT, instance, device_plan.Current(IMAGE, verdict=mine))
    boot_service._check(Ceph, SPEC, KEPT, instance, device_plan.Current(IMAGE))


@pytest.mark.parametrize(
    ("answers", "waited", "kind"),
    [
        ([], 0, None),
        ([(errors.ClusterUnreachable, 120), (errors.Busy, 35)], 155, None),
        ([(OSError, 40)], 40, None),
        ([(errors.Busy, 999)], 60, errors.Busy),
        ([(errors.InvalidConfiguration, 999)], 300, errors.InvalidConfiguration),
        ([(errors.Refused, 999)], 0, errors.Refused),
    ],
)
def test_what_passes_is_waited_for(monkeypatch, answers, waited, kind):
    """The clock and the mapping are made up: minutes of waiting."""
    now = [0.0]
    monkeypatch.setattr(boot_service.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(boot_service.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def map_image(*args, **kwargs):
        end = 0
        for error, seconds in answers:
            end += seconds
            if now[0] < end:
                raise error("not now")
        return "mapped"

    monkeypatch.setattr(boot_service.device, "map_image", map_image)
    if kind:
        with pytest.raises(kind):
            boot_service.attach(Ceph, SPEC, KEPT, "instance")
    else:
        assert boot_service.attach(Ceph, SPEC, KEPT, "instance") == "mapped"
    assert waited <= now[0] <= waited + 3


@pytest.mark.parametrize(
    ("word", "expected"),
    [("/opt/a b/python3", '"/opt/a b/python3"'), ('a%b$c"d\\e', '"a%%b$$c\\"d\\\\e"')],
)
def test_words_for_systemd(word, expected):
    assert boot_program._quoted(word) == expected


@pytest.mark.parametrize(
    "program, own", [("python3.11", False), ("python3.8", False), ("python3.6", True), ("python2.7", True), ("none", True)]
)
def test_the_unit_runs_the_systems_python_where_it_is_new_enough(tmp_path, program, own):
    link = tmp_path / "python3"
    if program != "none":
        (tmp_path / program).touch()
        link.symlink_to(program)
    assert boot_program.interpreter(str(link)) == (sys.executable if own else str(link))
