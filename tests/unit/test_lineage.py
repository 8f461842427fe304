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
        "p/of_another_pool  1G, clone of format 1",
        "p/of_gone  1G, clone of format 1",
        "p/of_trash  1G, clone of format 2",
    ]


def test_the_trash():
    assert draw([("p", "n", {"name": "x", "id": "77"})]) == ["p/n/x in the trash  id 77"]


def test_what_could_not_be_read():
    assert draw(notes=["Not shown: q."], p__a=image()) == ["p/a  1G", "Not shown: q."]
    assert draw(notes=["Not shown: q."]) == ["There are no images.", "Not shown: q."]
