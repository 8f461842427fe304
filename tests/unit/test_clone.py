"""Clones: their format, and what is planned from which facts."""

import pytest
from image_facts import DEFAULT_FEATURES, G, M, image, parent, snapshot
from saltrbd import clone as clones
from saltrbd import image as images
from saltrbd import spec as specs
from saltrbd.errors import InvalidArgument

C = specs.parse("p/c")
AS = specs.parse("p/a@s")
LUMINOUS = {"require_min_compat_client": "luminous"}
MIMIC = {"require_min_compat_client": "mimic"}


def want(**declared):
    names = {"size": "image_size", "features": "image_features"}
    return images.desired(**{names.get(key, key): value for key, value in declared.items()})


@pytest.mark.parametrize(("value", "number"), [("auto", "auto"), (None, "auto"), (1, 1), (2, 2), ("1", 1), ("2", 2)])
def test_format(value, number):
    assert clones.check_format(value) == number


@pytest.mark.parametrize("value", [0, 3, True, False, "", "two", 1.5, [], {}, [1]])
def test_no_format(value):
    with pytest.raises(InvalidArgument, match="clone_format must be auto, 1 or 2"):
        clones.check_format(value)


@pytest.mark.parametrize(
    ("declared", "release", "number"),
    [
        ("auto", "jewel", 1),
        ("auto", "luminous", 1),
        ("auto", "mimic", 2),
        ("auto", "quincy", 2),
        ("auto", "tentacle", 2),
        (1, "quincy", 1),
        (2, "jewel", 2),
    ],
)
def test_choose_format(declared, release, number):
    assert clones.choose_format(declared, {"require_min_compat_client": release}) == number


def source(protected=True, **more):
    return image(snapshots=[snapshot("s", protected=protected)], **more)


@pytest.mark.parametrize(
    ("above", "declared", "declared_format", "cluster", "steps", "fields"),
    [
        (source(), {}, "auto", LUMINOUS, [("rbd_clone.create", {"clone_format": 1})], {"clone_format": 1, "size": "1G"}),
        (source(), {}, "auto", MIMIC, [("rbd_clone.create", {"clone_format": 2})], {"clone_format": 2, "size": "1G"}),
        (source(False), {}, 2, LUMINOUS, [("rbd_clone.create", {"clone_format": 2})], {"clone_format": 2, "size": "1G"}),
        (
            source(),
            {"size": "2G", "object_size": "1M", "data_pool": "ec", "metadata": {"a": "x"}, "features": ["layering"]},
            1,
            LUMINOUS,
            [
                (
                    "rbd_clone.create",
                    {
                        "clone_format": 1,
                        "object_size": M,
                        "data_pool": "ec",
                        "metadata": {"a": "x"},
                        "features": ["layering"],
                    },
                ),
                ("rbd_image.resize", {"size": 2 * G}),
            ],
            {"clone_format": 1, "size": "2G", "object_size": "1M", "data_pool": "ec", "metadata": {"a": "x"}, "features": ["layering"]},
        ),
        # A clone takes over its parent's metadata; what shall not be there is removed.
        (
            source(metadata={"a": "x"}),
            {"metadata": {"a": None}, "config": {"rbd_cache": None}},
            1,
            LUMINOUS,
            [
                ("rbd_clone.create", {"clone_format": 1}),
                ("rbd_image.set_metadata", {"put": {}, "remove": ["a"]}),
                ("rbd_image.set_config", {"put": {}, "remove": ["rbd_cache"]}),
            ],
            {"clone_format": 1, "size": "1G"},
        ),
    ],
)
def test_new_clone(above, declared, declared_format, cluster, steps, fields):
    plan = clones.plan_present(C, None, AS, above, want(**declared), declared_format, cluster)
    assert plan.refusals == []
    create = {"name": "p/c", "parent": "p/a@s", "metadata": {}, "config": {}}
    steps[0] = (steps[0][0], dict(create, **steps[0][1]))
    steps[1:] = [(function, dict(arguments, name="p/c")) for function, arguments in steps[1:]]
    assert plan.steps == steps
    wanted = dict({"image": "present", "parent": "p/a@s"}, **fields)
    assert plan.changes == {"p/c": {key: {"old": None, "new": value} for key, value in wanted.items()}}


@pytest.mark.parametrize(
    ("above", "declared", "expected"),
    [
        (source(), {}, {}),
        (
            source(metadata={"a": "x", "b": "y"}, config={"rbd_cache": "true"}),
            {"metadata": {"a": None, "c": 1}},
            {"metadata": {"b": "y", "c": "1"}, "config": {"rbd_cache": "true"}},
        ),
        (source(object_size=M, stripe_unit=65536, stripe_count=4), {}, {"object_size": M, "stripe_unit": 65536, "stripe_count": 4}),
        (
            source(object_size=M, stripe_unit=65536, stripe_count=4),
            {"object_size": "8M"},
            {"object_size": 8 * M, "stripe_unit": 65536, "stripe_count": 4},
        ),
        (source(), {"object_size": "1M"}, {"object_size": M, "stripe_unit": M}),  # the parent is not striped, so the clone is not
        (source(), {"stripe_unit": "64K", "stripe_count": 2}, {"stripe_unit": 65536, "stripe_count": 2}),
        (source(features=["layering", "operations", "striping", "data-pool"]), {}, {"features": ["layering"]}),
        (source(), {"size": "3G"}, {"size": 3 * G}),
    ],
)
def test_facts_for_later_states_of_a_dry_run(above, declared, expected):
    facts = clones.plan_present(C, None, AS, above, want(**declared), 1, LUMINOUS).planned["image", "p/c"]
    new = image(id=None, clone_format=1, parent=parent(id=None), features=sorted(DEFAULT_FEATURES))
    del new["created"]
    assert facts == dict(new, **expected)


@pytest.mark.parametrize(
    ("above", "declared", "declared_format", "cluster", "words"),
    [
        (None, {}, "auto", MIMIC, ["the parent's image p/a does not exist, and no earlier state makes it"]),
        (image(), {}, "auto", MIMIC, ["the parent p/a@s does not exist, and no earlier state makes it"]),
        (image(snapshots=[snapshot("s", type="trash")]), {}, 2, MIMIC, ["the parent p/a@s does not exist"]),
        (source(features=["exclusive-lock"]), {}, 2, MIMIC, ["the parent p/a@s lacks the feature layering"]),
        (source(False), {}, "auto", LUMINOUS, ["needs a protected parent. Declare rbd_snapshot.protected for p/a@s, or clone_format: 2"]),
        (source(False), {}, 1, MIMIC, ["needs a protected parent"]),
        # Another namespace is no matter for format 2: see test_across_pools_and_namespaces.
        (source(), {"size": "512M"}, 2, MIMIC, ["its parent p/a@s has 1G, and a clone cannot begin with less than that; 512M is declared"]),
        (source(), {"features": ["exclusive-lock"]}, 2, MIMIC, ["a clone needs the feature layering"]),
        (
            source(object_size=M, stripe_unit=65536, stripe_count=4),
            {"object_size": "16K"},
            2,
            MIMIC,
            ["the stripe_unit 64K does not divide the object_size 16K"],
        ),
        (source(), {"size": "1P"}, 2, MIMIC, ["too large for the feature object-map"]),
        (
            source(False),
            {"size": "512M", "features": []},
            1,
            MIMIC,
            ["protected parent", "cannot begin with less", "needs the feature layering"],
        ),
    ],
)
def test_new_clone_refused(above, declared, declared_format, cluster, words):
    plan = clones.plan_present(C, None, AS, above, want(**declared), declared_format, cluster)
    assert (plan.steps, plan.planned) == ([], {})
    assert len(plan.refusals) == len(words)
    assert all(word in sentence and "p/c" in sentence for word, sentence in zip(words, plan.refusals))


@pytest.mark.parametrize(("name", "number", "refusals"), [("q/c", 1, 0), ("p/n/c", 1, 1), ("q/n/c", 1, 1), ("q/n/c", 2, 0)])
def test_across_pools_and_namespaces(name, number, refusals):
    plan = clones.plan_present(specs.parse(name), None, AS, source(), want(), number, MIMIC)
    assert len(plan.refusals) == refusals
    assert all("lies in the namespace of its parent p/a@s. Declare clone_format: 2." in told for told in plan.refusals)


def test_not_of_itself():
    plan = clones.plan_present(specs.parse("p/a"), None, AS, source(), want(), 2, MIMIC)
    assert plan.refusals == ["p/a cannot be a clone of itself."]


CLONE = image(parent=parent(), clone_format=2)


@pytest.mark.parametrize(
    ("declared", "declared_format", "functions"),
    [
        ({}, "auto", []),
        ({"size": "1G", "features": DEFAULT_FEATURES}, 2, []),
        ({"size": "2G"}, "auto", ["rbd_image.resize"]),
        ({"metadata": {"a": 1}, "config": {"rbd_cache": False}}, "auto", ["rbd_image.set_metadata", "rbd_image.set_config"]),
    ],
)
def test_drift(declared, declared_format, functions):
    # The parent may have gone or lost its protection since: that is no drift of the clone.
    for above in (source(), source(False), None):
        plan = clones.plan_present(C, CLONE, AS, above, want(**declared), declared_format, None)
        assert plan.refusals == []
        assert [function for function, _ in plan.steps] == functions


@pytest.mark.parametrize(
    ("facts", "above", "declared", "declared_format", "words"),
    [
        (image(), source(), {}, "auto", "p/c exists and has no parent, where p/a@s is declared"),
        (image(parent=parent(image_name="b"), clone_format=2), source(), {}, "auto", "p/c is a clone of p/b@s, not of p/a@s as declared"),
        (image(parent=parent(pool="q"), clone_format=2), source(), {}, "auto", "p/c is a clone of q/a@s, not of p/a@s"),
        (image(parent=parent(namespace="n"), clone_format=2), source(), {}, "auto", "p/c is a clone of p/n/a@s, not of p/a@s"),
        (image(parent=parent(snapshot_name="t"), clone_format=2), source(), {}, "auto", "p/c is a clone of p/a@t, not of p/a@s"),
        (CLONE, source(), {}, 1, "clone_format is 2 and cannot be changed to 1"),
        (CLONE, source(), {"size": "512M"}, "auto", "shrinking it to 512M would cut off data"),
        (CLONE, source(), {"data_pool": "ec"}, "auto", "data_pool is none and cannot be changed to ec"),
        # The parent's snapshot was removed and another one of that name made.
        (
            image(parent=parent(trash=True), clone_format=2),
            source(),
            {},
            "auto",
            "a clone of an older snapshot p/a@s that was removed since",
        ),
    ],
)
def test_drift_refused(facts, above, declared, declared_format, words):
    plan = clones.plan_present(C, facts, AS, above, want(**declared), declared_format, None)
    assert plan.steps == []
    assert len(plan.refusals) == 1
    assert words in plan.refusals[0]


def test_a_parent_in_the_trash_is_still_the_parent():
    for above in (None, image(), image(snapshots=[snapshot("f00", type="trash", original_name="s")])):
        plan = clones.plan_present(C, image(parent=parent(trash=True), clone_format=2), AS, above, want(), "auto", None)
        assert (plan.refusals, plan.steps) == ([], [])


@pytest.mark.parametrize(("facts", "name"), [(image(), None), (CLONE, "p/a@s"), (image(parent=parent(pool="q", namespace="n")), "q/n/a@s")])
def test_parent_of(facts, name):
    assert (clones.parent_of(facts) and str(clones.parent_of(facts))) == name


@pytest.mark.parametrize(
    ("have", "now", "refused"),
    [
        (parent(id="1"), image(id="1", snapshots=[snapshot("s")]), False),
        (parent(id="1"), image(id="2", snapshots=[snapshot("s")]), True),
        (parent(id="1"), image(id="2"), True),
        (parent(id="1"), None, False),  # in the trash, and nothing has its name
        (parent(id=None), image(id="2", snapshots=[snapshot("s")]), False),  # cloned by an earlier state of a dry run
        (parent(id="1"), image(id=None, snapshots=[snapshot("s")]), True),  # made by an earlier state of a dry run
    ],
)
def test_another_image_that_has_the_parents_name(have, now, refused):
    plan = clones.plan_present(C, image(parent=have, clone_format=2), AS, now, want(), "auto", None)
    assert bool(plan.refusals) == refused
    if refused:
        assert "p/c is a clone of an image that was called p/a and has the id 1, not of the one" in plan.refusals[0]
