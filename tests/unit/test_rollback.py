"""Going back to a snapshot: what is planned from which facts."""

import pytest
from image_facts import DEFAULT_FEATURES, G, M, image, snapshot
from saltrbd import rollback, users
from saltrbd import spec as specs

A, B = specs.parse("p/a"), specs.parse("p/b")
AS, BS = A.at("s"), B.at("s")
SAME = {"size": G, "snapshot_size": G, "differs_at": None, "compared": 4 * M}
OTHER = dict(SAME, differs_at=4096)
THERE = image(snapshots=[snapshot("s")])
CONTENT = {"content": {"old": "changed since", "new": "as at p/a@s"}}
USED = "p/a is not rolled back to s. In the way are: {}."
HELD = {"client": "the host db1", "cookie": "saltrbd", "address": "192.0.2.9:0/9", "host": "db1"}
LOSES = (
    "p/a has changed since p/a@s, first at byte 4096. Rolling it back loses what was written since: declare discard_changes: True for that."
)


def planned(facts, compared, discard=True):
    return rollback.plan([AS], {A: facts}, {AS: compared}, discard)


@pytest.mark.parametrize("discard", [True, False])
@pytest.mark.parametrize("compared", [SAME, None])
def test_nothing_to_do(compared, discard):
    """The image is as it was, or the same dry run would make the snapshot; then nobody minds who uses it."""
    facts = dict(THERE, watchers=[{"address": "192.0.2.1:0/5", "client": 7}])
    plan = planned(facts, compared, discard)
    assert (plan.steps, plan.changes, plan.refusals, plan.planned) == ([], {}, [], {})


def test_rolled_back():
    plan = planned(THERE, OTHER)
    assert plan.steps == [("rbd_snapshot.rollback", {"name": ["p/a@s"]})]
    assert plan.changes == {"p/a": CONTENT}
    assert plan.planned == {("image", "p/a"): THERE}
    assert plan.refusals == []


def test_another_size():
    plan = planned(dict(THERE, size=2 * G), dict(OTHER, size=2 * G))
    assert plan.changes == {"p/a": dict(CONTENT, size={"old": "2G", "new": "1G"})}
    assert plan.planned["image", "p/a"]["size"] == G


@pytest.mark.parametrize(
    ("facts", "discard", "refusals"),
    [
        (None, True, ["p/a does not exist, so it cannot be rolled back to s."]),
        (image(), True, ["p/a@s does not exist, so its image cannot be rolled back to it."]),
        (image(snapshots=[snapshot("s", type="trash")]), True, ["p/a@s does not exist, so its image cannot be rolled back to it."]),
        (THERE, False, [LOSES]),
        (
            dict(THERE, watchers=[{"address": "192.0.2.1:0/5", "client": 7}]),
            True,
            [USED.format("the user 192.0.2.1:0/5 (client.7)") + " " + users.DEAD],
        ),
        (
            dict(THERE, locks=[dict(HELD, elsewhere=True)]),
            True,
            [USED.format("the lock 'saltrbd' held by the host db1 at 192.0.2.9:0/9") + " " + users.FENCED.format("db1")],
        ),
        (
            dict(THERE, locks=[dict(HELD, elsewhere=False)]),
            True,
            [USED.format("the lock 'saltrbd' held by the host db1 at 192.0.2.9:0/9")],
        ),
        (
            dict(THERE, locks=[{"client": "client.4", "cookie": "backup", "address": "192.0.2.1:0/5"}]),
            False,
            [LOSES, USED.format("the lock 'backup' held by client.4 at 192.0.2.1:0/5")],
        ),
        (dict(THERE, devices=["the read-only device /dev/x"]), True, [USED.format("the read-only device /dev/x")]),
        (dict(THERE, features=[*DEFAULT_FEATURES, "migrating"]), True, [USED.format("its migration")]),
        (
            dict(THERE, features=[*DEFAULT_FEATURES, "non-primary"]),
            True,
            [USED.format("its mirroring: the primary image lies in another cluster")],
        ),
    ],
)
def test_refusals(facts, discard, refusals):
    plan = planned(facts, OTHER, discard)
    assert plan.refusals == refusals
    assert (plan.steps, plan.planned) == ([], {})


def test_one_of_many_refuses_all():
    facts = {A: THERE, B: dict(THERE, devices=["the read-only device /dev/x"])}
    plan = rollback.plan([AS, BS], facts, {AS: OTHER, BS: OTHER}, True)
    assert plan.refusals == ["p/b is not rolled back to s. In the way are: the read-only device /dev/x."]
    assert plan.steps == []
    assert set(plan.changes) == {"p/a", "p/b"}


def test_many_at_once():
    plan = rollback.plan([AS, BS], {A: THERE, B: THERE}, {AS: OTHER, BS: dict(OTHER, differs_at=0)}, True)
    assert plan.steps == [("rbd_snapshot.rollback", {"name": ["p/a@s", "p/b@s"]})]
