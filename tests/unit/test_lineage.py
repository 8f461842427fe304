"""The tree of images, snapshots and clones as text."""

from image_facts import M, image, parent, snapshot
from saltrbd import lineage
from saltrbd import spec as specs


def draw(trashed=(), notes=(), **images):
    there = {specs.parse(name.replace("__", "/")): facts for name, facts in images.items()}
    return lineage.draw(there, list(trashed), list(notes), []).splitlines()


def test_nothing():
    assert draw() == ["There are no images."]


def test_clones_stand_below_their_snapshots():
    text = draw(
        p__a=image(snapshots=[snapshot("s", protected=True), snapshot("white space", size=M)]),
        p__c=image(parent=parent(), clone_format=1, snapshots=[snapshot("t")]),
        q__n__d=image(parent=parent(image_name="c", snapshot_name="t"), clone_format=2, data_pool="ec"),
        p__alone=image(size=512 * M),
    )
    assert text == [
        "p/a  1G",
        "  @s  1G, protected",
        "    p/c  1G, clone of format 1",
        "      @t  1G",
        "        q/n/d  1G, clone of format 2, data in ec",
        "  @white space  1M",
        "p/alone  512M",
    ]


def test_every_image_is_drawn_once():
    text = draw(
        p__of_trash=image(parent=parent(trash=True), clone_format=2),
        p__of_another_pool=image(parent=parent(pool="elsewhere"), clone_format=1),
        p__of_gone=image(parent=parent(snapshot_name="gone"), clone_format=1),
        # The snapshot of that name is another one by now.
        p__a=image(snapshots=[snapshot("s"), snapshot("f00", type="trash")]),
    )
    assert text == [
        "p/a  1G",
        "  @s  1G",
        "p/of_another_pool  1G, clone of format 1 of elsewhere/a@s",
        "p/of_gone  1G, clone of format 1 of p/a@gone",
        "p/of_trash  1G, clone of format 2 of p/a@s, which was removed since",
    ]


def test_the_trash():
    entry = {"name": "x", "id": "77", "source": "USER", "deleted": 1700000000, "kept_until": 1700000000}
    assert draw([("p", "n", entry)]) == ["p/n/x in the trash  id 77, by USER at 2023-11-14 22:13 UTC"]
    kept = dict(entry, kept_until=1700604800)
    assert draw([("p", "n", kept)]) == ["p/n/x in the trash  id 77, by USER at 2023-11-14 22:13 UTC, kept until 2023-11-21 22:13 UTC"]


def test_a_parent_in_the_trash_is_not_the_image_that_has_its_name_now():
    entry = {"name": "a", "id": "77", "source": "USER", "deleted": 1700000000, "kept_until": 1700000000}
    text = draw([("p", "", entry)], p__a=image(snapshots=[snapshot("s")]), p__b=image(parent=parent(id="77"), clone_format=2))
    assert text[:3] == ["p/a  1G", "  @s  1G", "p/b  1G, clone of format 2 of p/a@s in the trash (id 77)"]


def test_what_could_not_be_read():
    assert draw(notes=["Not shown: q."], p__a=image()) == ["p/a  1G", "Not shown: q."]
    assert draw(notes=["Not shown: q."]) == ["There are no images.", "Not shown: q."]
