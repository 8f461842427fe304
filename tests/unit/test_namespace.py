"""Namespaces: what is planned from what is in them, and what earlier states of a dry run planned."""

import pytest
from image_facts import image
from saltrbd import facts, namespace, spec
from saltrbd.converge import Known
from saltrbd.errors import InvalidSpec

N = spec.parse_namespace("p/n")
EMPTY = {"images": [], "trash": [], "groups": []}
ENTRY = {"name": "old", "id": "77"}


def content(**more):
    return dict(EMPTY, **more)


@pytest.mark.parametrize(
    ("plan", "there", "step"),
    [
        (namespace.plan_present, None, "rbd_namespace.create"),
        (namespace.plan_present, EMPTY, None),
        (namespace.plan_present, content(images=["a"]), None),
        (namespace.plan_absent, None, None),
        (namespace.plan_absent, EMPTY, "rbd_namespace.remove"),
    ],
)
def test_plans(plan, there, step):
    made = plan(N, there)
    assert made.refusals == []
    assert made.steps == ([(step, {"name": "p/n"})] if step else [])
    assert bool(made.changes) == bool(made.planned) == bool(step)


def test_all_that_is_in_it_is_told():
    made = namespace.plan_absent(N, content(images=["a", "b"], trash=[ENTRY], groups=["g"]))
    assert made.steps == []
    assert made.refusals == [
        "The namespace p/n is not removed. In it are: the image p/n/a; the image p/n/b; p/n/old (id 77) in the trash; "
        "the group g of images."
    ]


@pytest.mark.parametrize(
    ("there", "planned", "expected"),
    [
        (None, {}, None),
        (EMPTY, {}, EMPTY),
        (None, {("namespace", "p/n"): EMPTY}, EMPTY),
        (EMPTY, {("namespace", "p/n"): None}, None),
        (EMPTY, {("namespace", "p/m"): None, ("image", "p/i"): image(id=None), ("image", "p/m/i"): image(id=None)}, EMPTY),
        (EMPTY, {("image", "p/n/i"): image(id=None)}, content(images=["i"])),
        (content(images=["i"]), {("image", "p/n/i"): image()}, content(images=["i"])),
        (content(images=["i"]), {("image", "p/n/i"): None}, EMPTY),
        (content(images=["old"]), {("image", "p/n/old"): None, ("trash", "p/n/old"): ENTRY}, content(trash=[ENTRY])),
        (content(trash=[ENTRY]), {("image", "p/n/i"): image(id="77"), ("trash", "p/n/i"): None}, content(images=["i"])),
        (content(trash=[ENTRY]), {("purged", "p/n/77"): {}}, EMPTY),
        (content(images=["old"]), {("image", "p/n/old"): None, ("trash", "p/n/old"): ENTRY, ("purged", "p/n/77"): {}}, EMPTY),
    ],
)
def test_after_earlier_states(there, planned, expected):
    assert namespace.expected(there, Known(planned), N) == expected


@pytest.mark.parametrize(
    ("planned", "names"),
    [({}, ["a"]), ({("namespace", "p/n"): EMPTY, ("namespace", "q/m"): EMPTY}, ["a", "n"]), ({("namespace", "p/a"): None}, [])],
)
def test_names_after_earlier_states(planned, names):
    assert facts.namespaces(lambda pool: ["a"], Known(planned), "p") == names


@pytest.mark.parametrize(("name", "pool", "place"), [("p/n", None, "p/n"), ("p/n", "q", "p/n"), ("n", "q", "q/n")])
def test_names(name, pool, place):
    assert str(spec.parse_namespace(name, pool)) == place


@pytest.mark.parametrize("name", ["p", "", "p/", "/n", "p/n/i", "p/n@s", 5, None])
def test_no_names(name):
    with pytest.raises(InvalidSpec):
        spec.parse_namespace(name)
