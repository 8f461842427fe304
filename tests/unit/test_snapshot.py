"""Snapshots: names, and what is planned from which facts."""

import pytest
from image_facts import child, image, snapshot
from saltrbd import snapshot as snapshots
from saltrbd import spec as specs
from saltrbd.errors import InvalidArgument, InvalidSpec, RbdError

A, B = specs.parse("p/a"), specs.parse("p/b")
AS, BS = A.at("s"), B.at("s")


@pytest.mark.parametrize(
    ("name", "images", "names"),
    [
        ("p/a@s", None, ["p/a@s"]),
        ("a@s", None, ["dflt/n/a@s"]),
        ("s", ["p/b", "p/a", "p/b"], ["p/a@s", "p/b@s"]),
        ("s", ("a",), ["dflt/n/a@s"]),
    ],
)
def test_named(name, images, names):
    assert [str(spec) for spec in snapshots.named(name, images, "dflt", "n")] == names


@pytest.mark.parametrize(
    ("name", "images", "kind", "words"),
    [
        ("p/a", None, InvalidSpec, "names no snapshot"),
        (5, None, InvalidSpec, "must be named as text"),
        ("p/a@s", ["p/a"], InvalidSpec, "the name is a snapshot's name alone"),
        ("p/a", ["p/a"], InvalidSpec, "the name is a snapshot's name alone"),
        ("s", ["p/a@t"], InvalidSpec, "names a snapshot, where an image is wanted"),
        ("s", [], InvalidArgument, "list of images for the snapshot s is empty"),
        ("s", "p/a", InvalidArgument, "must be a list of specs, not 'p/a'"),
        ("s", 5, InvalidArgument, "must be a list of specs, not 5"),
        ("s", [5], InvalidSpec, "must be named as text"),
        ("s", [["p/a"]], InvalidSpec, "must be named as text"),
        (5, ["p/a"], InvalidSpec, "must be text, not 5"),
        ("", ["p/a"], InvalidSpec, "is empty"),
    ],
)
def test_misnamed(name, images, kind, words):
    with pytest.raises(RbdError) as error:
        snapshots.named(name, images, "dflt", "n")
    assert type(error.value) is kind
    assert words in str(error.value)


@pytest.mark.parametrize("value", ["auto", "filesystem", "crash"])
def test_consistency(value):
    assert snapshots.check_consistency(value) == value


@pytest.mark.parametrize("value", [None, "", "Auto", True, [], {}])
def test_no_consistency(value):
    with pytest.raises(InvalidArgument, match="must be one of auto, filesystem, crash"):
        snapshots.check_consistency(value)


def test_find_sees_only_the_users_own():
    facts = image(snapshots=[snapshot("s", type="trash"), snapshot("t")])
    assert snapshots.find(facts, "s") is None
    assert snapshots.find(facts, "t")["name"] == "t"


def test_find_sees_what_is_unfinished_by_its_own_name_alone():
    facts = image(snapshots=[snapshot("saltrbd_begun.1f", type=snapshots.UNFINISHED)])
    assert snapshots.find(facts, "saltrbd_begun.1f") and not snapshots.find(facts, "s")


MADE = {"snapshot": {"old": None, "new": "present"}}
MADE_PROTECTED = dict(MADE, protected={"old": None, "new": True})


def create(*names, protect=False, consistency="auto"):
    return ("rbd_snapshot.create", {"name": list(names), "protect": protect, "consistency": consistency})


@pytest.mark.parametrize(
    ("found", "protect", "steps", "changes"),
    [
        # Nothing to do.
        ({A: image(snapshots=[snapshot("s")])}, False, [], {}),
        ({A: image(snapshots=[snapshot("s", protected=True)])}, False, [], {}),
        ({A: image(snapshots=[snapshot("s", protected=True)])}, True, [], {}),
        # New ones.
        ({A: image()}, False, [create("p/a@s")], {"p/a@s": MADE}),
        ({A: image(), B: image()}, True, [create("p/a@s", "p/b@s", protect=True)], {"p/a@s": MADE_PROTECTED, "p/b@s": MADE_PROTECTED}),
        ({A: image(snapshots=[snapshot("s", type="trash")])}, False, [create("p/a@s")], {"p/a@s": MADE}),
        # One that is there and not protected; the other is made.
        (
            {A: image(snapshots=[snapshot("s")]), B: image()},
            True,
            [create("p/b@s", protect=True), ("rbd_snapshot.protect", {"name": ["p/a@s"]})],
            {"p/a@s": {"protected": {"old": False, "new": True}}, "p/b@s": MADE_PROTECTED},
        ),
    ],
)
def test_plan_present(found, protect, steps, changes):
    plan = snapshots.plan_present([spec.at("s") for spec in found], found, protect)
    assert plan.refusals == []
    assert plan.steps == steps
    assert plan.changes == changes
    assert {key: facts["protected"] for key, facts in plan.planned.items()} == {("snapshot", name): protect for name in changes}


BEGUN, OLD = "saltrbd_begun.1f", 1700000000


@pytest.mark.parametrize(
    ("item", "age", "steps"),
    [
        ({}, 3599, []),
        ({}, 3600, [("rbd_snapshot.remove", {"name": ["p/a@" + BEGUN]})]),
        (
            {"protected": True},
            9999,
            [("rbd_snapshot.unprotect", {"name": ["p/a@" + BEGUN]}), ("rbd_snapshot.remove", {"name": ["p/a@" + BEGUN]})],
        ),
        ({"type": "user"}, 9999, []),
    ],
    ids=["somebody may be at work on it", "of a killed run", "protected already", "named like one"],
)
@pytest.mark.parametrize("there", [False, True])
def test_what_was_never_finished(item, age, steps, there):
    """It is not the snapshot, whatever else is there, and goes when it is old enough."""
    left = snapshot(BEGUN, **dict({"type": snapshots.UNFINISHED, "created": OLD}, **item))
    found = {A: image(snapshots=[left] + [snapshot("s")] * there)}
    plan = snapshots.plan_present([AS], found, now=OLD + age)
    assert plan.steps == steps + ([] if there else [create("p/a@s")])
    gone = {"p/a@" + BEGUN: {"snapshot": {"old": "present", "new": None}}} if steps else {}
    assert plan.changes == dict(gone, **({} if there else {"p/a@s": MADE}))
    assert [key for key, facts in plan.planned.items() if facts is None] == [("snapshot", name) for name in gone]


@pytest.mark.parametrize(
    ("found", "notes"),
    [
        ({A: image(), B: image()}, []),
        ({A: image(snapshots=[snapshot("s")]), B: image(snapshots=[snapshot("s")])}, []),
        ({A: image(snapshots=[snapshot("s")]), B: image()}, ["Of another moment, because they were there before: p/a@s."]),
    ],
    ids=["none is there", "all are", "one is"],
)
@pytest.mark.parametrize("consistency", ["auto", "filesystem", "crash"])
def test_a_set_of_two_moments_is_told(found, notes, consistency):
    assert snapshots.plan_present([AS, BS], found, consistency=consistency).notes == notes


def test_many_of_another_moment():
    found = {specs.parse("p/{}".format(number)): image(snapshots=[snapshot("s")]) for number in range(10, 20)}
    found[B] = image()
    (note,) = snapshots.plan_present([spec.at("s") for spec in found], found).notes
    assert note.endswith("p/16@s, p/17@s and 2 more.")


class Lost:
    """What became of a snapshot whose making had no answer."""

    def __init__(self, unknown, *names):
        self.error = InvalidArgument("")
        self.error.facts = {"unknown": unknown, "seen": image(snapshots=[snapshot(name) for name in names])}


@pytest.mark.parametrize(
    ("lost", "begun", "may_be"),
    [
        (Lost(False, "s"), False, False),
        (Lost(True, "s"), False, True),
        (Lost(True, "t"), False, False),
        # The client that has the image's lock may make it later.
        (Lost(True, "t"), True, True),
        (Lost(False, "t"), True, False),
    ],
)
def test_what_may_be_left(lost, begun, may_be):
    assert snapshots.may_be(AS, lost, begun) == may_be


def test_a_thaw_that_came_too_early():
    assert snapshots.too_early(15.04) == "its filesystem was thawed after 15 s, before the snapshot was known to be on the image"
    assert snapshots.too_early(None) == "its filesystem was thawed, before the snapshot was known to be on the image"


@pytest.mark.parametrize(
    ("found", "protect", "consistency", "targets", "words"),
    [
        ({A: None}, False, "auto", {}, ["p/a does not exist, so it can have no snapshot s. Declare rbd_image.present."]),
        ({A: None, B: None}, False, "auto", {}, ["p/a does not exist", "p/b does not exist"]),
        ({A: image(features=[])}, True, "auto", {}, ["p/a@s cannot be protected, because its image lacks the feature layering"]),
        (
            {A: image(features=[], snapshots=[snapshot("s")])},
            True,
            "auto",
            {},
            ["p/a@s cannot be protected, because its image lacks the feature layering"],
        ),
        ({A: image()}, False, "filesystem", {A: "it is not mounted"}, ["p/a@s cannot be made filesystem-consistent: it is not mounted"]),
    ],
)
def test_plan_present_refused(found, protect, consistency, targets, words):
    plan = snapshots.plan_present([spec.at("s") for spec in found], found, protect, consistency, targets)
    assert plan.steps == []
    assert plan.planned == {}
    assert len(plan.refusals) == len(words)
    assert all(word in sentence for word, sentence in zip(words, plan.refusals))
    # What would change is kept: after an action that failed, it tells what is left.
    assert set(plan.changes) == {str(spec.at("s")) for spec in found}


@pytest.mark.parametrize("consistency", ["auto", "crash"])
def test_what_cannot_be_frozen_matters_only_where_it_must_be(consistency):
    assert snapshots.plan_present([AS], {A: image()}, False, consistency, {A: "not mounted"}).refusals == []


def test_a_snapshot_that_is_there_is_not_made_again_to_be_consistent():
    plan = snapshots.plan_present([AS], {A: image(snapshots=[snapshot("s")])}, False, "filesystem", {A: "not mounted"})
    assert (plan.steps, plan.refusals) == ([], [])


@pytest.mark.parametrize(
    ("facts", "steps"),
    [
        (None, []),
        (image(), []),
        (image(snapshots=[snapshot("s")]), []),
        (image(snapshots=[snapshot("s", protected=True)]), [("rbd_snapshot.unprotect", {"name": ["p/a@s"]})]),
        (
            image(snapshots=[snapshot("s", protected=True, children=[child("c", clone_format=2)])]),
            [("rbd_snapshot.unprotect", {"name": ["p/a@s"]})],
        ),
    ],
)
def test_plan_unprotected(facts, steps):
    plan = snapshots.plan_unprotected([AS], {A: facts})
    assert (plan.steps, plan.refusals) == (steps, [])
    assert plan.changes == ({"p/a@s": {"protected": {"old": True, "new": False}}} if steps else {})
    assert plan.planned == ({("snapshot", "p/a@s"): {"protected": False}} if steps else {})


def test_plan_unprotected_refused():
    children = [child("one", clone_format=1), child("two", "q", "n", clone_format=1, trash=True), child("three", clone_format=2)]
    found = {A: image(snapshots=[snapshot("s", protected=True, children=children)]), B: image(snapshots=[snapshot("s", protected=True)])}
    plan = snapshots.plan_unprotected([AS, BS], found)
    assert plan.steps == []
    assert plan.refusals == ["p/a@s stays protected, because these clones of format 1 hang on it: p/one, q/n/two (in the trash, id c-two)."]


REMOVED = {"snapshot": {"old": "present", "new": None}}


@pytest.mark.parametrize(
    ("facts", "with_clones", "planned"),
    [
        (None, False, "nothing"),
        (image(), False, "nothing"),
        (image(snapshots=[snapshot("s", type="trash")]), False, "nothing"),
        (image(snapshots=[snapshot("s")]), False, None),
        (image(snapshots=[snapshot("s", children=[child("c")])]), True, {"type": "trash", "original_name": "s"}),
    ],
)
def test_plan_absent(facts, with_clones, planned):
    plan = snapshots.plan_absent([AS], {A: facts}, with_clones)
    assert plan.refusals == []
    if planned == "nothing":
        assert (plan.steps, plan.changes, plan.planned) == ([], {}, {})
        return
    assert plan.steps == [("rbd_snapshot.remove", {"name": ["p/a@s"], "with_clones": with_clones})]
    assert plan.changes == {"p/a@s": REMOVED}
    assert plan.planned == {("snapshot", "p/a@s"): planned}


@pytest.mark.parametrize(
    ("facts", "with_clones", "words"),
    [
        (snapshot("s", protected=True), False, ["p/a@s is protected. Declare rbd_snapshot.unprotected first."]),
        (snapshot("s", protected=True), True, ["p/a@s is protected. Declare rbd_snapshot.unprotected first."]),
        (snapshot("s", children=[child("c"), child("d", trash=True)]), False, ["hang on it: p/c, p/d (in the trash, id c-d)."]),
        (snapshot("s", protected=True, children=[child("c")]), False, ["is protected", "hang on it: p/c"]),
    ],
)
def test_plan_absent_refused(facts, with_clones, words):
    plan = snapshots.plan_absent([AS], {A: image(snapshots=[facts])}, with_clones)
    assert plan.steps == []
    assert len(plan.refusals) == len(words)
    assert all(word in sentence for word, sentence in zip(words, plan.refusals))
    assert plan.changes == {"p/a@s": REMOVED}


def test_describe():
    made = {
        "p/a@s": {"consistency": "filesystem", "seconds": 0.125},
        "p/b@s": {"consistency": "crash", "seconds": None},
    }
    assert snapshots.describe(made) == "Filesystem-consistent: p/a@s (frozen for 0.12 s). Crash-consistent: p/b@s."
    many = {"p/{}@s".format(number): {"consistency": "crash", "seconds": None} for number in range(20)}
    assert snapshots.describe(many) == "Crash-consistent: 20 snapshots."
    assert snapshots.describe({}) == ""
