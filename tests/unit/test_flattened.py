"""Flattening: what is planned, what a dry run counts afterwards, and what a clone stands on."""

import pytest
from image_facts import DEFAULT_FEATURES, child, image, parent, snapshot
from saltrbd import clone, converge, facts, lineage
from saltrbd import spec as specs

C = specs.parse("p/c")
CLONE = image(id="c-c", parent=parent(), clone_format=2)
SHALLOW = ["exclusive-lock", "layering"]


@pytest.mark.parametrize("watchers", [[], [{"address": "192.0.2.1:0/5", "client": 7}]])
def test_flattened(watchers):
    plan = clone.plan_flattened(C, dict(CLONE, watchers=watchers))
    assert plan.steps == [("rbd_clone.flatten", {"name": "p/c"})]
    assert plan.changes == {"p/c": {"parent": {"old": "p/a@s", "new": None}}}
    assert plan.planned == {("image", "p/c"): dict(CLONE, parent=None, clone_format=None, watchers=watchers)}
    assert (plan.refusals, plan.notes) == ([], [])


def test_nothing_to_do():
    plan = clone.plan_flattened(C, image(features=[*DEFAULT_FEATURES, "migrating"]))
    assert (plan.steps, plan.changes, plan.refusals) == ([], {}, [])


@pytest.mark.parametrize(
    ("current", "words"),
    [
        (None, "p/c does not exist, so it cannot be flattened."),
        (
            dict(CLONE, locks=[{"client": "the host n1", "cookie": "saltrbd", "address": "192.0.2.1:0/5", "driver": "krbd"}]),
            "p/c is not flattened. In the way are: the host n1 has it mapped by krbd, exclusively.",
        ),
        (dict(CLONE, features=[*DEFAULT_FEATURES, "migrating"]), "p/c is not flattened. In the way are: its migration."),
        (
            dict(CLONE, features=[*DEFAULT_FEATURES, "non-primary"]),
            "p/c is not flattened. In the way are: its mirroring: the primary image lies in another cluster.",
        ),
    ],
)
def test_refusals(current, words):
    plan = clone.plan_flattened(C, current)
    assert plan.refusals == [words]
    assert plan.steps == []


@pytest.mark.parametrize("driver", ["nbd", "fuse", None])
def test_a_client_of_librbd_carries_it_out(driver):
    lock = {"client": "the host n1", "cookie": "saltrbd", "address": "192.0.2.1:0/5", "driver": driver}
    assert clone.plan_flattened(C, dict(CLONE, locks=[lock])).refusals == []


@pytest.mark.parametrize(
    ("features", "snapshots", "kept"),
    [
        (DEFAULT_FEATURES, ["x"], False),
        (SHALLOW, [], False),
        (SHALLOW, ["x", "y"], True),
    ],
)
def test_what_snapshots_keep(features, snapshots, kept):
    current = dict(CLONE, features=features, snapshots=[snapshot(name) for name in snapshots])
    plan = clone.plan_flattened(C, current)
    told = "Its snapshots (x, y) go on standing on p/a@s, because p/c lacks the feature deep-flatten."
    assert plan.notes == ([told] if kept else [])
    # So the parent's snapshot has that clone still, or no more.
    known = converge.Known()
    known.take(plan.planned)
    above = image(snapshots=[snapshot("s", children=[child("c"), child("d")])])
    seen = facts.images(lambda names, **more: {"p/a": above}, known, [specs.parse("p/a")])[specs.parse("p/a")]
    assert [item["image"] for item in seen["snapshots"][0]["children"]] == (["c", "d"] if kept else ["d"])


# What a clone would stand on. On the cluster: c2 stands on c1@s, that on a@s.

UP = {"p/c2@s": [dict(parent(image_name="c1", id="c1"), image_trash=False), dict(parent(id="a"), image_trash=False)]}
UP["p/c1@s"] = UP["p/c2@s"][1:]
UP["p/a@s"] = []


def above(source, **planned):
    def parents(name, image_id):
        return UP[name]

    known = converge.Known()
    known.take({("image", f"p/{name}"): entry for name, entry in planned.items() if not name.endswith("_s")})
    known.take({("snapshot", f"p/{name[:-2]}@s"): entry for name, entry in planned.items() if name.endswith("_s")})
    return lineage.above(parents, known, specs.parse(source))


@pytest.mark.parametrize(
    ("source", "planned", "found"),
    [
        ("p/a@s", {}, ["p/a@s"]),
        ("p/c2@s", {}, ["p/c2@s", "p/c1@s", "p/a@s"]),
        # An image and a clone that the same dry run would make.
        ("p/new@s", {"new": image(id=None)}, ["p/new@s"]),
        ("p/new@s", {"new": image(id=None, parent=parent(image_name="c1", id=None))}, ["p/new@s", "p/c1@s", "p/a@s"]),
        # One that it would only change.
        ("p/c1@s", {"c1": image(id="c1", parent=parent())}, ["p/c1@s", "p/a@s"]),
        # Flattened: itself, or one above.
        ("p/c2@s", {"c2": image(id="c2")}, ["p/c2@s"]),
        ("p/c2@s", {"c1": image(id="c1")}, ["p/c2@s", "p/c1@s"]),
        ("p/c2@s", {"c1": image(id="another")}, ["p/c2@s", "p/c1@s", "p/a@s"]),
        # Without deep-flatten a snapshot keeps its parent, but for one that is made afterwards.
        ("p/c1@s", {"c1": image(id="c1", features=SHALLOW, snapshots=[snapshot("s")])}, ["p/c1@s", "p/a@s"]),
        ("p/c2@s", {"c1": image(id="c1", features=SHALLOW, snapshots=[snapshot("s")])}, ["p/c2@s", "p/c1@s", "p/a@s"]),
        ("p/c1@s", {"c1": image(id="c1", features=SHALLOW, snapshots=[snapshot("x")]), "c1_s": {"id": None}}, ["p/c1@s"]),
    ],
)
def test_above(source, planned, found):
    assert above(source, **planned) == found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"image_trash": True, "trash": False}, "p/a@s (the image is in the trash, id 10ab)"),
        ({"image_trash": False, "trash": True}, "p/a@s (the snapshot is in Ceph's trash)"),
        ({"image_trash": True, "trash": True}, "p/a@s (the image is in the trash, id 10ab; the snapshot is in Ceph's trash)"),
    ],
)
def test_where_parents_lie(more, words):
    found = lineage.above(lambda name, image_id: [dict(parent(), **more)], converge.Known(), specs.parse("p/x@s"))
    assert found == ["p/x@s", words]
