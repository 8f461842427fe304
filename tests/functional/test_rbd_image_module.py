"""The execution module rbd_image on the real cluster."""

import time

import pytest
from image_checks import M
from saltrbd.errors import ImageExists, PermissionDenied


def test_list_and_info(pool, spec, modules, rbd_cli):
    names = [f"{spec}{letter}".split("/")[1] for letter in "ab"]
    for name in names:
        rbd_cli("create", f"{pool}/{name}", "--size", "8M")
    assert [name for name in modules.rbd_image.list() if name in names] == names
    assert modules.rbd_image.list(pool) == modules.rbd_image.list()
    found = modules.rbd_image.info([f"{pool}/{names[0]}", names[1], f"{pool}/none"])
    assert {name: facts and facts["size"] for name, facts in found.items()} == {
        f"{pool}/{names[0]}": 8 * M,
        names[1]: 8 * M,
        f"{pool}/none": None,
    }
    with pytest.raises(Exception, match=f"Reading the image {pool}/none failed: the image does not exist"):
        modules.rbd_image.info(f"{pool}/none")


def test_info_of_an_image_with_everything(spec, held, modules, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("bench", "--io-type", "write", "--io-size", "1M", "--io-total", "4M", "--io-pattern", "seq", spec)
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}-c")
    client = held(spec)
    facts = modules.rbd_image.info(spec, children="formats", users=True, usage=True)
    assert [child["image"] for child in facts["snapshots"][0]["children"]] == [f"{spec}-c".split("/")[1]]
    assert facts["snapshots"][0]["children"][0]["clone_format"] == 2
    assert [str(watcher["client"]) for watcher in facts["watchers"]] == [client]
    assert facts["usage"]["provisioned"] == 8 * M
    assert 4 * M <= facts["usage"]["used"] <= 8 * M
    assert abs(facts["created"] - time.time()) < 3600


def test_create_many(pool, modules, rbd_cli):
    """A list is made at once; one that is there already keeps none of the others from being made."""
    names = [f"{pool}/many-{number}" for number in range(12)]
    rbd_cli("create", "--size", "8M", names[3])
    with pytest.raises(ImageExists, match="/many-3 failed: an image of that name exists already"):
        modules["rbd_image.create"](names, "16M", metadata={"owner": "all"})
    facts = modules["rbd_image.info"](names)
    assert [facts[name]["size"] >> 20 for name in names] == [16] * 3 + [8] + [16] * 8
    assert modules["rbd_image.create"]([f"{pool}/more"], "8M") == {f"{pool}/more": modules["rbd_image.info"](f"{pool}/more")["id"]}


def test_create_resize_remove(spec, modules, rbd_cli):
    identity = modules.rbd_image.create(spec, "8M", features="layering", metadata={"a": 1, "b": None})
    assert rbd_cli.json("info", spec)["id"] == identity
    assert rbd_cli.json("image-meta", "list", spec) == {"a": "1"}
    with pytest.raises(Exception, match="exists"):
        modules.rbd_image.create(spec, "8M")
    with pytest.raises(Exception, match=f"Resizing the image {spec} failed"):
        modules.rbd_image.resize(spec, "4M")
    assert modules.rbd_image.resize(spec, "16M")
    assert modules.rbd_image.resize(spec, "16M")  # the same size is no error
    assert modules.rbd_image.resize(spec, "4M", allow_shrink=True)
    assert rbd_cli.json("info", spec)["size"] == 4 * M
    assert modules.rbd_image.set_features(spec, enable="exclusive-lock,object-map")
    assert modules.rbd_image.rebuild_object_map(spec)
    assert modules.rbd_image.set_metadata(spec, put={"c": "x", "a": None}, remove="old, older")
    assert modules.rbd_image.set_config(spec, put={"rbd_cache": False}, remove=["rbd_qos_iops_limit"])
    assert rbd_cli.json("image-meta", "list", spec) == {"c": "x", "conf_rbd_cache": "false"}
    assert modules.rbd_image.remove(spec)
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])


def test_trash_and_restore(spec, modules, rbd_cli):
    identity = modules.rbd_image.create(spec, "8M")
    assert modules.rbd_image.trash(spec, delay=3600)
    (entry,) = modules.rbd_image.trashed(spec)
    assert (entry["id"], entry["facts"]["size"]) == (identity, 8 * M)
    assert 3500 < entry["kept_until"] - entry["deleted"] < 3700
    assert identity in [item["id"] for item in modules.rbd_image.trash_list()]
    assert modules.rbd_image.restore(spec, identity)
    assert modules.rbd_image.trashed(spec) == []
    with pytest.raises(Exception, match="Restoring the image from the trash"):
        modules.rbd_image.restore(spec, "1f00")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rbd_image, spec: rbd_image.create(spec, None), "An image is made with a size"),
        (lambda rbd_image, spec: rbd_image.info([spec, 5]), "must be named as text"),
        (lambda rbd_image, spec: rbd_image.info({"a": 1}), "must be named as text"),
        (lambda rbd_image, spec: rbd_image.list(5), "The pool must be text"),
        (lambda rbd_image, spec: rbd_image.list("no-such-pool"), "the pool no-such-pool does not exist"),
        (lambda rbd_image, spec: rbd_image.list(namespace=5), "The namespace must be text"),
        (lambda rbd_image, spec: rbd_image.namespaces("a/b"), "holds '/'"),
        (lambda rbd_image, spec: rbd_image.tree(""), "The pool is empty"),
        (lambda rbd_image, spec: rbd_image.trash_list(["p"]), "The pool must be text"),
        (lambda rbd_image, spec: rbd_image.trash(spec, delay="soon"), "The delay must be seconds"),
        (lambda rbd_image, spec: rbd_image.trash(spec, delay=-1), "The delay must be seconds"),
        (lambda rbd_image, spec: rbd_image.resize(spec, "8M", allow_shrink="no"), "allow_shrink must be True or False"),
        (lambda rbd_image, spec: rbd_image.resize(spec, None), "must be a size"),
        (lambda rbd_image, spec: rbd_image.set_features(spec, enable=["magic"]), "Unknown features 'magic'"),
        (lambda rbd_image, spec: rbd_image.set_features(spec, disable=5), "The disable must be a list of names"),
        (lambda rbd_image, spec: rbd_image.set_metadata(spec, put=["a"]), "The metadata must be a mapping"),
        (lambda rbd_image, spec: rbd_image.set_metadata(spec, remove={"a": 1}), "The remove must be a list of names"),
        (lambda rbd_image, spec: rbd_image.set_config(spec, put={"a": 1}), "they begin with rbd_"),
    ],
)
def test_bad_arguments(spec, modules, call, words):
    from salt.exceptions import CommandExecutionError

    with pytest.raises(CommandExecutionError) as error:
        call(modules.rbd_image, spec)
    assert words in str(error.value)


def test_what_new_images_get(cluster, modules, ceph_cli):
    facts = modules.rbd_image.cluster()
    assert facts["fsid"] == cluster.fsid
    assert facts["require_min_compat_client"] == ceph_cli("osd", "dump")["require_min_compat_client"]
    assert facts["default_order"] == 22
    assert "rbd_qos_iops_limit" in modules.rbd_image.config_keys()


def test_namespaces(other_pool, modules):
    assert modules.rbd_image.namespaces(other_pool) == ["n"]


def test_the_tree(pool, spec, other_pool, modules, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("snap", "create", f"{spec}@white space")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{other_pool}/n/of-the-tree")
    rbd_cli("create", f"{spec}-gone", "--size", "8M")
    identity = rbd_cli.json("info", f"{spec}-gone")["id"]
    rbd_cli("trash", "mv", f"{spec}-gone")
    clone = f"    {other_pool}/n/of-the-tree  8M, clone of format 2"
    here = [f"{spec}  8M", "  @s  8M", "  @white space  8M"]
    everywhere = modules.rbd_image.tree().splitlines()
    at = everywhere.index(here[0])
    assert everywhere[at : at + 4] == [*here[:2], clone, here[2]]
    assert f"{spec}-gone in the trash  id {identity}" in everywhere
    lines = modules.rbd_image.tree(pool).splitlines()
    at = lines.index(here[0])
    assert lines[at : at + 3] == here
    assert clone not in lines


def limited(cluster, make_loaders, pool, user, namespace=""):
    """The execution modules as a site has them whose Ceph user is limited."""
    name, keyring = user
    values = {"conf": cluster.conf, "user": name, "keyring": keyring, "fsid": cluster.fsid, "pool": pool}
    return make_loaders({"ceph": dict(values, namespace=namespace) if namespace else values}).modules


def test_the_tree_of_a_user_of_one_pool(cluster, pool, spec, other_pool, make_user, make_loaders, rbd_cli):
    for name in (spec, f"{other_pool}/foreign"):
        rbd_cli("create", name, "--size", "8M")
    user = make_user("profile rbd")
    theirs = limited(cluster, make_loaders, pool, user)
    *lines, note = theirs.rbd_image.tree().splitlines()
    assert f"{spec}  8M" in lines and other_pool not in "".join(lines)
    words, _, closed = note.rstrip(".").partition(": ")
    assert words == f"Not shown, because client.{user[0]} may not read it"
    assert other_pool in closed.split(", ") and pool not in closed.split(", ")
    assert theirs.rbd_image.tree(pool).splitlines() == lines
    with pytest.raises(PermissionDenied, match=f"Listing the images of {other_pool} failed: the cluster does not permit it"):
        theirs.rbd_image.tree(other_pool)


def test_the_tree_of_a_user_of_one_namespace(cluster, pool, other_pool, make_user, make_loaders, rbd_cli, ceph_cli):
    for name in (f"{other_pool}/outside", f"{other_pool}/n/inside"):
        rbd_cli("create", name, "--size", "8M")
    user = make_user("profile rbd")
    caps = ["mon", "profile rbd", "osd", f"profile rbd pool={other_pool} namespace=n"]
    ceph_cli("auth", "caps", f"client.{user[0]}", *caps)
    theirs = limited(cluster, make_loaders, other_pool, user, "n")
    *lines, note = theirs.rbd_image.tree().splitlines()
    assert lines == [f"{other_pool}/n/inside  8M"]
    assert {pool, other_pool} <= set(note.rstrip(".").partition(": ")[2].split(", "))
