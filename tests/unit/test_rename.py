"""Renaming: what is planned from which facts, what stands in the way, and what follows on this host."""

import pytest
from image_facts import child, image, parent, snapshot
from saltrbd import boot, boot_program, device_find, facts, fstab, mount, rename, spec
from saltrbd.converge import Known
from saltrbd.errors import InvalidArgument
from saltrbd.mapping import Mapping, link_path

OLD, NEW = spec.parse("p/old"), spec.parse("p/new")
FSID = "00000000-0000-0000-0000-000000000001"
LINKS = link_path(FSID, OLD), link_path(FSID, NEW)
UNITS = boot.unit(LINKS[0]), boot.unit(LINKS[1])
LINES = fstab.entry_of(LINKS[0], "/srv", "ext4", ["noatime"]), fstab.entry_of(LINKS[1], "/srv", "ext4", ["noatime"])
NOTHING = {"devices": [], "fstab": [], "at_boot": []}
STEP = [("rbd_image.rename", {"name": "p/old", "new": "p/new"})]


def here(**more):
    return dict(NOTHING, **more)


@pytest.mark.parametrize(
    ("was", "now", "found", "fields"),
    [
        (image(), None, NOTHING, ["name"]),
        (image(snapshots=[snapshot("s", protected=True, children=[child("k")])], group="g"), None, NOTHING, ["name"]),
        (image(), None, here(fstab=[LINES], at_boot=[UNITS]), ["name", "fstab", "at_boot"]),
        (None, image(), NOTHING, []),
        (None, image(watchers=[{"address": "192.0.2.1:0/7", "client": 5}]), NOTHING, []),
        (None, image(), here(devices=["its device"]), []),
        (None, image(), here(fstab=[LINES]), ["fstab"]),
        (None, image(), here(at_boot=[UNITS]), ["at_boot"]),
    ],
)
def test_plan(was, now, found, fields):
    plan = rename.plan(OLD, NEW, was, now, found)
    assert plan.refusals == []
    assert list(plan.changes.get("p/new", {})) == fields
    assert plan.steps == (STEP if fields else [])
    line = {("fstab", "/srv"): list(LINES[1])} if "fstab" in fields else {}
    if "name" in fields:
        assert plan.changes["p/new"]["name"] == {"old": "p/old", "new": "p/new"}
        assert line | {("image", "p/old"): None, ("image", "p/new"): was, ("renamed", "p/old"): {"to": "new"}} == plan.planned
    else:
        assert plan.planned == line
    if "fstab" in fields:
        assert plan.changes["p/new"]["fstab"]["new"] == " ".join(LINES[1])


@pytest.mark.parametrize(
    ("was", "now", "found", "trashed", "words"),
    [
        (image(), image(id="2"), NOTHING, (), "p/old is not renamed, because p/new exists too."),
        (None, None, NOTHING, (), "Neither p/old nor p/new exists, so nothing can be renamed."),
        (None, None, NOTHING, [{"id": "77"}], "lies in the trash (id 77); rbd_image.restore brings it back"),
        (image(), None, here(devices=["its device /dev/rbd0 on this host"]), (), "In the way are: its device /dev/rbd0 on this host."),
        (image(watchers=[{"address": "192.0.2.1:0/7", "client": 5}]), None, NOTHING, (), "the user 192.0.2.1:0/7 (client.5)"),
        (image(locks=[{"client": "the host x", "cookie": "saltrbd", "address": "192.0.2.1"}]), None, NOTHING, (), "the lock 'saltrbd'"),
        (image(features=["migrating"]), None, NOTHING, (), "its migration"),
    ],
)
def test_refused(was, now, found, trashed, words):
    plan = rename.plan(OLD, NEW, was, now, found, trashed)
    assert (plan.steps, plan.changes, len(plan.refusals)) == ([], {}, 1)
    assert words in plan.refusals[0]


@pytest.mark.parametrize(("old", "new"), [("p/a", "p/a"), ("p/a", "q/a"), ("p/a", "p/n/a"), ("p/n/a", "p/m/b")])
def test_what_librbd_cannot_do(old, new):
    with pytest.raises(InvalidArgument):
        rename.check(spec.parse(old), spec.parse(new))


# What follows.


class Ceph:
    fsid = FSID


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """An fstab and folders for units of the test's own, and what was asked of systemd."""
    asked = []
    monkeypatch.setattr(fstab, "PATH", str(tmp_path / "fstab"))
    for name in ("FOLDER", "WANTS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(boot, name, str(tmp_path / name))
    monkeypatch.setattr(boot_program, "FOLDER", str(tmp_path / "program"))
    monkeypatch.setattr(boot, "possible", lambda: True)
    monkeypatch.setattr(boot.launch, "has_systemd", lambda: True)
    monkeypatch.setattr(boot, "run", lambda argv, limit, ok=(0,): asked.append(argv[1:]))
    monkeypatch.setattr(rename.device_find, "on_host", list)
    return tmp_path, asked


def write_record(where, image_id="10ab"):
    kept = {"settings": {"fsid": FSID}, "spec": list(where), "image_id": image_id, "snapshot_id": None}
    kept.update(driver="auto", read_only=False, exclusive=True, options=None)
    boot.keep(boot._path(boot.unit(link_path(FSID, where))), boot.json.dumps(kept))
    return kept


def test_lines_and_units_of_the_old_name(etc):
    folder, _ = etc
    at = OLD.at("s"), NEW.at("s")
    snap = fstab.entry_of(link_path(FSID, at[0]), "/snap", "ext4", ["ro"])
    other = fstab.entry_of(link_path(FSID, OLD._replace(image="older")), "/other", "ext4", [])
    (folder / "fstab").write_bytes(b"# mine\n" + fstab.render(LINES[0]) + fstab.render(other) + fstab.render(snap))
    write_record(OLD)
    write_record(at[0], "another image's")
    facts_ = image(snapshots=[snapshot("s"), snapshot("f0", type="trash")])
    found = rename.look(Ceph, OLD, NEW, facts_)
    assert found["fstab"] == [LINES, (snap, fstab.entry_of(link_path(FSID, at[1]), "/snap", "ext4", ["ro"]))]
    assert found["at_boot"] == [UNITS]
    assert rename.look(Ceph, OLD, NEW, None) == NOTHING
    assert rename.look(Ceph, NEW, OLD, facts_) == NOTHING


def test_the_unit_for_the_boot_follows(etc):
    _, asked = etc
    kept = write_record(OLD)
    boot.rename(FSID, OLD, NEW, 5)
    assert boot.record_of(FSID, OLD) is None
    assert boot.record_of(FSID, NEW) == dict(kept, spec=list(NEW))
    assert asked == [["enable", "--quiet", UNITS[1]], ["stop", UNITS[0]], ["reset-failed", UNITS[0]], ["daemon-reload"]]


# What later states of a dry run see.


def test_a_clone_of_what_was_renamed_is_one_of_the_new_name():
    known = Known({("image", "p/old"): None, ("image", "p/new"): image(), ("renamed", "p/old"): {"to": "new"}})
    clone = image(id="2", parent=parent(image_name="old"))
    seen = facts.images(lambda names, **more: dict.fromkeys(names, clone), known, [spec.parse("p/c")])
    assert seen[spec.parse("p/c")]["parent"]["image"] == "new"


@pytest.mark.parametrize("trash", [False, True])
def test_a_clone_that_was_renamed_is_still_a_clone(trash):
    known = Known(
        {
            ("image", "p/old"): None,
            ("image", "p/new"): image(id="c-old", parent=parent(image_name="a")),
            ("renamed", "p/old"): {"to": "new"},
        }
    )
    above = image(snapshots=[snapshot("s", children=[child("old", trash=trash)])])
    seen = facts.images(lambda names, **more: dict.fromkeys(names, above), known, [spec.parse("p/a")])
    (item,) = seen[spec.parse("p/a")]["snapshots"]
    assert [one["image"] for one in item["children"]] == ["old" if trash else "new"]


DEVICE = ["its device /dev/loop1 on this host"]
NEXT = LINES[0]._replace(point="/next")


@pytest.mark.parametrize(
    ("planned", "snapshot_mapped", "expected"),
    [
        ({}, False, here(devices=DEVICE, fstab=[LINES], at_boot=[UNITS])),
        ({("device", "p/old"): None}, False, here(fstab=[LINES])),
        ({("device", "p/old"): None}, True, here(devices=DEVICE, fstab=[LINES])),
        ({("device", "p/old@s"): None}, True, here(fstab=[LINES], at_boot=[UNITS])),
        ({("fstab", "/srv"): None}, False, here(devices=DEVICE, at_boot=[UNITS])),
        ({("fstab", "/srv"): list(LINES[0]._replace(device="/dev/sda1"))}, False, here(devices=DEVICE, at_boot=[UNITS])),
        (
            {("fstab", "/next"): list(NEXT)},
            False,
            here(devices=DEVICE, fstab=[LINES, (NEXT, LINES[1]._replace(point="/next"))], at_boot=[UNITS]),
        ),
    ],
)
def test_what_refers_to_it_after_earlier_states(etc, monkeypatch, planned, snapshot_mapped, expected):
    (etc[0] / "fstab").write_bytes(fstab.render(LINES[0]))
    write_record(OLD)
    mapping = Mapping(OLD.at("s") if snapshot_mapped else OLD, "/dev/loop1", "fuse", False, None, FSID, image()["id"])
    monkeypatch.setattr(device_find, "on_host", lambda: [mapping])
    assert rename.look(Ceph, OLD, NEW, image(snapshots=[snapshot("s")]), Known(planned)) == expected


def test_a_device_that_an_earlier_state_maps(etc, monkeypatch):
    monkeypatch.setattr(device_find, "on_host", list)
    found = rename.look(Ceph, OLD, NEW, image(), Known({("device", "p/old"): {"driver": "fuse"}}))
    assert found["devices"] == ["the device that an earlier state maps"]


def test_later_states_see_the_line_under_the_new_name():
    planned = rename.plan(OLD, NEW, image(), None, here(fstab=[LINES])).planned
    place = {"mounted": None, "image": None, "fstab": [LINES[0]]}
    assert mount.expected("/srv", planned, place)["fstab"] == [LINES[1]]
