"""Images: what may be declared, and what is planned from which facts."""

import pytest
from image_facts import CLUSTER, DEFAULT_FEATURES, NAME, G, M, P, image, want
from saltrbd import image as images
from saltrbd import spec as specs
from saltrbd.errors import InvalidArgument, InvalidSize

# What may be declared.


@pytest.mark.parametrize(
    ("declared", "field", "value"),
    [
        ({}, "size", None),
        ({"size": "1G"}, "size", G),
        ({"object_size": "4K"}, "object_size", 4096),
        ({"object_size": "32M"}, "object_size", 32 * M),
        ({"stripe_unit": "64K", "stripe_count": 4}, "stripe_count", 4),
        ({"stripe_unit": 512, "stripe_count": 2**32 - 1}, "stripe_unit", 512),
        ({"data_pool": "ec"}, "data_pool", "ec"),
        ({"metadata": {"a": "x", "b": None}}, "metadata", {"a": "x", "b": None}),
        ({"metadata": {"a": 1, "b": 1.5, "c": True, "d": False}}, "metadata", {"a": "1", "b": "1.5", "c": "true", "d": "false"}),
        ({"metadata": {"ä": "😀"}}, "metadata", {"ä": "😀"}),
        ({"metadata": {}}, "metadata", {}),
        ({"metadata": {"n": 10**150}}, "metadata", {"n": str(10**150)}),
        ({"config": {"rbd_qos_iops_limit": 100}}, "config", {"rbd_qos_iops_limit": "100"}),
    ],
)
def test_desired(declared, field, value):
    assert want(**declared)[field] == value


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"object_size": "3M"}, "not a power of two from 4K to 32M"),
        ({"object_size": "2K"}, "not a power of two from 4K to 32M"),
        ({"object_size": "64M"}, "not a power of two from 4K to 32M"),
        ({"stripe_unit": "64K"}, "stripe_unit and stripe_count together"),
        ({"stripe_count": 2}, "stripe_unit and stripe_count together"),
        ({"stripe_unit": "48K", "stripe_count": 2}, "does not divide the object_size"),
        ({"stripe_unit": "2M", "stripe_count": 2, "object_size": "1M"}, "does not divide the object_size 1M"),
        ({"stripe_unit": 256, "stripe_count": 2}, "less than 512 bytes"),
        ({"stripe_unit": "64K", "stripe_count": 0}, "stripe_count must be a number"),
        # librbd divides by it as a 32-bit number: the process would end with a floating point exception.
        ({"stripe_unit": "64K", "stripe_count": 2**32}, "stripe_count must be a number"),
        ({"stripe_unit": "64K", "stripe_count": True}, "stripe_count must be a number"),
        ({"stripe_unit": "64K", "stripe_count": "4"}, "stripe_count must be a number"),
        ({"data_pool": ""}, "data_pool must be a name"),
        ({"data_pool": 3}, "data_pool must be a name"),
        ({"metadata": ["a"]}, "metadata must be a mapping"),
        ({"metadata": "a"}, "metadata must be a mapping"),
        ({"metadata": {1: "x"}}, "a key that is no text: 1"),
        ({"metadata": {"": "x"}}, "a key that is no text: ''"),
        ({"metadata": {"a\0": "x"}}, "a key that is no text"),
        ({"metadata": {"\ud800": "x"}}, "a key that is no text"),
        # The bindings lose track of empty values, and cut the others at a NUL.
        ({"metadata": {"a": ""}}, "must be text or a number, and not empty"),
        ({"metadata": {"a": "x\0y"}}, "must be text or a number, and not empty"),
        ({"metadata": {"a": "\udfff"}}, "must be text or a number, and not empty"),
        ({"metadata": {"a": ["x"]}}, "must be text or a number, and not empty"),
        ({"metadata": {"a": {}}}, "must be text or a number, and not empty"),
        ({"metadata": {"a": b"x"}}, "must be text or a number, and not empty"),
        pytest.param({"metadata": {"a": 10**5000}}, "too long to be shown", id="huge"),
        ({"metadata": {"conf_rbd_cache": "x"}}, "belongs to the image's config"),
        ({"config": {"qos": 1}}, "they begin with rbd_"),
        ({"features": ["striping"]}, "Unknown features"),
    ],
)
def test_undeclarable(declared, words):
    with pytest.raises(InvalidArgument) as error:
        want(**declared)
    assert words in str(error.value)


def test_a_bad_size_names_its_field():
    with pytest.raises(InvalidSize, match="The object_size 'x' is not a size"):
        want(object_size="x")


@pytest.mark.parametrize("value", ["no", "yes", 0, 1, None, "", []])
def test_a_flag_is_true_or_false(value):
    assert images.flag(True, "trash") is True
    with pytest.raises(InvalidArgument, match="trash must be True or False"):
        images.flag(value, "trash")


@pytest.mark.parametrize("value", [None, True, False, "10ab"])
def test_restore(value):
    assert images.check_restore(value) is value


@pytest.mark.parametrize("value", [0, 1, "", [], 5.0])
def test_restore_of_what_is_no_id(value):
    with pytest.raises(InvalidArgument, match="must be True, False or an id in quotes"):
        images.check_restore(value)


@pytest.mark.parametrize(("value", "names"), [("a", ["a"]), ("a, b", ["a", "b"]), (["a"], ["a"]), ((), [])])
def test_names(value, names):
    assert images.names(value, "remove") == names


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, [1], [""], ""])
def test_no_names(value):
    with pytest.raises(InvalidArgument, match="The remove must be a list of names"):
        images.names(value, "remove")


# Making and mending one: (facts or None, declared, steps, changed fields).

GROWN = [("rbd_image.resize", {"name": "p/i", "size": 2 * G, "allow_shrink": False})]


@pytest.mark.parametrize(
    ("current", "declared", "steps", "fields"),
    [
        # Nothing to do.
        (image(), {}, [], {}),
        (image(), {"size": "1G"}, [], {}),
        (image(), {"size": "1G", "features": DEFAULT_FEATURES, "object_size": "4M", "stripe_unit": "4M", "stripe_count": 1}, [], {}),
        (image(features=[*DEFAULT_FEATURES, "operations", "striping", "data-pool"]), {"features": DEFAULT_FEATURES}, [], {}),
        (image(metadata={"a": "x", "other": "y"}), {"metadata": {"a": "x", "gone": None}}, [], {}),
        (image(config={"rbd_cache": "true"}), {"config": {"rbd_cache": True}}, [], {}),
        (image(data_pool="ec"), {"data_pool": "ec"}, [], {}),
        (image(flags=["object-map-invalid"]), {}, [], {}),  # features are not declared, so nobody asked for a valid map
        # Sizes.
        (image(), {"size": "2G"}, GROWN, {"size": ("1G", "2G")}),
        # Metadata and config.
        (
            image(metadata={"a": "x", "b": "y", "c": "z"}),
            {"metadata": {"a": "new", "b": None, "d": 1}},
            [("rbd_image.set_metadata", {"name": "p/i", "put": {"a": "new", "d": "1"}, "remove": ["b"]})],
            {"metadata.a": ("x", "new"), "metadata.b": ("y", None), "metadata.d": (None, "1")},
        ),
        (
            image(config={"rbd_cache": "true"}),
            {"config": {"rbd_cache": None, "rbd_qos_iops_limit": 5}},
            [("rbd_image.set_config", {"name": "p/i", "put": {"rbd_qos_iops_limit": "5"}, "remove": ["rbd_cache"]})],
            {"config.rbd_cache": ("true", None), "config.rbd_qos_iops_limit": (None, "5")},
        ),
        # Features, in the order that Ceph needs.
        (
            image(features=["layering", "exclusive-lock", "journaling"]),
            {"features": ["layering"]},
            [("rbd_image.set_features", {"name": "p/i", "enable": [], "disable": ["journaling", "exclusive-lock"]})],
            {"features": (["exclusive-lock", "journaling", "layering"], ["layering"])},
        ),
        (
            image(features=["layering"]),
            {"features": ["layering", "exclusive-lock", "object-map", "fast-diff"]},
            [
                ("rbd_image.set_features", {"name": "p/i", "enable": ["exclusive-lock", "object-map", "fast-diff"], "disable": []}),
                ("rbd_image.rebuild_object_map", {"name": "p/i"}),
            ],
            {"features": (["layering"], ["exclusive-lock", "fast-diff", "layering", "object-map"])},
        ),
        (
            image(features=["layering", "exclusive-lock", "object-map"]),
            {"features": ["layering", "exclusive-lock", "object-map", "fast-diff"]},
            [
                ("rbd_image.set_features", {"name": "p/i", "enable": ["fast-diff"], "disable": []}),
                ("rbd_image.rebuild_object_map", {"name": "p/i"}),
            ],
            {"features": (["exclusive-lock", "layering", "object-map"], ["exclusive-lock", "fast-diff", "layering", "object-map"])},
        ),
        # A map that somebody left invalid.
        (
            image(flags=["fast-diff-invalid", "object-map-invalid"]),
            {"features": DEFAULT_FEATURES},
            [("rbd_image.rebuild_object_map", {"name": "p/i"})],
            {"flags": (["fast-diff-invalid", "object-map-invalid"], [])},
        ),
        # Features before the size, the size before metadata.
        (
            image(features=["layering"]),
            {"size": "2G", "features": ["layering", "exclusive-lock"], "metadata": {"a": "x"}},
            [
                ("rbd_image.set_features", {"name": "p/i", "enable": ["exclusive-lock"], "disable": []}),
                *GROWN,
                ("rbd_image.set_metadata", {"name": "p/i", "put": {"a": "x"}, "remove": []}),
            ],
            {"features": (["layering"], ["exclusive-lock", "layering"]), "size": ("1G", "2G"), "metadata.a": (None, "x")},
        ),
        # A new one.
        (
            None,
            {"size": "1G", "metadata": {"a": "x", "b": None}, "features": []},
            [
                (
                    "rbd_image.create",
                    {"name": "p/i", "size": G, "features": [], "metadata": {"a": "x"}, "config": {}},
                )
            ],
            {"image": (None, "present"), "size": (None, "1G"), "metadata": (None, {"a": "x"})},
        ),
    ],
)
def test_plan_present(current, declared, steps, fields):
    plan = images.plan_present(P, current, want(**declared), defaults=CLUSTER)
    assert plan.refusals == []
    assert plan.steps == steps
    wanted = {key: {"old": old, "new": new} for key, (old, new) in fields.items()}
    assert plan.changes == ({"p/i": wanted} if wanted else {})
    # What later states of a dry run see is there exactly where something changes.
    assert set(plan.planned) == ({NAME} if wanted else set())


@pytest.mark.parametrize(
    ("current", "declared", "words"),
    [
        (None, {}, ["p/i does not exist, and no size is declared"]),
        (None, {"size": "1G", "stripe_unit": "8M", "stripe_count": 2}, ["stripe_unit 8M does not divide the object_size 4M"]),
        (None, {"size": "1P"}, ["1P is too large for the feature object-map with objects of 4M"]),
        (image(), {"size": "1P"}, ["1P is too large for the feature object-map"]),
        (image(), {"size": "512M"}, ["it has 1G, and shrinking it to 512M would cut off data", "allow_shrink: True"]),
        (
            image(),
            {"object_size": "1M"},
            [
                "p/i: object_size is 4M and cannot be changed to 1M after the image was created. Declare 4M, or make a new image and "
                "copy the data."
            ],
        ),
        (
            image(),
            {"stripe_unit": "64K", "stripe_count": 8},
            [
                "stripe_unit is 4M and cannot be changed to 64K",
                "stripe_count is 1 and cannot be changed to 8 after the image was created. Declare 1, or",
            ],
        ),
        (
            image(),
            {"data_pool": "ec"},
            ["data_pool is none and cannot be changed to ec after the image was created. Leave data_pool out, or make"],
        ),
        (
            image(data_pool="ec"),
            {"data_pool": "other"},
            ["data_pool is ec and cannot be changed to other after the image was created. Declare ec, or make"],
        ),
        (image(), {"features": []}, ["layering cannot be changed", "disabling deep-flatten cannot be undone"]),
        (image(features=["layering"]), {"features": ["layering", "deep-flatten"]}, ["deep-flatten cannot be enabled"]),
        (image(), {"object_size": "1M", "size": "1K", "features": []}, ["object_size", "shrinking", "layering", "deep-flatten"]),
    ],
)
def test_plan_refused(current, declared, words):
    plan = images.plan_present(P, current, want(**declared), defaults=CLUSTER)
    assert plan.steps == []
    assert plan.planned == {}
    told = " ".join(plan.refusals)
    assert all(word in told for word in words)
    assert all("p/i" in sentence for sentence in plan.refusals)


def test_large_images_without_an_object_map():
    plan = images.plan_present(P, None, want(size="1P", features=["layering"]), defaults=CLUSTER)
    assert plan.refusals == []


def test_shrinking_when_allowed():
    plan = images.plan_present(P, image(), want(size="512M"), allow_shrink=True)
    assert plan.steps == [("rbd_image.resize", {"name": "p/i", "size": 512 * M, "allow_shrink": True})]
    # Growing never shrinks, even where shrinking is allowed and the image grew meanwhile.
    assert images.plan_present(P, image(), want(size="2G"), allow_shrink=True).steps == GROWN


def test_what_comes_back_from_the_trash_shrinks_behind_its_header():
    reference = {"format": "luks2", "pillar": ["keys", "one"]}
    entry = {"id": "10ab", "name": "i", "facts": image()}
    plan = images.plan_present(P, None, want(size="512M"), True, True, [entry], CLUSTER, reference)
    assert [arguments.get("encryption") for _, arguments in plan.steps] == [None, reference]


@pytest.mark.parametrize(
    ("restore", "ids", "found"),
    [(None, ["a"], None), (False, ["a"], None), (True, [], None), (True, ["a"], "a"), (True, ["a", "b"], None), ("b", ["a", "b"], "b")]
    + [("c", ["a", "b"], None)],
)
def test_what_is_brought_back(restore, ids, found):
    entry = images.restored(restore, [{"id": identity} for identity in ids])
    assert (entry and entry["id"]) == found


def test_planned_facts_are_those_after_the_change():
    declared = want(
        size="2G", features=["layering", "exclusive-lock", "deep-flatten"], metadata={"a": None, "b": 1}, config={"rbd_cache": True}
    )
    before = image(metadata={"a": "x", "z": "y"}, features=[*DEFAULT_FEATURES, "operations"])
    after = images.plan_present(P, before, declared).planned[NAME]
    assert after == image(
        size=2 * G,
        features=["deep-flatten", "exclusive-lock", "layering", "operations"],
        metadata={"b": "1", "z": "y"},
        config={"rbd_cache": "true"},
    )


def test_planned_facts_of_a_new_image():
    facts = images.plan_present(P, None, want(size="1G", object_size="1M"), defaults=CLUSTER).planned[NAME]
    new = image(id=None, object_size=M, stripe_unit=M)
    del new["created"]
    assert facts == new


# Places and config keys.


@pytest.mark.parametrize(
    ("name", "declared", "words"),
    [
        ("p/i", {}, []),
        ("p/n/i", {"data_pool": "ec"}, []),
        ("p/other/i", {}, ["p/other/i: the namespace p/other does not exist"]),
        ("p/i", {"data_pool": "nope"}, ["p/i: the data pool nope does not exist"]),
        ("p/other/i", {"data_pool": "nope"}, ["namespace p/other", "data pool nope"]),
    ],
)
def test_missing_places(name, declared, words):
    told = images.missing_places(specs.parse(name), want(**declared), CLUSTER, lambda pool: ["n"])
    assert len(told) == len(words)
    assert all(word in " ".join(told) for word in words)


@pytest.mark.parametrize(
    ("current", "config", "asked", "told"),
    [
        (None, None, 0, []),
        (None, {"rbd_cache": True}, 1, []),
        (None, {"rbd_nonsense": 1}, 1, ["p/i: Ceph has no config key 'rbd_nonsense' for images."]),
        (None, {"rbd_nonsense": None}, 0, []),
        (image(config={"rbd_old": "1"}), {"rbd_old": 2}, 0, []),  # it was taken once
    ],
)
def test_unknown_config(current, config, asked, told):
    pools = []

    def keys(pool):
        pools.append(pool)
        return ["rbd_cache"]

    assert images.unknown_config(P, current, want(config=config), keys) == told
    assert pools == ["p"] * asked
