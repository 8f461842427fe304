"""rbd_image.present and absent on the real cluster, dry and for real; the rbd command looks on independently."""

import select
import subprocess
import time

import pytest
from saltrbd.errors import ImageExists

M = 1 << 20
DEFAULT = ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]


def made(name, **fields):
    """The changes of a new image."""
    return {name: {key: {"old": None, "new": value} for key, value in {"image": "present", **fields}.items()}}


def changed(name, **fields):
    return {name: {key: {"old": old, "new": new} for key, (old, new) in fields.items()}}


OTHER_CLIENT = """
import sys
import rados, rbd
conf, keyring, pool, name, statement, *words = sys.argv[1:]
cluster = rados.Rados(conffile=conf, name="client.admin", conf={"keyring": keyring})
cluster.connect(timeout=20)
context = cluster.open_ioctx(pool)
with rbd.Image(context, name) as image:
    exec(statement)
"""


@pytest.fixture
def start_client(cluster):
    """Start another client that opens an image and carries out a Python statement."""

    def start(spec, statement, *words):
        pool, name = spec.split("/")
        argv = ["/usr/bin/python3", "-c", OTHER_CLIENT, cluster.conf, cluster.keyring, pool, name, statement, *words]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return start


@pytest.fixture
def other_client(start_client):
    def run(*words):
        process = start_client(*words)
        process.communicate(timeout=60)
        assert process.returncode == 0

    return run


@pytest.fixture(scope="module")
def other_pool(make_pool, rbd_cli):
    """Another pool, with the namespace n."""
    other = make_pool()
    rbd_cli("namespace", "create", f"{other}/n")
    return other


# Making one.


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


# Sizes.


def test_grow(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    assert converges("rbd_image.present", spec, size="16M").changes == changed(spec, size=("8M", "16M"))
    assert rbd_cli.json("info", spec)["size"] == 16 * M


def test_shrink_only_when_allowed(spec, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "16M")
    told = refuses("rbd_image.present", spec, size="8M")
    assert f"{spec}: it has 16M, and shrinking it to 8M would cut off data. Declare allow_shrink: True" in told
    assert rbd_cli.json("info", spec)["size"] == 16 * M
    assert converges("rbd_image.present", spec, size="8M", allow_shrink=True).changes == changed(spec, size=("16M", "8M"))
    assert rbd_cli.json("info", spec)["size"] == 8 * M


# Features.

LOCK = ["layering", "exclusive-lock"]
MAPS = [*LOCK, "object-map", "fast-diff"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["layering"], MAPS),
        (MAPS, ["layering"]),
        (MAPS, LOCK),
        ([*LOCK, "journaling"], MAPS),
        (MAPS, [*LOCK, "journaling"]),
        ([*MAPS, "journaling"], ["layering"]),
        (["layering"], [*MAPS, "journaling"]),
    ],
    ids=lambda names: "+".join(names),
)
def test_features(spec, converges, rbd_cli, before, after):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", ",".join(before))
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", spec)
    assert converges("rbd_image.present", spec, features=after).changes == changed(spec, features=(sorted(before), sorted(after)))
    info = rbd_cli.json("info", spec)
    assert sorted(info["features"]) == sorted(after)
    # Enabled again, the maps are invalid until they were rebuilt.
    assert info["flags"] == []
    rbd_cli("object-map", "check", spec) if "object-map" in after else None


def test_an_invalid_object_map_is_rebuilt(spec, converges, unchanged, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock")
    rbd_cli("feature", "enable", spec, "object-map")
    assert "object map invalid" in rbd_cli.json("info", spec)["flags"]
    unchanged("rbd_image.present", spec, size="8M")  # nobody declared the feature
    ran = converges("rbd_image.present", spec, features=MAPS)
    assert ran.changes == changed(spec, flags=(["fast-diff-invalid", "object-map-invalid"], []))
    assert rbd_cli.json("info", spec)["flags"] == []


def test_the_object_maps_of_snapshots_are_rebuilt_too(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock")
    rbd_cli("snap", "create", f"{spec}@s")
    converges("rbd_image.present", spec, features=MAPS)
    assert rbd_cli.json("info", f"{spec}@s")["flags"] == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (["layering"], ["exclusive-lock"], ["layering cannot be changed"]),
        (["exclusive-lock"], LOCK, ["layering cannot be changed"]),
        (LOCK, [*LOCK, "deep-flatten"], ["deep-flatten cannot be enabled"]),
        ([*LOCK, "deep-flatten"], LOCK, ["disabling deep-flatten cannot be undone", "rbd feature disable"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_features_that_cannot_change(spec, refuses, rbd_cli, before, after, words):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", ",".join(before))
    told = refuses("rbd_image.present", spec, features=after)
    assert all(word in told and spec in told for word in words)
    assert sorted(rbd_cli.json("info", spec)["features"]) == sorted(before)


# Layout.


def test_layout_cannot_change(pool, spec, refuses, rbd_cli, other_pool):
    data, other = other_pool, pool
    words = ["--size", "8M", "--object-size", "1M", "--stripe-unit", "64K", "--stripe-count", "2", "--data-pool", data]
    rbd_cli("create", spec, *words)
    for declared, told in (
        ({"object_size": "4M"}, "object_size is 1M and cannot be changed to 4M"),
        ({"stripe_unit": "32K", "stripe_count": 2}, "stripe_unit is 64K and cannot be changed to 32K"),
        ({"stripe_unit": "64K", "stripe_count": 4}, "stripe_count is 2 and cannot be changed to 4"),
        ({"data_pool": other}, f"data_pool is {data} and cannot be changed to {other}"),
    ):
        # What could be done is not done either.
        assert f"{spec}: {told}" in refuses("rbd_image.present", spec, size="16M", **declared)
    assert rbd_cli.json("info", spec)["size"] == 8 * M


# Metadata and config.


def test_metadata(spec, converges, unchanged, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("image-meta", "set", spec, "other", "kept")
    ran = converges("rbd_image.present", spec, metadata={"owner": "a", "ä😀": "ö"})
    assert ran.changes == changed(spec, **{"metadata.owner": (None, "a"), "metadata.ä😀": (None, "ö")})
    assert converges("rbd_image.present", spec, metadata={"owner": "b"}).changes == changed(spec, **{"metadata.owner": ("a", "b")})
    ran = converges("rbd_image.present", spec, metadata={"owner": None, "never": None})
    assert ran.changes == changed(spec, **{"metadata.owner": ("b", None)})
    assert rbd_cli.json("image-meta", "list", spec) == {"other": "kept", "ä😀": "ö"}
    unchanged("rbd_image.present", spec, metadata={})


def test_config(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    declared = {"rbd_qos_iops_limit": 100, "rbd_cache": False}
    ran = converges("rbd_image.present", spec, config=declared)
    assert ran.changes == changed(spec, **{"config.rbd_qos_iops_limit": (None, "100"), "config.rbd_cache": (None, "false")})
    converges("rbd_image.present", spec, config={"rbd_cache": None, "rbd_qos_iops_limit": 200})
    listed = {item["name"]: item for item in rbd_cli.json("config", "image", "list", spec)}
    assert (listed["rbd_qos_iops_limit"]["value"], listed["rbd_qos_iops_limit"]["source"]) == ("200", "image")
    assert listed["rbd_cache"]["source"] == "config"


def test_empty_values_that_somebody_else_set(spec, other_client, modules, converges, rbd_cli):
    # The bindings of 16.2 leave empty values out of their list, and every later key gets its neighbour's value.
    rbd_cli("create", spec, "--size", "8M")
    for key, value in (("a", ""), ("owner", "me"), ("z", "last")):
        other_client(spec, "image.metadata_set(*words)", key, value)
    assert modules.rbd_image.info(spec)["metadata"] == {"a": "", "owner": "me", "z": "last"}
    assert converges("rbd_image.present", spec, metadata={"a": "b", "owner": "me"}).changes == changed(spec, **{"metadata.a": ("", "b")})


SET_MANY = """
with rados.WriteOpCtx() as operation:
    context.set_omap(operation, ["metadata_key%04d" % n for n in range(1500)], [b"%d" % n for n in range(1500)])
    context.operate_write_op(operation, "rbd_header." + image.id())
"""


def test_more_metadata_than_an_osd_gives_at_once(spec, other_client, modules, rbd_cli):
    rbd_cli("create", spec, "--size", "1M")
    other_client(spec, SET_MANY)
    assert rbd_cli("image-meta", "get", spec, "key0000") == "0"
    assert modules.rbd_image.info(spec)["metadata"] == {f"key{number:04}": f"{number}" for number in range(1500)}


def test_many_changes_at_once(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering")
    ran = converges("rbd_image.present", spec, size="16M", features=MAPS, metadata={"a": 1}, config={"rbd_cache": False})
    assert set(ran.changes[spec]) == {"size", "features", "metadata.a", "config.rbd_cache"}


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
    assert f"the new image (id {identity}) is left there: another image has its name by now" in said
    assert rbd_cli.json("info", spec)["size"] == 1 << 20


# Removal, and the trash.


def trashed(rbd_cli, spec):
    pool, name = spec.split("/")
    return [item["id"] for item in rbd_cli.json("trash", "ls", pool) if item["name"] == name]


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


@pytest.fixture
def held(start_client):
    """Hold an image open for writing by another client, as a virtual machine would; gives its client number."""
    running = []

    def hold(spec):
        process = start_client(spec, "image.write(b'x', 0); print(cluster.get_instance_id(), flush=True); sys.stdin.read()")
        running.append(process)
        assert select.select([process.stdout], [], [], 30)[0], "the other client did not open the image"
        return process.stdout.readline().strip()

    def let_go():
        while running:
            process = running.pop()
            process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=30)

    hold.let_go = let_go
    yield hold
    let_go()


def test_a_user_stands_in_the_way(spec, held, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    client = held(spec)
    address = rbd_cli.json("status", spec)["watchers"][0]["address"]
    for trash in (True, False):
        told = refuses("rbd_image.absent", spec, trash=trash)
        assert told == f"{spec} is not removed. In the way are: the user {address} (client.{client})."
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


# The execution module.


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
