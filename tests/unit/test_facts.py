"""Facts as a state sees them: what this dry run planned comes before what the cluster says."""

import pytest
from image_facts import G, child, image, parent, snapshot
from saltrbd import converge, facts
from saltrbd import spec as specs

A, C = specs.parse("p/a"), specs.parse("p/c")


class Info:
    """``rbd_image.info`` over what is there, remembering what was asked."""

    def __init__(self, **there):
        self.there, self.asked = {"p/" + name: item for name, item in there.items()}, []

    def __call__(self, names, **more):
        self.asked.append((names, more))
        return {name: self.there.get(name) for name in names}


def ask(info, known, *wanted, **more):
    found = converge.Known()
    found.take(known)
    return facts.images(info, found, list(wanted) or [A], **more)


def look(there, known):
    """Return the facts of p/a."""
    return ask(Info(a=there), known)[A]


def test_without_plans_the_cluster_speaks():
    info = Info(a=image())
    assert ask(info, {}, A, C, children=True) == {A: image(), C: None}
    assert info.asked == [(["p/a", "p/c"], {"children": True})]


@pytest.mark.parametrize("planned", [None, image(id=None)])
def test_what_would_be_gone_or_new_is_not_asked_for(planned):
    info = Info(a=image())
    assert ask(info, {("image", "p/a"): planned}) == {A: planned}
    assert info.asked == []


def test_a_planned_change_keeps_what_only_the_cluster_knows():
    watcher = {"address": "192.0.2.1:0/1", "client": 5, "cookie": 1}
    there = image(snapshots=[snapshot("s", children=[child("x")])], watchers=[watcher], group="g")
    # An earlier state read it without children and users, and would grow it.
    planned = {key: value for key, value in image(size=2 * G).items() if key not in ("watchers", "locks", "group")}
    seen = look(there, {("image", "p/a"): planned})
    assert seen == dict(there, size=2 * G)


def test_one_that_would_be_restored():
    planned = image(id="77", snapshots=[snapshot("s")])
    assert look(None, {("image", "p/a"): planned}) == planned


@pytest.mark.parametrize(
    ("there", "planned", "seen"),
    [
        ([], {}, []),
        ([snapshot("s")], {}, [snapshot("s")]),
        ([snapshot("s")], {"p/a@s": None}, []),
        ([snapshot("s")], {"p/a@s": {"protected": True}}, [snapshot("s", protected=True)]),
        ([snapshot("s")], {"p/aa@s": None, "p/b@s": {"id": None, "protected": True}}, [snapshot("s")]),
        # Under clones of format 2 a snapshot that goes is still there, in Ceph's trash.
        (
            [snapshot("s", children=[child("x")])],
            {"p/a@s": {"type": "trash", "original_name": "s"}},
            [snapshot("s", type="trash", original_name="s", children=[child("x")])],
        ),
        # It goes with its last clone.
        ([snapshot("f00", type="trash", children=[])], {"p/q@s": None}, [snapshot("f00", type="trash")]),
    ],
)
def test_snapshots(there, planned, seen):
    known = {("snapshot", name): value for name, value in planned.items()}
    assert look(image(snapshots=there), known)["snapshots"] == seen


def test_a_new_snapshot():
    seen = look(image(size=2 * G), {("snapshot", "p/a@s"): {"id": None, "protected": True}})["snapshots"]
    assert seen == [
        {"name": "s", "id": None, "size": 2 * G, "type": "user", "protected": True, "children": []},
    ]


def test_a_new_snapshot_is_not_the_one_that_went():
    there = image(snapshots=[snapshot("s", protected=True, children=[child("x")])])
    assert look(there, {("snapshot", "p/a@s"): {"id": None, "protected": False}})["snapshots"][0]["children"] == []


def names(facts_of_a):
    return [
        "/".join(part for part in (item["pool"], item["namespace"], item["image"]) if part) + ("!" if item["trash"] else "")
        for item in facts_of_a["snapshots"][0]["children"]
    ]


NEW = image(id=None, parent=parent(id=None), clone_format=1)


@pytest.mark.parametrize(
    ("children", "known", "seen"),
    [
        ([], {("device", "p/z"): None}, []),
        ([child("c")], {("device", "p/z"): None}, ["p/c"]),
        # A clone of the same name in another pool or namespace is another clone.
        ([child("c")], {("image", "q/c"): NEW, ("image", "p/n/c"): NEW}, ["p/c", "q/c", "p/n/c"]),
        ([], {("image", "p/c"): NEW}, ["p/c"]),
        ([], {("image", "p/c"): dict(NEW, parent=parent(snapshot_name="t"))}, []),
        ([], {("image", "p/c"): dict(NEW, parent=parent(namespace="n"))}, []),
        ([], {("image", "p/c"): image(id=None)}, []),
        # Changed, and still the same clone.
        ([child("c")], {("image", "p/c"): image(id="c-c", parent=parent(), size=2 * G)}, ["p/c"]),
        # Removed, moved to the trash, replaced by another image.
        ([child("c")], {("image", "p/c"): None}, []),
        ([child("c")], {("image", "p/c"): None, ("trash", "p/c"): {"id": "c-c", "facts": image(id="c-c", parent=parent())}}, ["p/c!"]),
        ([child("c")], {("image", "p/c"): image(id=None)}, []),
        ([child("c", trash=True)], {("image", "p/c"): None}, ["p/c!"]),
        # Made by this dry run, and moved to the trash by it.
        ([], {("image", "p/c"): None, ("trash", "p/c"): {"id": None, "facts": NEW}}, ["p/c!"]),
    ],
)
def test_clones(children, known, seen):
    there = image(snapshots=[snapshot("s", children=children)])
    assert names(look(there, known)) == seen


def test_the_trash_of_snapshots_empties_with_the_last_clone():
    there = image(snapshots=[snapshot("f00", type="trash", children=[child("c")])])
    assert look(there, {("image", "p/c"): None})["snapshots"] == []


def test_who_would_be_unmapped_here_is_no_user():
    ours, other = {"address": "a", "client": 1, "here": True}, {"address": "b", "client": 2}
    there = image(watchers=[ours, other], locks=[dict(ours, cookie="x")])
    assert look(there, {("device", "p/a"): {"driver": "fuse"}})["watchers"] == [ours, other]
    seen = look(there, {("device", "p/a"): None})
    assert (seen["watchers"], seen["locks"]) == ([other], [])


def test_mounted():
    known = {("mount", "/a"): {"image": "p/a"}, ("mount", "/b"): None, ("image", "p/c"): {"image": "x"}}
    assert facts.mounted(known) == {"p/a"}
