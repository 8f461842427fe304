"""Plans for filesystems as tables, what mkfs may be told, its mark."""

import json
import time

import pytest
from saltrbd import errors, filesystem, killed, mkfs, settings
from saltrbd import spec as specs
from saltrbd.mkfs_options import desired

SPEC = specs.parse("rbd/a")
UUID = "6df182a0-b2b2-45f6-bf7a-978f48d9af32"
MARK = {"fs_type": "ext4", "uuid": UUID, "time": 1}
CHOSEN = settings.load({}, {})


def facts(**given):
    """The facts of a mapped image without any content, and what a row adds."""
    found = filesystem.nothing(512 << 20)
    found.update(image="rbd/a", image_id="1", device="/dev/rbd0", device_number="252:0", device_size=512 << 20)
    found.update(given)
    return found


def carrying(fs_type="ext4", **given):
    return facts(**{"fs_type": fs_type, "signature": fs_type, "label": "", "uuid": UUID, "size": 512 << 20, "state": "clean", **given})


def plan(have, fs_type="ext4", label=None, options=None):
    return filesystem.plan(SPEC, have, desired(CHOSEN, fs_type, label, options))


KEPT = [
    (carrying(), {}),
    (carrying(state="mounted", mounts=["/mnt"]), {}),
    (carrying(state="unclean", used=True), {}),
    (carrying(label="data"), {"label": "data"}),
    (carrying("xfs"), {"fs_type": "xfs"}),
    (carrying(), {"options": ["-m", 0]}),
    (carrying(read_only=True), {}),
    # An image that is not mapped yet, in a dry run: no check of it was possible.
    (carrying(state=None, device="its device"), {}),
]


@pytest.mark.parametrize(("have", "want"), KEPT)
def test_what_is_there_stays(have, want):
    found = plan(have, **want)
    assert (found.steps, found.changes, found.refusals) == ([], {}, [])
    assert found.planned[("filesystem", "rbd/a")]["fs_type"] == have["fs_type"]


def test_a_journal_to_replay_is_said():
    assert plan(carrying(state="unclean", used=True)).notes == [filesystem.REPLAY]


MADE = [
    (facts(), {}, {"filesystem": {"old": None, "new": "ext4"}}),
    (facts(), {"fs_type": "xfs", "label": "d"}, {"filesystem": {"old": None, "new": "xfs"}, "label": {"old": None, "new": "d"}}),
    (facts(), {"label": ""}, {"filesystem": {"old": None, "new": "ext4"}}),
    # What a killed mkfs of ours left: nothing that blkid knows, or half a filesystem with the UUID of the mark.
    (facts(mark=MARK), {}, {"filesystem": {"old": "what a killed mkfs.ext4 left", "new": "ext4"}}),
    (carrying(state="damaged", mark=MARK), {}, {"filesystem": {"old": "what a killed mkfs.ext4 left", "new": "ext4"}}),
    (facts(mark=MARK), {"fs_type": "xfs"}, {"filesystem": {"old": "what a killed mkfs.ext4 left", "new": "xfs"}}),
]


@pytest.mark.parametrize(("have", "want", "changes"), MADE)
def test_a_filesystem_is_made(have, want, changes):
    found = plan(have, **want)
    assert (found.changes, found.refusals) == ({"rbd/a": changes}, [])
    assert [step[0] for step in found.steps] == ["rbd_filesystem.format"]


CHANGED = [
    (carrying(label="old"), {"label": "new"}, "rbd_filesystem.relabel", {"label": {"old": "old", "new": "new"}}),
    (carrying(label="old"), {"label": ""}, "rbd_filesystem.relabel", {"label": {"old": "old", "new": ""}}),
    (carrying(mark=MARK), {}, "rbd_filesystem.settle", {"filesystem": {"old": "ext4, not yet checked", "new": "ext4"}}),
    # Somebody mounted it after mkfs was killed: it holds his files now, whatever the mark says.
    (
        carrying(state="mounted", mounts=["/mnt"], used=True, mark=MARK),
        {},
        "rbd_filesystem.settle",
        {"filesystem": {"old": "ext4, not yet checked", "new": "ext4"}},
    ),
]


@pytest.mark.parametrize(("have", "want", "function", "changes"), CHANGED)
def test_what_is_there_is_changed(have, want, function, changes):
    found = plan(have, **want)
    assert (found.changes, [step[0] for step in found.steps]) == ({"rbd/a": changes}, [function])


REFUSED = [
    (facts(device=None), {}, "declare rbd_device.mapped"),
    (carrying("xfs"), {}, "carries xfs, not ext4"),
    (carrying("xfs", state="mounted", mounts=["/mnt"]), {}, "carries xfs and is mounted on /mnt, not ext4"),
    (facts(signature="LVM2_member (raid)", fs_type="LVM2_member"), {}, "carries LVM2_member (raid), not ext4"),
    (facts(signature="a partition table (gpt)", fs_type="gpt"), {}, "a partition table (gpt)"),
    (facts(signature="several signatures at once", fs_type=""), {}, "several signatures"),
    (carrying(state="damaged", damage="e2fsck ended with code 4"), {}, "does not pass its check: e2fsck ended with code 4"),
    (facts(not_blank="it is a clone of rbd/p@s"), {}, "rbd/a gets no filesystem: it is a clone of rbd/p@s."),
    (facts(read_only=True), {}, "mapped read-only"),
    (facts(image_size=299 << 20), {"fs_type": "xfs"}, "has 299M, and xfs wants 300M or more"),
    (carrying(read_only=True, label="x"), {"label": "y"}, "cannot become 'y'"),
    # A mark never covers what is not its own.
    (carrying("btrfs", mark=MARK, state=None), {}, "carries btrfs, not ext4"),
    (carrying(mark=dict(MARK, uuid="other"), state="damaged"), {}, "does not pass its check"),
    (carrying(mark=MARK, state="damaged", used=True), {}, "does not pass its check"),
    (facts(mark=MARK, not_blank="it is in use by 192.0.2.1"), {}, "in use by 192.0.2.1"),
]


@pytest.mark.parametrize(("have", "want", "text"), REFUSED)
def test_refused(have, want, text):
    found = plan(have, **want)
    assert (found.steps, found.changes) == ([], {})
    assert len(found.refusals) == 1 and text in found.refusals[0] and "rbd/a" in found.refusals[0]


@pytest.mark.parametrize(
    ("began", "modified", "snapshots", "late"),
    [
        (-5, -5, [], False),
        (-599, -3600, [], False),
        (-602, -602, [], True),  # the kernel's rbd does not note when an image was written
        (-5, 700, [], True),  # a host whose clock is behind
        (50, 50, [], False),
        (90, -5, [], True),  # a mark from the future
        (-5, -5, [{"type": "group"}], True),
        (-5, -5, [{"type": "trash"}], False),
        (-5, -5, [{"type": "user"}], True),
    ],
)
def test_how_long_data_counts_as_that_of_a_killed_mkfs(began, modified, snapshots, late):
    now = int(time.time())
    assert killed.is_late({"modified": now + modified, "snapshots": snapshots}, now + began) is late


def image(size=512 << 20, parent=None, identity=None):
    return {"size": size, "parent": parent, "id": identity}


PARENT = {"pool": "rbd", "namespace": "", "image": "p", "snapshot": "s", "id": None, "overlap": 1}
MADE_EXT4 = {"fs_type": "ext4", "label": "d", "size": 512 << 20}


def expect(name, known, there=None):
    there = there or {}
    return filesystem.expected(specs.parse(name), known, lambda spec, image_id, encryption: there.get(image_id or str(spec)))


def test_without_a_dry_run_the_facts_are_those_of_now():
    now = carrying()
    assert expect("rbd/a", {}, {"rbd/a": now}) is now


def test_what_an_earlier_state_makes_counts_as_there():
    known = {("image", "rbd/a"): image(), ("device", "rbd/a"): {"driver": "krbd", "read_only": False}}
    found = expect("rbd/a", known)
    assert (found["device"], found["signature"], found["image_size"]) == ("its device", None, 512 << 20)
    known[("filesystem", "rbd/a")] = MADE_EXT4
    known[("mount", "/mnt")] = {"image": "rbd/a", "fs_type": "ext4"}
    found = expect("rbd/a", known)
    assert (found["fs_type"], found["label"], found["mounts"], found["state"]) == ("ext4", "d", ["/mnt"], "clean")


def test_a_planned_clone_shows_what_its_parent_will_show():
    known = {
        ("image", "rbd/p"): image(),
        ("filesystem", "rbd/p"): MADE_EXT4,
        ("image", "rbd/c"): image(1 << 30, PARENT),
        ("device", "rbd/c"): {"driver": "krbd", "read_only": False},
    }
    found = expect("rbd/c", known)
    assert (found["fs_type"], found["size"], found["image_size"], found["renewed"]) == ("ext4", 512 << 20, 1 << 30, False)
    assert plan(found).changes == {}
    del known[("filesystem", "rbd/p")]
    assert filesystem.plan(specs.parse("rbd/c"), expect("rbd/c", known), desired(CHOSEN)).refusals == [
        "rbd/c gets no filesystem: it is a clone of rbd/p@s."
    ]


def test_a_planned_snapshot_shows_what_its_image_shows():
    known = {("snapshot", "rbd/a@s"): {"protected": True}, ("device", "rbd/a@s"): {"driver": "krbd", "read_only": True}}
    found = expect("rbd/a@s", known, {"rbd/a": carrying(mounts=["/mnt"], state="mounted")})
    assert (found["image"], found["fs_type"], found["read_only"], found["mounts"]) == ("rbd/a@s", "ext4", True, [])


def test_what_comes_back_from_the_trash_is_looked_at_by_its_id():
    known = {("image", "rbd/a"): image(identity="77")}
    assert expect("rbd/a", known, {"77": carrying(device=None)})["fs_type"] == "ext4"


def test_growth_unmounting_and_unmapping_are_foreseen():
    now = carrying(mounts=["/mnt"], state="mounted")
    known = {("image", "rbd/a"): image(1 << 30), ("mount", "/mnt"): None, ("device", "rbd/a"): None}
    found = expect("rbd/a", known, {"rbd/a": now})
    assert (found["image_size"], found["mounts"], found["device"]) == (1 << 30, [], None)


@pytest.mark.parametrize(
    ("name", "known", "error"),
    [
        ("rbd/a", {}, errors.ImageNotFound),
        ("rbd/a", {("image", "rbd/a"): None}, errors.ImageNotFound),
        ("rbd/a@s", {("image", "rbd/a"): image(), ("snapshot", "rbd/a@s"): None}, errors.SnapshotNotFound),
    ],
)
def test_what_will_not_exist_is_an_error(name, known, error):
    with pytest.raises(error):
        expect(name, known)


ALLOWED = [
    ("ext4", None, ()),
    ("ext4", [], ()),
    ("ext4", ["-m", 0], (("-m", "0"),)),
    ("ext4", ["-m0", "-E", "stride=16,stripe_width=64"], (("-m", "0"), ("-E", "stride=16,stripe_width=64"))),
    ("ext4", ["-O", "^has_journal,metadata_csum"], (("-O", "^has_journal,metadata_csum"),)),
    ("xfs", ["-d", "su=64k,sw=4", "-i", "size=1024"], (("-d", "su=64k,sw=4"), ("-i", "size=1024"))),
]


@pytest.mark.parametrize(("fs_type", "words", "pairs"), ALLOWED)
def test_mkfs_options(fs_type, words, pairs):
    assert desired(CHOSEN, fs_type, None, words).options == pairs


FORBIDDEN = [
    ("ext4", ["-F"]),
    ("ext4", ["-FF"]),
    ("ext4", ["-qF"]),
    ("ext4", ["-S"]),
    ("ext4", ["-n"]),
    ("ext4", ["-U", UUID]),
    ("ext4", ["-L", "x"]),
    ("ext4", ["-t", "ext2"]),
    ("ext4", ["/dev/sda"]),
    ("ext4", ["-m"]),
    ("ext4", ["-m", "-F"]),
    ("ext4", ["-m", "0", "/dev/sda"]),
    ("ext4", ["-J", "device=/dev/sda"]),
    ("ext4", ["-J", "device=LABEL"]),
    ("ext4", ["-E", "stride=1,offset=4096"]),
    ("ext4", ["-O", "journal_dev"]),
    ("ext4", "-m 0"),
    ("ext4", [None]),
    ("ext4", [True]),
    ("ext4", [["-m"]]),
    ("ext4", {"-m": 0}),
    ("ext4", ["-m", "0 1"]),
    ("ext4", ["-m", "0\n"]),
    ("ext4", [""]),
    ("xfs", ["-f"]),
    ("xfs", ["-N"]),
    ("xfs", ["-K"]),
    ("xfs", ["-m", "uuid=" + UUID]),
    ("xfs", ["-m", "crc=1,uuid=" + UUID]),
    ("xfs", ["-d", "name=/dev/sda"]),
    ("xfs", ["-d", "file"]),
    ("xfs", ["-l", "logdev=sda"]),
    ("xfs", ["-p", "proto"]),
]


@pytest.mark.parametrize(("fs_type", "words"), FORBIDDEN)
def test_what_mkfs_may_not_be_told(fs_type, words):
    with pytest.raises(errors.InvalidArgument):
        desired(CHOSEN, fs_type, None, words)


@pytest.mark.parametrize(("fs_type", "label"), [("ext4", "x" * 16), ("ext4", "ä" * 8), ("xfs", "x" * 12), ("xfs", ""), ("ext4", None)])
def test_labels(fs_type, label):
    assert desired(CHOSEN, fs_type, label).label == label


@pytest.mark.parametrize(
    ("fs_type", "label"),
    [
        ("ext4", "x" * 17),
        ("ext4", "ä" * 9),
        ("xfs", "x" * 13),
        ("ext4", "-x"),
        ("ext4", "a b"),
        ("ext4", "a\n"),
        ("ext4", 5),
        ("ext4", "a/b"),
    ],
)
def test_what_is_no_label(fs_type, label):
    with pytest.raises(errors.InvalidArgument):
        desired(CHOSEN, fs_type, label)


@pytest.mark.parametrize("fs_type", ["btrfs", "ext3", "", 4, None, ["ext4"]])
def test_only_ext4_and_xfs(fs_type):
    if not fs_type:  # then it is the pillar's
        assert desired(CHOSEN, fs_type).fs_type == "ext4"
        return
    with pytest.raises(errors.InvalidArgument, match="ext4 or xfs"):
        desired(CHOSEN, fs_type)


def test_mkfs_never_forces_on_a_blank_device():
    ext4 = mkfs.command(desired(CHOSEN, "ext4", "d", ["-m", 0, "-E", "stride=4"]), UUID, "/dev/rbd0", True, (1, 47))
    assert ext4 == (
        ["mkfs.ext4", "-q", "-U", UUID, "-L", "d", "-E", "nodiscard,assume_storage_prezeroed=1,stride=4", "-m", "0", "/dev/rbd0"]
    )
    old = mkfs.command(desired(CHOSEN), UUID, "/dev/rbd0", True, (1, 46))
    assert old == ["mkfs.ext4", "-q", "-U", UUID, "-E", "nodiscard,lazy_journal_init=1", "/dev/rbd0"]
    xfs = mkfs.command(desired(CHOSEN, "xfs", None, ["-i", "size=1024"]), UUID, "/dev/rbd0", True, (0, 0))
    assert xfs == ["mkfs.xfs", "-q", "-K", "-m", "uuid=" + UUID, "-i", "size=1024", "/dev/rbd0"]


def test_mkfs_forces_only_over_its_own_remnants():
    assert "-F" in mkfs.command(desired(CHOSEN), UUID, "/dev/rbd0", False, (1, 47))
    assert "-f" in mkfs.command(desired(CHOSEN, "xfs"), UUID, "/dev/rbd0", False, (0, 0))


MARKED = {"image": "1", "fs_type": "xfs", "uuid": UUID, "time": 5}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None),
        (json.dumps(MARKED), mkfs.Mark("xfs", UUID, 5)),
        (json.dumps(dict(MARKED, image="2")), None),  # a clone's: it has its parent's metadata
        ("{", None),
        ("[]", None),
        ("null", None),
        (json.dumps({"image": "1"}), None),
    ],
)
def test_a_mark_belongs_to_its_image(value, found):
    metadata = {} if value is None else {mkfs.KEY: value}
    assert mkfs.mark_of({"id": "1", "metadata": metadata}) == found
