"""Encrypting an image, opening it, shrinking it: the decisions as tables."""

import time

import pytest
from saltrbd import device_find, device_nbd, device_plan, dmcrypt, encryption, errors, luks, owner, settings, shrink, tree, unlock, volumes
from saltrbd.luks import Key, Wanted
from saltrbd.mapping import Mapping
from saltrbd.run import Result
from saltrbd.spec import Spec

CHOSEN = settings.load({}, {})
P = Spec("p", "", "i", "")
M = 1 << 20
WANTED = Wanted("luks2", ("keys", "one"))
REFERENCE = {"format": "luks2", "pillar": ["keys", "one"]}
BEGUN = {"mark": {"format": "luks2", "uuid": "", "time": 1}, "begun": True}


def facts(**more):
    found = {**encryption.nothing(), "size": 64 * M, "object_size": 4 * M, "parent": None, "features": ["layering"], "image_id": "abc"}
    return {**found, "mark": None, "mapped": None, "user": None, "begun": False, "not_blank": None, **more}


@pytest.mark.parametrize(
    ("now", "old"),
    [
        (facts(), None),
        (facts(**BEGUN), "what a killed format left"),
        (facts(format="luks2", **BEGUN), "what a killed format left"),
        (facts(format="luks1", **BEGUN), "what a killed format left"),
        (facts(size=17 * M), None),
    ],
)
def test_it_is_written(now, old):
    plan = encryption.plan(P, now, WANTED)
    assert plan.refusals == []
    assert plan.steps == [("rbd_encryption.format", {"name": "p/i", "encryption": REFERENCE})]
    assert plan.changes == {"p/i": {"encryption": {"old": old, "new": "luks2"}}}
    assert plan.planned[("encryption", "p/i")]["offset"] == 16 * M


@pytest.mark.parametrize(
    "now",
    [
        facts(format="luks2"),
        facts(format="luks2", mapped="/dev/loop1"),
        facts(format="luks2", mark={"format": "luks2", "uuid": "u", "time": 1}),
        # Somebody has used it since the format was cut off.
        facts(format="luks2", mark={"format": "luks2", "uuid": "", "time": 1}, not_blank="librbd knows of data in it"),
    ],
)
def test_it_is_there(now):
    assert encryption.plan(P, now, WANTED) == encryption.Plan()


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (facts(format="luks1"), "p/i is encrypted as luks1, not luks2"),
        (
            facts(not_blank="librbd knows of data in it, first at byte 0"),
            "p/i is not encrypted: librbd knows of data in it, first at byte 0. Only",
        ),
        (facts(parent={"pool": "p"}, not_blank="it is a clone of p/a@s"), "p/i is not encrypted: it is a clone of p/a@s."),
        (facts(features=["journaling"]), "the feature journaling"),
        (facts(size=16 * M), "it has 16M, and with its header it needs 17M or more"),
        (facts(size=32 * M, object_size=32 * M), "needs 33M or more"),
        (facts(mapped="/dev/loop1"), "it is mapped at /dev/loop1; unmap it first"),
        (facts(user="p/i is in use by 1.2.3.4"), "p/i is in use by 1.2.3.4"),
        (facts(not_blank="librbd knows of data in it", mark=BEGUN["mark"]), "librbd knows of data in it"),
    ],
)
def test_it_is_refused(now, told):
    plan = encryption.plan(P, now, WANTED)
    assert plan.steps == [] and plan.changes == {}
    assert told in plan.refusals[0]


KEY = Key("luks2", ("keys", "one"), "secret")


@pytest.mark.parametrize(
    ("features", "found", "error"),
    [
        ([], "luks2", None),
        ([], None, (errors.Refused, "p/i carries no LUKS header; declare rbd_encryption.formatted")),
        ([], "luks1", (errors.Refused, "p/i is encrypted as luks1, not luks2 as declared")),
        (["journaling"], "luks2", (errors.NotSupported, "the feature journaling")),
    ],
)
def test_what_stands_in_the_way_of_opening(features, found, error):
    told = unlock.judge(P, KEY, features, found)
    assert (type(told), True) == (error[0], error[1] in str(told)) if error else told is None


def content(fs_type=None, size=None, offset=0, device=None, signature=None):
    found = {"fs_type": fs_type, "signature": signature or fs_type, "size": size, "offset": offset, "device": device}
    return {**found, "encryption": "luks2" if offset else ""}


USED = {"watchers": [{"address": "1.2.3.4:0/5", "client": 6, "here": True}]}
FREE = {"watchers": []}
# blkid's word, and the text of it; the last is what several signatures at once give.
UNREAD = {
    "gpt": "a partition table (gpt)",
    "LVM2_member": "LVM2_member (raid)",
    "swap": "swap (other)",
    "btrfs": "btrfs",
    "": "several signatures at once",
}


@pytest.mark.parametrize(
    ("found", "image", "unmapped", "told"),
    [
        (content(), FREE, False, None),
        (content("ext4", 32 * M), FREE, False, None),
        (content("xfs", 32 * M), FREE, False, None),
        (content("ext4", 16 * M, offset=16 * M), FREE, False, None),
        (content("ext4", 36 * M), FREE, False, "p/i cannot shrink to 32M: its ext4 has 36M. Shrink it first: unmount it, then"),
        (content("ext4", 33 * M, device="/dev/loop1"), FREE, False, "'resize2fs /dev/loop1 32768K'"),
        (content("ext4", 17 * M, offset=16 * M), FREE, False, "'resize2fs DEVICE 16384K'"),
        (content("ext4"), FREE, False, "does not tell its size"),
        (content("xfs", 33 * M), FREE, False, "its xfs has 33M, and an xfs cannot be made smaller"),
        (content("crypto_LUKS"), FREE, False, "Declare encryption:"),
        (content("crypto_LUKS", offset=16 * M), FREE, False, "it carries crypto_LUKS, and how much"),
        *((content(kind, signature=text), FREE, False, f"it carries {text}, and how much") for kind, text in UNREAD.items()),
        (content(offset=32 * M), FREE, False, "not more than its LUKS header takes"),
        (content(), USED, False, "p/i cannot shrink to 32M: it is in use by 1.2.3.4:0/5 (client.6); unmap it first."),
        (content(), USED, True, None),
        (content(), {"watchers": [dict(USED["watchers"][0], host="db1")]}, False, "in use by 1.2.3.4:0/5 (client.6, host db1); unmap"),
        (content(), {"watchers": [dict(USED["watchers"][0], here=False)]}, True, "it is in use by 1.2.3.4:0/5"),
        (content(), dict(FREE, devices=["the read-only device /dev/loop1 of p/i on this host"]), False, "in use by the read-only device"),
    ],
)
def test_shrinking(found, image, unmapped, told):
    refused = shrink.refusals(P, 32 * M, found, image, unmapped)
    assert len(refused) == 1 and told in refused[0] if told else refused == []


def test_what_is_not_read_is_made_smaller_by_hand():
    (told,) = shrink.refusals(P, 32 * M + 512, content("swap"), FREE)
    assert told.endswith("'rbd resize p/i --size 33554944B --allow-shrink'.")


@pytest.mark.parametrize(
    ("image", "verdict", "told"),
    [
        (FREE, owner.Verdict(), []),
        (FREE, owner.Verdict(blocklist="1.2.3.4:0/5"), []),
        (FREE, owner.Verdict("p/i is mapped by the host db1."), ["p/i is mapped by the host db1."]),
        (
            USED,
            owner.Verdict("p/i is mapped by the host db1."),
            ["p/i cannot shrink to 32M: it is in use by 1.2.3.4:0/5 (client.6); unmap it first."],
        ),
    ],
)
def test_what_another_host_has_does_not_shrink(image, verdict, told):
    assert shrink.refusals(P, 32 * M, content(), image, verdict=verdict) == told


def test_the_offset_of_a_mapping():
    assert luks.offset_of(None, Mapping(P, "/dev/loop1", "fuse", False, 5), 64 * M) == 0


def test_dm_crypt_is_found_in_sysfs(tmp_path):
    for raw, layer, identity, name in (
        ("rbd0", "dm-3", "CRYPT-LUKS2-f3d6-rbd-volume-x", "rbd-volume-x"),
        ("rbd1", "dm-4", "LVM-abc", "rbd-volume-x"),
        ("rbd3", "dm-5", "CRYPT-PLAIN-x", "rbd-volume-x"),
        ("rbd4", "dm-6", "CRYPT-LUKS2-f3d7-backup", "backup"),  # by hand
    ):
        folder = tmp_path / "class/block" / raw / "holders" / layer / "dm"
        folder.mkdir(parents=True)
        (folder / "uuid").write_text(identity + "\n")
        (folder / "name").write_text(name + "\n")
    assert dmcrypt.above("/dev/rbd0", str(tmp_path)) == ("/dev/dm-3", "rbd-volume-x", "luks2")
    assert [dmcrypt.above(path, str(tmp_path)) for path in ("/dev/rbd1", "/dev/rbd2", "/dev/rbd3", "/dev/rbd4")] == [None] * 4


def test_the_passphrase_goes_to_cryptsetup_by_stdin(monkeypatch):
    """The kernel here has no device-mapper: a fake stands for cryptsetup."""
    ran = []
    monkeypatch.setattr(dmcrypt, "run", lambda argv, limit, **more: ran.append((argv, more["input"])) or Result(2, "", ""))
    with pytest.raises(errors.WrongPassphrase) as error:
        dmcrypt.open_("/dev/rbd0", KEY, "name", True, 5)
    ((argv, given),) = ran
    assert given == KEY.passphrase and KEY.passphrase not in " ".join(argv) + str(error.value)
    assert argv[-3:] == ["--readonly", "/dev/rbd0", "name"]


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        ([], ""),
        (["rbd-nbd", "map", "rbd/a", "--exclusive"], ""),
        (["rbd-nbd", "map", "rbd/a", "--encryption-format", "luks1", "--encryption-passphrase-file", "/run/x"], "luks1"),
    ],
)
def test_rbd_nbd_tells_of_the_header_it_opened(argv, kind):
    assert device_nbd.argument_of(argv, "--encryption-format") == kind


@pytest.mark.parametrize(("opened", "declared"), [("", "luks2"), ("luks1", "luks2"), ("luks2", None)])
def test_a_device_that_shows_something_else_is_refused(opened, declared):
    want = device_plan.Desired("auto", False, True, [], False, Key(declared, ("a",), "secret") if declared else None)
    image = {"id": "abc", "features": [], "snapshots": [], "parent": None, "size": 8}
    mapping = Mapping(P, "/dev/loop3", "fuse", False, 9, "F", "abc", encryption=opened)
    (told,) = device_plan.obstacles(P, device_plan.Current(image, mapping), want, [])
    assert "header" in str(told) and "unmap it first" in str(told)
    same = mapping._replace(encryption=declared or "")
    assert device_plan.obstacles(P, device_plan.Current(image, same), want, []) == []


def declared(volumes_=None, clones=None):
    return {"volumes": {"a": {"size": "1G", "snapshots": {"s": {}}, **(volumes_ or {})}}, "clones": clones or {}}


OPEN = {"format": "luks2", "pillar": ["rbd", "volumes", "a", "encryption", "passphrase"]}


def test_the_pillar_declares_the_header_before_the_device():
    section = declared(
        {"encryption": {"passphrase": "It-is-secret"}, "mount": "/a", "allow_shrink": True}, {"c": {"parent": "a@s", "mount": "/c"}}
    )
    found = tree.layout(volumes.read(section, CHOSEN))
    assert "It-is-secret" not in str(found)
    assert found["encryption"] == [
        {
            "id": "rbd encryption rbd/a",
            "function": "rbd_encryption.formatted",
            "arguments": {"name": "rbd/a", "encryption": OPEN},
            "require": [{"rbd_image": "rbd image rbd/a"}],
        }
    ]
    assert [one["arguments"] for one in found["devices"]] == [
        {"name": name, "encryption": OPEN, "persist": False} for name in ("rbd/a", "rbd/c")
    ]
    assert found["devices"][0]["require"] == [{"rbd_encryption": "rbd encryption rbd/a"}]
    assert [one["arguments"]["persist"] for one in found["mounts"]] == [False, False]
    assert found["images"][0]["arguments"]["encryption"] == OPEN


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("It-is-secret", "encryption must be a mapping of format and passphrase"),
        (["It-is-secret"], "encryption must be a mapping"),
        ({"It-is-secret": 1}, "encryption must be a mapping"),
        ({}, "encryption needs one of passphrase and pillar"),
        ({"passphrase": "It-is-secret", "pillar": "a"}, "encryption needs one of passphrase and pillar"),
        ({"passphrase": {"It-is-secret": 1}}, "the passphrase is missing, or is no text"),
        ({"passphrase": "It-is-secret\n"}, "the passphrase must be one line"),
        ({"passphrase": "luks2", "format": "It-is-secret"}, "encryption: The encryption's format must be luks1 or luks2."),
        ({"pillar": 5}, "pillar must be text"),
    ],
)
def test_mistakes_are_told_without_the_passphrase(value, told):
    with pytest.raises(errors.InvalidPillar) as error:
        volumes.read(declared({"encryption": value}), CHOSEN)
    assert told in str(error.value) and "It-is-secret" not in str(error.value)


def test_nothing_encrypted_is_mapped_at_boot():
    for section in (
        declared({"encryption": {"pillar": "keys:a"}, "mount": "/a", "persist": True}),
        declared({"encryption": {"pillar": "keys:a"}}, {"c": {"parent": "a@s", "mount": "/c", "persist": True}}),
    ):
        with pytest.raises(errors.InvalidPillar, match="persist cannot be True with encryption"):
            volumes.read(section, CHOSEN)


@pytest.mark.parametrize("opened", ["", "luks1"])
def test_a_device_that_was_opened_otherwise_is_another_one(monkeypatch, opened):
    mapping = Mapping(P, "/dev/nbd0", "nbd", False, 9, "F", "abc", encryption="luks2")
    monkeypatch.setattr(device_find, "on_host", lambda: [mapping])
    assert device_find.is_there(mapping)
    monkeypatch.setattr(device_find, "on_host", lambda: [mapping._replace(encryption=opened)])
    assert not device_find.is_there(mapping)


class Cluster:
    """What librbd knows: data from byte ``first`` on, 4 MiB of it."""

    def __init__(self, first):
        self._end = first + 4 * M

    def call(self, operation, spec, image_id, start):
        assert operation == "image_blank"
        return {"first_used": start if start < self._end else None}


@pytest.mark.parametrize(
    ("header", "offset", "began", "snapshots", "first", "begun"),
    [
        (None, None, 0, [], 0, True),
        (None, None, 0, [], 16 * M, False),
        (None, None, -700, [], 0, False),
        # A rollback leaves the mark, and the snapshot's data may be anybody's.
        (None, None, 0, [{"type": "user"}], 0, False),
        # A clock that was ahead.
        (None, None, 700, [], 0, False),
        ("luks2", 16 * M, -700, [{"type": "user"}], 0, True),
        # A header whose data begins before that of the format that was cut off.
        ("luks1", 4 * M, 0, [], 8 * M, False),
        ("luks1", 4 * M, 0, [], 0, True),
    ],
)
def test_what_a_cut_off_format_left(header, offset, began, snapshots, first, begun):
    now = int(time.time())
    there = facts(format=header, offset=offset)
    image = {**there, "id": "abc", "modified": now, "snapshots": snapshots}
    mark = luks.mark_of({**image, "metadata": {luks.MARK: luks.mark_text("abc", "luks2", "", now + began)}})
    assert encryption._is_begun(Cluster(first), P, image, mark, there, None) is begun
