"""How deep clones may stand and how many snapshots an image may have: which sentence from which numbers."""

import pytest
from image_facts import image, snapshot
from saltrbd import limits, settings
from saltrbd import spec as specs

CHOSEN = settings.load({}, {"rbd": {"max_depth": 3, "warn_depth": 2, "max_snapshots": 3, "warn_snapshots": 2}})
C = specs.parse("p/c")
A, B = specs.parse("p/a"), specs.parse("p/b")


def test_the_defaults():
    chosen = settings.load({}, {})
    assert (chosen.max_depth, chosen.warn_depth, chosen.max_snapshots, chosen.warn_snapshots) == (8, 4, 450, 250)
    assert chosen.max_depth < limits.KERNEL_DEPTH
    assert chosen.max_snapshots < limits.KERNEL_SNAPSHOTS


@pytest.mark.parametrize(
    ("count", "refused", "told"),
    [
        (1, "", ""),
        (2, "", "p/c stands on 2 parents (p/0@s, p/1@s); 4 are refused."),
        (3, "", "p/c stands on 3 parents (p/0@s, p/1@s, p/2@s); 4 are refused."),
        (4, "p/c would stand on 4 parents, and rbd:max_depth is 3 (the kernel maps 16): p/0@s, p/1@s, p/2@s, p/3@s. ", ""),
    ],
)
def test_depth(count, refused, told):
    plan = limits.depth(C, [f"p/{number}@s" for number in range(count)], CHOSEN)
    assert plan.refusals == ([refused + "Declare rbd_clone.flattened for one of them."] if refused else [])
    assert plan.notes == ([told] if told else [])
    assert (plan.steps, plan.changes) == ([], {})


def having(*kinds):
    return image(snapshots=[snapshot(f"{kind}{number}", type=kind) for number, kind in enumerate(kinds)])


@pytest.mark.parametrize(
    ("facts", "refused", "told"),
    [
        (None, "", ""),  # its own plan refuses
        (having(), "", ""),
        (having("user"), "", "p/a has 1 snapshots, and p/a@s is one more; 4 are refused. rbd_snapshot.retained removes old ones."),
        (
            having("trash", "group"),
            "",
            "p/a has 2 snapshots, 1 of them in Ceph's trash, and p/a@s is one more; 4 are refused. rbd_snapshot.retained removes old ones.",
        ),
        (
            having("trash", "trash", "mirror"),
            "p/a has 3 snapshots, 2 of them in Ceph's trash; p/a@s would be one more, and rbd:max_snapshots is 3 (the kernel maps 510). "
            "Declare rbd_snapshot.retained.",
            "",
        ),
        # One that is there is no more.
        (image(snapshots=[snapshot("s"), snapshot("t"), snapshot("u")]), "", ""),
        # In Ceph's trash there may be one of that name.
        (image(snapshots=[snapshot("s", type="trash")]), "", "p/a has 1 snapshots, 1 of them in Ceph's trash, and p/a@s is one more; "),
    ],
)
def test_snapshots(facts, refused, told):
    plan = limits.snapshots([A.at("s")], {A: facts}, CHOSEN)
    assert plan.refusals == ([refused] if refused else [])
    assert len(plan.notes) == bool(told)
    assert "".join(plan.notes).startswith(told)


def test_snapshots_of_many_images():
    plan = limits.snapshots([A.at("s"), B.at("s")], {A: having("user", "user", "user"), B: having("user")}, CHOSEN)
    assert [text.split(" ")[0] for text in plan.refusals + plan.notes] == ["p/a", "p/b"]
