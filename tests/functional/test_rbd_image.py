"""Making images by rbd_image.present on the real cluster, dry and for real; the rbd command looks on independently."""

import subprocess

import pytest
from image_checks import DEFAULT, M, made, trashed


def test_create(spec, converges, rbd_cli):
    ran = converges("rbd_image.present", spec, size="8M")
    assert ran.changes == made(spec, size="8M")
    assert ran.comment == f"Changed {spec} (image: present, size: 8M)."
    info = rbd_cli.json("info", spec)
    assert (info["size"], info["object_size"], sorted(info["features"])) == (8 * M, 4 * M, DEFAULT)


def test_a_dry_run_makes_nothing(spec, states, rbd_cli):
    ran = states.rbd_image.present(spec, size="8M", test=True)
    assert ran.result is None
    assert ran.comment == f"Would change {spec} (image: present, size: 8M)."
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])


def test_create_with_everything(spec, converges, rbd_cli, other_pool, modules):
    data = other_pool
    declared = {
        "size": "16M",
        "features": ["layering", "exclusive-lock"],
        "object_size": "1M",
        "stripe_unit": "64K",
        "stripe_count": 4,
        "data_pool": data,
        "metadata": {"owner": "platform", "absent": None, "number": 5, "yes": True},
        "config": {"rbd_qos_iops_limit": 1000},
    }
    ran = converges("rbd_image.present", spec, **declared)
    assert ran.changes == made(
        spec,
        size="16M",
        features=["exclusive-lock", "layering"],
        object_size="1M",
        stripe_unit="64K",
        stripe_count=4,
        data_pool=data,
        metadata={"owner": "platform", "number": "5", "yes": "true"},
        config={"rbd_qos_iops_limit": "1000"},
    )
    info = rbd_cli.json("info", spec)
    assert (info["size"], info["object_size"], info["stripe_unit"], info["stripe_count"]) == (16 * M, M, 65536, 4)
    assert info["data_pool"] == data
    assert sorted(info["features"]) == ["data-pool", "exclusive-lock", "layering", "striping"]
    assert rbd_cli.json("image-meta", "list", spec) == {
        "owner": "platform",
        "number": "5",
        "yes": "true",
        "conf_rbd_qos_iops_limit": "1000",
    }
    listed = {item["name"]: item for item in rbd_cli.json("config", "image", "list", spec)}
    assert (listed["rbd_qos_iops_limit"]["value"], listed["rbd_qos_iops_limit"]["source"]) == ("1000", "image")
    assert modules.rbd_image.info(spec)["config"] == {"rbd_qos_iops_limit": "1000"}


def test_a_bare_name_lies_in_the_configured_pool(pool, spec, converges, rbd_cli):
    bare = spec.split("/")[1]
    assert converges("rbd_image.present", bare, size="8M").changes == made(spec, size="8M")
    assert rbd_cli.json("info", spec)["size"] == 8 * M


def test_in_a_namespace(pool, converges, refuses, rbd_cli):
    assert f"the namespace {pool}/ns does not exist" in refuses("rbd_image.present", f"{pool}/ns/i", size="8M")
    rbd_cli("namespace", "create", f"{pool}/ns")
    converges("rbd_image.present", f"{pool}/ns/i", size="8M")
    assert rbd_cli.json("ls", f"{pool}/ns") == ["i"]
    assert "i" not in rbd_cli.json("ls", pool)
    converges("rbd_image.absent", f"{pool}/ns/i")
    assert rbd_cli.json("ls", f"{pool}/ns") == []


def test_names_that_look_odd(pool, converges, rbd_cli):
    for name in ("[a]*?", "ä日😀", "a.b:c+d", "%41"):
        converges("rbd_image.present", f"{pool}/{name}", size="1M")
        assert rbd_cli.json("info", f"{pool}/{name}")["size"] == M


def test_one_that_is_there_is_adopted(spec, rbd_cli, unchanged):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering")
    unchanged("rbd_image.present", spec)
    unchanged("rbd_image.present", spec, size="8M", features=["layering"], object_size="4M", stripe_unit="4M", stripe_count=1)


# What cannot be made.


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({}, "does not exist, and no size is declared"),
        ({"size": "x"}, "The size 'x' is not a size"),
        ({"size": 1.5}, "must be a size such as 512M or 10G, not 1.5"),
        ({"size": "8M", "features": ["magic"]}, "Unknown features 'magic'"),
        ({"size": "8M", "features": ["exclusive-lock", "object-map"]}, "object-map and fast-diff together"),
        ({"size": "8M", "object_size": "3M"}, "not a power of two"),
        ({"size": "8M", "stripe_unit": "64K"}, "stripe_unit and stripe_count together"),
        ({"size": "8M", "stripe_unit": "8M", "stripe_count": 2}, "the stripe_unit 8M does not divide the object_size 4M"),
        ({"size": "8M", "stripe_unit": "4K", "stripe_count": 2**32}, "stripe_count must be a number"),
        ({"size": "1P"}, "too large for the feature object-map"),
        ({"size": "8M", "data_pool": "no-such-pool"}, "the data pool no-such-pool does not exist"),
        ({"size": "8M", "config": {"rbd_nonsense": 1}}, "Ceph has no config key 'rbd_nonsense' for images"),
        ({"size": "8M", "config": {"nonsense": 1}}, "they begin with rbd_"),
        ({"size": "8M", "metadata": {"a": ""}}, "must be text or a number, and not empty"),
        ({"size": "8M", "allow_shrink": "no"}, "allow_shrink must be True or False, not 'no'"),
        ({"size": "8M", "restore_from_trash": 7}, "restore_from_trash must be True, False or an id"),
        ({"size": "8M", "restore_from_trash": "1f00"}, "no image of that name with the id '1f00' lies in the trash (none)"),
    ],
)
def test_refused_creation(spec, refuses, rbd_cli, declared, words):
    assert words in refuses("rbd_image.present", spec, **declared)
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a b/c", "white space"),
        ("rbd/i@s", "names a snapshot, where an image is wanted"),
        ("no-such-pool/i", "the pool no-such-pool does not exist"),
    ],
)
def test_bad_names(refuses, name, words):
    assert words in refuses("rbd_image.present", name=name, size="8M")
    assert words in refuses("rbd_image.absent", name=name)


def test_what_only_trying_can_tell_leaves_nothing_behind(spec, states, rbd_cli):
    ran = states.rbd_image.present(spec, size="8M", config={"rbd_qos_iops_limit": "many"})
    assert ran.result is False
    assert "Ceph takes no config rbd_qos_iops_limit = 'many'" in ran.comment
    assert ran.changes == {}
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])
    assert trashed(rbd_cli, spec) == []


# Makes an image as the worker does, and gives its name to another one before Ceph refuses its metadata.
SWAPPED = """
import sys
sys.path.insert(0, sys.argv[1])
import images, rbd
from session import Session, describe
conf, keyring, pool, image = sys.argv[2:]
settings = {"conf": conf, "keyring": keyring, "mon_host": "", "user": "admin", "timeout": 30}
session = Session(settings, lambda **told: None)
context = session.ioctx(pool)

def swap(handle, metadata, config):
    rbd.RBD().rename(context, image, image + "-old")
    rbd.RBD().create(context, image, 1 << 20, old_format=False)
    raise rbd.InvalidArgument("no such option")

images.annotate = swap
try:
    images.image_create(session, None, pool, "", image, 8 << 20)
except Exception as error:
    print(*describe(error)[:2])
"""


def test_what_fails_half_way_takes_away_what_it_made_and_nothing_else(spec, cluster, repo, rbd_cli):
    pool, _, name = spec.partition("/")
    argv = ["/usr/bin/python3", "-c", SWAPPED, str(repo / "_utils/saltrbd/worker"), cluster.conf, cluster.keyring, pool, name]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
    identity = rbd_cli.json("info", f"{spec}-old")["id"]
    assert said.startswith("InvalidArgument ")
    assert f"the new image (id {identity}) is left there: the image of that name is another one by now" in said
    assert rbd_cli.json("info", spec)["size"] == 1 << 20
