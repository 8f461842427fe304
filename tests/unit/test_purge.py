"""What goes from the trash for good, and what stays there: planned from which entries."""

import pytest
from image_facts import child, image, snapshot
from saltrbd import facts, purge, spec
from saltrbd.converge import Known
from saltrbd.errors import InvalidArgument

PLACE = spec.parse_place("p")
NOW = 1000000
LEFT, RIGHT = {"old": "in the trash", "new": None}, {"address": "192.0.2.1:0/77", "client": 4711, "cookie": 1}


def entry(name, ends=NOW - 1, source="USER", **more):
    """An entry of the trash, past its time, of an image with these facts."""
    return {"name": name, "id": "t-" + name, "source": source, "deleted": NOW - 9, "kept_until": ends, "facts": image(**more)}


def of_clone(name, **more):
    """A clone as a snapshot's facts show it, with the id that :func:`entry` gives."""
    return dict(child(name, **more), id="t-" + name)


def plan(entries, **want):
    return purge.plan(PLACE, entries, purge.desired(**want), NOW)


@pytest.mark.parametrize(
    ("entries", "want", "ids"),
    [
        ([], {}, []),
        ([entry("a")], {}, ["t-a"]),
        ([entry("a", NOW)], {}, ["t-a"]),
        ([entry("a", NOW + 1)], {}, []),
        ([entry("a", NOW + 1), entry("b", NOW + 1)], {"early": ["t-b", "t-gone"]}, ["t-b"]),
        ([entry("a"), entry("b")], {"images": ["b", "c"]}, ["t-b"]),
        ([entry("a"), entry("b")], {"images": []}, []),
        ([entry("a"), entry("b", NOW + 1)], {"images": ["a"], "early": ["t-b"]}, ["t-a"]),
        ([entry("a"), entry("b"), entry("c", NOW + 1)], {"ids": ["t-a", "t-c"]}, ["t-a"]),
        ([entry("a"), entry("b", NOW + 1)], {"ids": [], "early": ["t-b"]}, ["t-b"]),
        ([entry("a", source="MIRRORING"), entry("b", source="MIGRATION")], {}, []),
        ([entry("a", source="REMOVING")], {}, ["t-a"]),
        ([dict(entry("a"), facts=None)], {}, ["t-a"]),
    ],
)
def test_what_goes(entries, want, ids):
    made = plan(entries, **want)
    assert made.refusals == []
    assert [arguments["ids"] for _, arguments in made.steps] == ([ids] if ids else [])
    assert made.changes == {f"p/{item[2:]} (id {item})": {"image": LEFT} for item in ids}
    assert set(made.planned) == {("purged", "p/" + item) for item in ids}
    for _, arguments in made.steps:
        assert arguments["early"] == [item for item in ids if item in want.get("early", ())]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"snapshots": [snapshot("s")]}, "the snapshot p/a@s"),
        ({"snapshots": [snapshot("s", protected=True)]}, "the protected snapshot p/a@s"),
        ({"snapshots": [snapshot("s", children=[child("k")])]}, "the clone p/k; the snapshot p/a@s"),
        ({"snapshots": [snapshot("f0", type="trash", original_name="s", children=[child("k", trash=True)])]}, "p/k (in the trash, id c-k)"),
        ({"snapshots": [snapshot("f0", type="trash", original_name="s")]}, "the snapshot p/a@s in Ceph's trash for snapshots"),
        ({"watchers": [RIGHT]}, "the user 192.0.2.1:0/77 (client.4711)"),
        ({"locks": [{"client": "client.5", "cookie": "mine", "address": "192.0.2.2:0/1"}]}, "the lock 'mine'"),
        ({"group": "g"}, "the group g of images"),
        ({"features": ["layering", "migrating"]}, "its migration"),
    ],
)
def test_what_is_in_the_way(more, words):
    entries = [entry("a", **more), entry("b")]
    refused = plan(entries)
    assert (refused.steps, len(refused.refusals)) == ([], 1)
    assert refused.refusals[0].startswith("p/a (id t-a) stays in the trash. In the way are: ")
    assert words in refused.refusals[0]
    skipped = plan(entries, skip=True)
    assert skipped.notes == refused.refusals
    assert [arguments["ids"] for _, arguments in skipped.steps] == [["t-b"]]
    assert list(skipped.changes) == ["p/b (id t-b)"]
    assert plan(entries[:1], skip=True).changes == {}


def test_a_clone_goes_before_its_parent():
    """Its parent's snapshot, which is in Ceph's trash for snapshots, goes with the last clone."""
    hidden = snapshot("f0", type="trash", original_name="s", children=[of_clone("k"), of_clone("l")])
    parent, one, two = entry("a", snapshots=[hidden]), entry("k"), entry("l")
    waves, blocked = purge.sort_out(PLACE, [parent, one, two])
    assert (waves, blocked) == ([[one, two], [parent]], [])
    waves, blocked = purge.sort_out(PLACE, [parent, one])
    assert waves == [[one]]
    assert [(item["name"], words) for item, words in blocked] == [
        ("a", ["the clone p/l", "the snapshot p/a@s in Ceph's trash for snapshots"])
    ]
    assert plan([parent, entry("k"), entry("l", NOW + 1)]).refusals


def test_a_clone_in_another_pool_is_no_other_of_that_id():
    hidden = snapshot("f0", type="trash", original_name="s", children=[of_clone("k", pool="q")])
    assert plan([entry("a", snapshots=[hidden]), entry("k")]).refusals


@pytest.mark.parametrize(
    ("want", "words"),
    [
        ({"images": "a"}, "images must be a list"),
        ({"images": [1]}, "images must be a list"),
        ({"early": True}, "early must be a list"),
        ({"early": [""]}, "early must be a list"),
        ({"ids": {"a": 1}}, "ids must be a list"),
        ({"skip": "yes"}, "skip_blocked must be True or False"),
    ],
)
def test_bad_arguments(want, words):
    with pytest.raises(InvalidArgument, match=words):
        purge.desired(**want)


@pytest.mark.parametrize(("name", "place"), [("p", ("p", "", "", "")), ("p/n", ("p", "n", "", ""))])
def test_a_place(name, place):
    assert tuple(spec.parse_place(name)) == place
    assert str(spec.parse_place(name)) == name


@pytest.mark.parametrize("name", ["", "p/", "/n", "p/n/i", "p@s", "p/n@s", 5, None])
def test_no_place(name):
    with pytest.raises(spec.InvalidSpec):
        spec.parse_place(name)


# What earlier states of a dry run planned.


@pytest.mark.parametrize(
    ("planned", "names"),
    [
        ({}, ["a"]),
        ({("trash", "p/b"): {"name": "b", "id": "t-b", "facts": image(), "source": "USER", "delay": 0}}, ["a", "b"]),
        ({("trash", "p/b"): {"name": "b", "id": "t-b", "facts": image(), "source": "USER", "delay": 60}}, ["a"]),
        ({("trash", "p/n/b"): {"name": "b", "id": "t-b", "facts": image(), "source": "USER", "delay": 0}}, ["a"]),
        ({("image", "p/a"): image(id="t-a"), ("trash", "p/a"): None}, []),
        ({("purged", "p/t-a"): {}}, []),
        ({("purged", "p/n/t-a"): {}}, ["a"]),
    ],
)
def test_after_earlier_states(planned, names):
    known = Known(planned)
    assert [arguments["ids"] for _, arguments in plan(facts.trash([entry("a")], known, PLACE)).steps] == (
        [["t-" + name for name in names]] if names else []
    )


def test_what_was_purged_is_no_clone_and_cannot_be_restored():
    known = Known({("purged", "p/t-k"): {}})
    parent = image(snapshots=[snapshot("s", children=[of_clone("k", trash=True), of_clone("l", trash=True)])])
    (item,) = facts.images(lambda names, **more: {names[0]: parent}, known, [spec.parse("p/a")])[spec.parse("p/a")]["snapshots"]
    assert [one["image"] for one in item["children"]] == ["l"]
    assert [one["name"] for one in facts.trashed(lambda name: [entry("k"), entry("l")], known, spec.parse("p/k"))] == ["l"]
