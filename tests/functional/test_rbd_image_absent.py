"""rbd_image.absent, and what lies in the trash: what stands in the way of a removal; on the real cluster, dry and for real."""

import pytest
from image_checks import M, changed, made, trashed
from saltrbd import users


def test_absent_goes_to_the_trash(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity = rbd_cli.json("info", spec)["id"]
    ran = converges("rbd_image.absent", spec)
    assert ran.changes == changed(spec, image=("present", "in the trash"))
    assert trashed(rbd_cli, spec) == [identity]


def test_absent_without_the_trash(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    assert converges("rbd_image.absent", spec, trash=False).changes == changed(spec, image=("present", None))
    assert trashed(rbd_cli, spec) == []
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])


def test_absent_already(spec, unchanged):
    unchanged("rbd_image.absent", spec)
    unchanged("rbd_image.absent", spec, trash=False)


@pytest.mark.parametrize("value", ["no", 0, None, "False"])
def test_only_false_itself_means_without_the_trash(spec, refuses, rbd_cli, value):
    rbd_cli("create", spec, "--size", "8M")
    assert "trash must be True or False" in refuses("rbd_image.absent", spec, trash=value)


def test_what_lies_in_the_trash_is_not_passed_over(spec, states, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity = rbd_cli.json("info", spec)["id"]
    rbd_cli("image-meta", "set", spec, "owner", "me")
    rbd_cli("trash", "mv", spec)
    told = refuses("rbd_image.present", spec, size="8M")
    assert f"an image of that name lies in the trash (id {identity}). Declare restore_from_trash: True" in told
    ran = converges("rbd_image.present", spec, size="16M", metadata={"owner": "you"}, restore_from_trash=True)
    assert ran.changes == changed(spec, image=("in the trash", "present"), size=("8M", "16M"), **{"metadata.owner": ("me", "you")})
    assert rbd_cli.json("info", spec)["id"] == identity
    assert trashed(rbd_cli, spec) == []


def test_a_new_one_beside_the_trash(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity = rbd_cli.json("info", spec)["id"]
    rbd_cli("trash", "mv", spec)
    assert converges("rbd_image.present", spec, size="8M", restore_from_trash=False).changes == made(spec, size="8M")
    assert rbd_cli.json("info", spec)["id"] != identity
    assert trashed(rbd_cli, spec) == [identity]


def test_restored_with_another_layout_is_refused(spec, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("trash", "mv", spec)
    told = refuses("rbd_image.present", spec, size="8M", object_size="1M", restore_from_trash=True)
    assert "object_size is 4M and cannot be changed to 1M" in told
    assert len(trashed(rbd_cli, spec)) == 1


def test_several_of_one_name_in_the_trash(spec, converges, refuses, rbd_cli):
    ids = []
    for size in ("8M", "16M"):
        rbd_cli("create", spec, "--size", size)
        ids.append(rbd_cli.json("info", spec)["id"])
        rbd_cli("trash", "mv", spec)
    told = refuses("rbd_image.present", spec, size="16M", restore_from_trash=True)
    assert "2 images of that name lie in the trash" in told
    assert all(f"id {identity}" in told for identity in ids)
    assert "restore_from_trash: ID" in told
    converges("rbd_image.present", spec, size="16M", restore_from_trash=ids[1])
    assert (rbd_cli.json("info", spec)["id"], trashed(rbd_cli, spec)) == (ids[1], [ids[0]])


def test_restore_declared_for_good_makes_a_new_one_where_none_lies_in_the_trash(spec, converges):
    assert converges("rbd_image.present", spec, size="8M", restore_from_trash=True).changes == made(spec, size="8M")


# What stands in the way.


def test_clones_stand_in_the_way(spec, other_pool, converges, refuses, modules, rbd_cli):
    other = other_pool
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@one")
    rbd_cli("snap", "protect", f"{spec}@one")
    one, two, three = f"{spec}-1", f"{other}/n/two", f"{other}/three"
    rbd_cli("clone", "--rbd-default-clone-format", "1", f"{spec}@one", one)
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@one", two)
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@one", three)
    identity = rbd_cli.json("info", three)["id"]
    rbd_cli("trash", "mv", three)
    told = refuses("rbd_image.absent", spec)
    in_trash = f"the clone {other}/three (in the trash, id {identity})"
    assert told == f"{spec} is not removed. In the way are: " + "; ".join(sorted([f"the clone {one}", f"the clone {two}", in_trash])) + "."
    told = refuses("rbd_image.absent", spec, trash=False)
    assert all(words in told for words in (f"the clone {one}", f"the clone {two}", in_trash, f"the protected snapshot {spec}@one"))
    for function in (modules.rbd_image.trash, modules.rbd_image.remove):  # nor by the execution modules
        with pytest.raises(Exception, match="In the way are"):
            function(spec)
    assert rbd_cli.json("info", spec)["size"] == 8 * M
    # One after the other goes; the last one was in the way too.
    for name in (one, two):
        converges("rbd_image.absent", name, trash=False)
    assert refuses("rbd_image.absent", spec) == f"{spec} is not removed. In the way are: {in_trash}."
    rbd_cli("trash", "rm", f"{other}/{identity}")
    converges("rbd_image.absent", spec)


def test_snapshots_stand_in_the_way_of_removal_only(spec, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    for name in ("a", "b"):
        rbd_cli("snap", "create", f"{spec}@{name}")
    rbd_cli("snap", "protect", f"{spec}@b")
    told = refuses("rbd_image.absent", spec, trash=False)
    assert told == f"{spec} is not removed. In the way are: the protected snapshot {spec}@b; the snapshot {spec}@a."
    converges("rbd_image.absent", spec)
    assert len(trashed(rbd_cli, spec)) == 1


def test_a_user_stands_in_the_way(spec, held, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    client = held(spec)
    address = rbd_cli.json("status", spec)["watchers"][0]["address"]
    for trash in (True, False):
        told = refuses("rbd_image.absent", spec, trash=trash)
        who = f"the user {address} (client.{client}, host tests)"
        assert told == f"{spec} is not removed. In the way are: {who}. {users.DEAD}"
    held.let_go()
    converges("rbd_image.absent", spec)


def test_a_lock_stands_in_the_way(spec, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("lock", "add", spec, "backup in progress")
    (lock,) = rbd_cli.json("lock", "ls", spec)
    told = refuses("rbd_image.absent", spec)
    assert f"the lock 'backup in progress' held by {lock['locker']} at {lock['address']}" in told
    rbd_cli("lock", "rm", spec, "backup in progress", lock["locker"])
    converges("rbd_image.absent", spec)


def test_librbds_own_lock_is_none(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock")
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "16K", spec)
    converges("rbd_image.absent", spec)


def test_a_group_stands_in_the_way_of_removal(pool, spec, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("group", "create", f"{pool}/g")
    rbd_cli("group", "image", "add", f"{pool}/g", spec)
    assert "the group g of images" in refuses("rbd_image.absent", spec, trash=False)
    rbd_cli("group", "image", "rm", f"{pool}/g", spec)
    converges("rbd_image.absent", spec, trash=False)


def test_everything_in_the_way_is_told_at_once(spec, held, refuses, rbd_cli):
    # With the feature exclusive-lock a writer would wait for the advisory lock.
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering")
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}-c")
    rbd_cli("lock", "add", spec, "mine")
    held(spec)
    told = refuses("rbd_image.absent", spec, trash=False)
    assert all(words in told for words in (f"the clone {spec}-c", "the lock 'mine'", f"the snapshot {spec}@s", "the user "))
