"""The features of an image: names, what needs what, and the order of changes."""

import itertools

import pytest
from saltrbd import features
from saltrbd.errors import InvalidArgument

ALL = ["deep-flatten", "exclusive-lock", "fast-diff", "journaling", "layering", "object-map"]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, None),
        ([], []),
        ("", []),
        ("layering", ["layering"]),
        ("layering, exclusive-lock", ["exclusive-lock", "layering"]),
        (["layering", "layering"], ["layering"]),
        (("fast-diff", "object-map", "exclusive-lock"), ["exclusive-lock", "fast-diff", "object-map"]),
        (ALL, ALL),
    ],
)
def test_declared(value, names):
    assert features.declared(value) == names


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["striping"], "Unknown features 'striping'"),
        (["Layering"], "Unknown features 'Layering'"),
        (["x" * 1000], "Unknown features 'xxx"),
        (["object-map", "fast-diff"], "object-map needs exclusive-lock"),
        # Either brings the other along, so that one alone would never be as declared.
        (["exclusive-lock", "object-map"], "object-map and fast-diff together"),
        (["exclusive-lock", "fast-diff"], "object-map and fast-diff together"),
        (["journaling"], "journaling needs exclusive-lock"),
        ([1], "must be a list of names"),
        ([None], "must be a list of names"),
        (5, "must be a list of names"),
        ({"layering": True}, "must be a list of names"),
        (True, "must be a list of names"),
    ],
)
def test_undeclarable(value, words):
    with pytest.raises(InvalidArgument) as error:
        features.declared(value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("current", "wanted", "disable", "enable"),
    [
        (ALL, ALL, [], []),  # nothing to do
        ([], [], [], []),
        ([], ["exclusive-lock", "object-map", "fast-diff"], [], ["exclusive-lock", "object-map", "fast-diff"]),
        (["exclusive-lock", "object-map", "fast-diff"], [], ["fast-diff", "object-map", "exclusive-lock"], []),
        (["exclusive-lock", "journaling"], ["exclusive-lock", "object-map"], ["journaling"], ["object-map"]),
        (["exclusive-lock", "journaling"], [], ["journaling", "exclusive-lock"], []),
    ],
)
def test_moves(current, wanted, disable, enable):
    assert features.moves(current, wanted) == (disable, enable)


MUTABLE = {"exclusive-lock": (), "journaling": ("exclusive-lock",), "object-map": ("exclusive-lock",), "fast-diff": ("object-map",)}
POSSIBLE = [
    set(chosen)
    for length in range(len(MUTABLE) + 1)
    for chosen in itertools.combinations(MUTABLE, length)
    if all(needed in chosen for name in chosen for needed in MUTABLE[name])
]


@pytest.mark.parametrize("wanted", POSSIBLE, ids=lambda item: "+".join(sorted(item)) or "none")
@pytest.mark.parametrize("current", POSSIBLE, ids=lambda item: "+".join(sorted(item)) or "none")
def test_no_step_breaks_what_ceph_needs(current, wanted):
    disable, enable = features.moves(sorted(current), sorted(wanted))
    have = set(current)
    for name, on in [(name, False) for name in disable] + [(name, True) for name in enable]:
        have = have | {name} if on else have - {name}
        assert have in POSSIBLE
    assert have == wanted


@pytest.mark.parametrize(
    ("current", "wanted", "words"),
    [
        (["layering", "deep-flatten"], ["layering", "deep-flatten"], []),  # nothing to do
        (["exclusive-lock"], [], []),
        (["layering"], [], ["layering cannot be changed"]),
        ([], ["layering"], ["layering cannot be changed"]),
        ([], ["deep-flatten"], ["deep-flatten cannot be enabled"]),
        (["deep-flatten"], [], ["disabling deep-flatten cannot be undone", "rbd feature disable p/i deep-flatten"]),
        (["layering"], ["deep-flatten"], ["layering cannot be changed", "deep-flatten cannot be enabled"]),
    ],
)
def test_refusals(current, wanted, words):
    told = " ".join(features.refusals("p/i", current, wanted))
    assert all(word in told for word in words)
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("61", ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]),
        ("1", ["layering"]),
        ("layering,exclusive-lock", ["exclusive-lock", "layering"]),
        ("", []),
    ],
)
def test_from_default(text, names):
    assert features.from_default(text) == names


def test_internal_features_are_not_seen():
    assert features.visible(["layering", "striping", "data-pool", "operations", "migrating", "non-primary"]) == ["layering"]
