"""What a review of the safety rules found, as tables."""

import types

import pytest
from saltrbd import device_plan, filesystem, image, owner, settings, snapshot
from saltrbd import spec as specs

SPEC = specs.parse("rbd/a")
MARK = {"fs_type": "ext4", "uuid": "6df182a0-b2b2-45f6-bf7a-978f48d9af32", "time": 1}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"mark": None}, False),
        ({"mark": MARK}, True),
        ({"mark": MARK, "late": True}, False),  # somebody uses the device without a filesystem
        ({"mark": MARK, "used": True}, False),
        ({"mark": MARK, "late": True, "signature": "ext4", "fs_type": "ext4", "uuid": MARK["uuid"], "state": "damaged"}, True),
        ({"mark": MARK, "signature": "ext4", "fs_type": "ext4", "uuid": "another", "state": "damaged"}, False),
    ],
)
def test_what_a_killed_mkfs_left(given, expected):
    assert filesystem.remnant({**filesystem.nothing(1 << 30), **given}) is expected


def facts_with_devices():
    """An image that is mapped read-only here, and a snapshot of it too."""
    facts = {
        "id": "1",
        "snapshots": [{"id": 4, "name": "s", "type": "user", "protected": False, "children": []}],
        "watchers": [],
        "locks": [],
    }
    facts.update(group=None, features=[])
    mapping = types.SimpleNamespace(image_id="1", snapshot_id=None, device="/dev/loop1", read_only=True, spec=SPEC)
    of_snapshot = types.SimpleNamespace(**{**vars(mapping), "snapshot_id": 4, "device": "/dev/loop2", "spec": SPEC.at("s")})
    foreign = types.SimpleNamespace(**{**vars(mapping), "image_id": "2", "device": "/dev/loop3"})
    owner.annotate_devices(facts, [mapping, of_snapshot, foreign])
    return facts


def test_read_only_devices_stand_in_the_way():
    facts = facts_with_devices()
    (refusal,) = image.plan_absent(SPEC, facts).refusals
    assert "/dev/loop1 of rbd/a on this host" in refusal and "/dev/loop2 of rbd/a@s" in refusal and "loop3" not in refusal
    (refusal,) = snapshot.plan_absent([SPEC.at("s")], {SPEC: facts}).refusals
    assert "/dev/loop2 of rbd/a@s" in refusal


@pytest.mark.parametrize(
    ("held", "served", "words"),
    [
        (True, "", "mapped exclusively by the host two (address 192.0.2.2:0/3); unmap it there first"),
        (True, "device", "not with exclusive: False as declared"),
        (False, "", None),
    ],
)
def test_not_exclusive_meets_the_lock_of_another_host(monkeypatch, held, served, words):
    holder = owner.Holder("rbd_header.1", "client.5", "c", "192.0.2.2:0/1", {"host": "two", "address": "192.0.2.2:0/3"})
    monkeypatch.setattr(device_plan.owner, "holder", lambda *_: holder if held else None)  # no cluster is asked
    want = device_plan.desired(settings.load({}, {}), SPEC, exclusive=False)
    verdict = device_plan._verdict(None, SPEC, want, {"id": "1"}, served)
    assert verdict is None if words is None else words in verdict.refusal
