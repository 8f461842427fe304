"""Images that go, to the trash or at once, and what comes back from the trash: what is planned from which facts."""

import pytest
from image_facts import CLUSTER, DEFAULT_FEATURES, NAME, G, P, child, image, snapshot, want
from saltrbd import image as images
from saltrbd import users
from saltrbd.errors import InvalidArgument

WATCHER = {"address": "192.0.2.1:0/77", "client": 4711, "cookie": 1}
LOCK = {"client": "client.5", "cookie": "mine", "address": "192.0.2.2:0/1"}


@pytest.mark.parametrize(
    ("current", "trash", "steps"),
    [
        (None, True, []),
        (None, False, []),
        (image(), True, [("rbd_image.trash", {"name": "p/i", "image_id": "10ab"})]),
        (image(), False, [("rbd_image.remove", {"name": "p/i", "image_id": "10ab"})]),
        (image(snapshots=[snapshot("s", protected=True)], group="g"), True, [("rbd_image.trash", {"name": "p/i", "image_id": "10ab"})]),
    ],
)
def test_plan_absent(current, trash, steps):
    plan = images.plan_absent(P, current, trash)
    assert (plan.steps, plan.refusals) == (steps, [])
    assert bool(plan.changes) == bool(steps)
    if steps:
        assert plan.planned[NAME] is None
        assert plan.changes == {"p/i": {"image": {"old": "present", "new": "in the trash" if trash else None}}}
        assert (("trash", "p/i") in plan.planned) == trash


def test_a_delay_is_part_of_the_change():
    plan = images.plan_absent(P, image(), True, 604800)
    assert plan.steps == [("rbd_image.trash", {"name": "p/i", "image_id": "10ab", "delay": 604800})]
    assert plan.changes == {"p/i": {"image": {"old": "present", "new": "in the trash"}, "kept_for": {"old": None, "new": "1w"}}}
    assert plan.planned["trash", "p/i"]["delay"] == 604800


@pytest.mark.parametrize(("value", "trash", "seconds"), [(None, True, 0), (None, False, 0), ("1h", True, 3600), (0, True, 0)])
def test_delays(value, trash, seconds):
    assert images.check_delay(value, trash) == seconds


@pytest.mark.parametrize(("value", "trash"), [("soon", True), ("1h", False), (0, False)])
def test_no_delays(value, trash):
    with pytest.raises(InvalidArgument):
        images.check_delay(value, trash)


ALL_THE_REST = image(
    watchers=[WATCHER],
    locks=[LOCK],
    group="g",
    features=[*DEFAULT_FEATURES, "migrating"],
    snapshots=[
        snapshot("s", protected=True, children=[child("one"), child("two", "q", "n"), child("three", trash=True)]),
        snapshot("white space"),
        snapshot("f00", type="trash", original_name="old", children=[child("four")]),
        snapshot(".group.2_a_b", type="group"),
        snapshot("saltrbd_begun.1f", type="unfinished"),
    ],
)


def test_all_that_is_in_the_way_of_the_trash():
    told = images.plan_absent(P, ALL_THE_REST).refusals
    assert told == [
        "p/i is not removed. In the way are: its migration; the clone p/four; the clone p/one; "
        "the clone p/three (in the trash, id c-three); the clone q/n/two; "
        "the lock 'mine' held by client.5 at 192.0.2.2:0/1; the user 192.0.2.1:0/77 (client.4711). " + users.DEAD
    ]


def test_the_lock_of_another_host_is_told_how_to_take():
    lock = {"client": "the host db1", "cookie": "saltrbd", "address": "192.0.2.9:0/9", "host": "db1", "elsewhere": True}
    held = "p/i is not removed. In the way are: the lock 'saltrbd' held by the host db1 at 192.0.2.9:0/9."
    assert images.plan_absent(P, image(locks=[lock])).refusals == [f"{held} {users.FENCED.format('db1')}"]
    assert images.plan_absent(P, image(locks=[dict(lock, elsewhere=False)])).refusals == [held]


def test_all_that_is_in_the_way_of_removal():
    plan = images.plan_absent(P, ALL_THE_REST, trash=False)
    assert plan.steps == []
    told = plan.refusals[0]
    for words in (
        "the protected snapshot p/i@s",
        "the snapshot p/i@white space",
        "the snapshot p/i@old in Ceph's trash for snapshots",
        "the snapshot .group.2_a_b of the type group",
        "the unfinished snapshot p/i@saltrbd_begun.1f",
        "the group g of images",
        "the clone p/four",
        "the user 192.0.2.1:0/77",
    ):
        assert words in told


def test_a_refused_removal_changed_nothing():
    # A state whose action failed compares what is left to do with what was: see converge.
    assert images.plan_absent(P, ALL_THE_REST).changes == images.plan_absent(P, image()).changes


# The trash.

ENTRY = {"id": "77", "name": "i", "facts": image(id="77")}
OTHER = {"id": "88", "name": "i", "facts": image(id="88", size=2 * G)}


@pytest.mark.parametrize(
    ("restore", "trashed", "steps"),
    [
        (None, [], ["rbd_image.create"]),
        (True, [], ["rbd_image.create"]),
        (False, [ENTRY], ["rbd_image.create"]),
        (True, [ENTRY], ["rbd_image.restore"]),
        ("77", [ENTRY, OTHER], ["rbd_image.restore"]),
        ("88", [ENTRY, OTHER], None),  # it has 2G: shrinking is refused before it is restored
    ],
)
def test_restore_from_trash(restore, trashed, steps):
    plan = images.plan_present(P, None, want(size="1G"), False, restore, trashed, CLUSTER)
    assert [function for function, _ in plan.steps] == (steps or [])
    assert bool(plan.refusals) == (steps is None)
    if steps == ["rbd_image.restore"]:
        assert plan.steps[0][1] == {"name": "p/i", "image_id": "77"}
        assert plan.planned == {NAME: ENTRY["facts"], ("trash", "p/i"): None}
        assert plan.changes == {"p/i": {"image": {"old": "in the trash", "new": "present"}}}


def test_restored_and_mended():
    plan = images.plan_present(P, None, want(size="2G"), False, True, [ENTRY], CLUSTER)
    assert [function for function, _ in plan.steps] == ["rbd_image.restore", "rbd_image.resize"]
    assert plan.changes["p/i"]["size"] == {"old": "1G", "new": "2G"}
    assert plan.planned[NAME]["size"] == 2 * G


@pytest.mark.parametrize(
    ("restore", "trashed", "words"),
    [
        (None, [ENTRY], ["lies in the trash (id 77)", "restore_from_trash: True", "restore_from_trash: False"]),
        (True, [ENTRY, OTHER], ["2 images of that name lie in the trash (id 77, id 88)", "restore_from_trash: ID"]),
        ("99", [ENTRY], ["no image of that name with the id '99' lies in the trash (id 77)"]),
        ("99", [], ["no image of that name with the id '99' lies in the trash (none)"]),
        ("{x}", [ENTRY], ["'{x}'"]),
    ],
)
def test_restore_refused(restore, trashed, words):
    plan = images.plan_present(P, None, want(size="1G"), False, restore, trashed, CLUSTER)
    assert plan.steps == []
    assert all(word in plan.refusals[0] for word in words)
