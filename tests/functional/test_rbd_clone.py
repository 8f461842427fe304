"""rbd_clone.present on the real cluster, dry and for real; the rbd command looks on independently."""

import pytest
from image_checks import M, changed, trashed
from salt.exceptions import CommandExecutionError
from saltrbd.errors import ImageExists


def made(name, parent, size="8M", **fields):
    fields = {"image": "present", "size": size, "parent": parent, **fields}
    return {name: {key: {"old": None, "new": value} for key, value in fields.items()}}


@pytest.fixture(scope="module")
def golden(pool, rbd_cli):
    """A protected snapshot that the tests of this file clone from; a snapshot that is not protected lies beside it."""
    rbd_cli("create", f"{pool}/golden", "--size", "8M")
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", f"{pool}/golden")
    for name in ("s", "bare"):
        rbd_cli("snap", "create", f"{pool}/golden@{name}")
    rbd_cli("snap", "protect", f"{pool}/golden@s")
    return f"{pool}/golden@s"


@pytest.fixture
def bare(golden):
    return golden[: -len("s")] + "bare"


# Making one.


def test_clone(golden, spec, converges, rbd_cli):
    ran = converges("rbd_clone.present", spec, parent=golden)
    # A fresh 16.2 admits clients that read format 1 alone.
    assert ran.changes == made(spec, golden, clone_format=1)
    info = rbd_cli.json("info", spec)
    assert (info["size"], info["parent"]["image"], info["parent"]["snapshot"]) == (8 * M, "golden", "s")
    assert "clone-child" not in info["op_features"]
    assert sorted(info["features"]) == ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]


def test_a_dry_run_makes_nothing(golden, spec, states, rbd_cli):
    assert states.rbd_clone.present(spec, parent=golden, test=True).result is None
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])


@pytest.mark.parametrize("number", [2, "2"])
def test_format_2_needs_no_protection(bare, spec, converges, rbd_cli, number):
    assert converges("rbd_clone.present", spec, parent=bare, clone_format=number).changes == made(spec, bare, clone_format=2)
    assert "clone-child" in rbd_cli.json("info", spec)["op_features"]


def test_formats_side_by_side(golden, spec, converges, rbd_cli):
    """The format is an option of a whole session; the worker never switches it on one that others share."""
    for index, number in enumerate((1, 2, 1, 2)):
        converges("rbd_clone.present", f"{spec}-{index}", parent=golden, clone_format=number)
        assert ("clone-child" in rbd_cli.json("info", f"{spec}-{index}")["op_features"]) == (number == 2)


def test_clone_with_everything(golden, spec, other_pool, converges, rbd_cli):
    ran = converges(
        "rbd_clone.present",
        spec,
        parent=golden,
        size="16M",
        features=["layering", "exclusive-lock"],
        object_size="1M",
        stripe_unit="64K",
        stripe_count=2,
        data_pool=other_pool,
        clone_format=2,
        metadata={"owner": "me"},
        config={"rbd_cache": False},
    )
    assert ran.changes == made(
        spec,
        golden,
        size="16M",
        features=["exclusive-lock", "layering"],
        object_size="1M",
        stripe_unit="64K",
        stripe_count=2,
        data_pool=other_pool,
        clone_format=2,
        metadata={"owner": "me"},
        config={"rbd_cache": "false"},
    )
    info = rbd_cli.json("info", spec)
    assert (info["size"], info["object_size"], info["stripe_unit"], info["stripe_count"]) == (16 * M, M, 65536, 2)
    assert info["data_pool"] == other_pool
    assert info["parent"]["overlap"] == 8 * M
    assert rbd_cli.json("image-meta", "list", spec) == {"owner": "me", "conf_rbd_cache": "false"}


def test_a_smaller_object_size_than_the_parents(golden, spec, converges, rbd_cli):
    # librbd alone would keep the parent's object size as stripe unit, and refuse.
    converges("rbd_clone.present", spec, parent=golden, object_size="1M")
    info = rbd_cli.json("info", spec)
    assert (info["object_size"], "stripe_unit" in info) == (M, False)


def test_a_clone_takes_over_metadata(spec, rbd_cli, converges):
    rbd_cli("create", spec, "--size", "8M")
    for key in ("kept", "changed", "dropped"):
        rbd_cli("image-meta", "set", spec, key, "parent's")
    rbd_cli("config", "image", "set", spec, "rbd_qos_iops_limit", "100")
    rbd_cli("snap", "create", f"{spec}@s")
    declared = {"metadata": {"changed": "own", "dropped": None, "never": None}, "config": {"rbd_qos_iops_limit": None}}
    ran = converges("rbd_clone.present", f"{spec}-c", parent=f"{spec}@s", clone_format=2, **declared)
    assert ran.changes == made(f"{spec}-c", f"{spec}@s", clone_format=2, metadata={"changed": "own"})
    assert rbd_cli.json("image-meta", "list", f"{spec}-c") == {"kept": "parent's", "changed": "own"}


def test_across_pools_and_namespaces(golden, spec, other_pool, converges, refuses, rbd_cli):
    name = spec.split("/")[1]
    converges("rbd_clone.present", f"{other_pool}/{name}", parent=golden)
    told = refuses("rbd_clone.present", f"{other_pool}/n/{name}", parent=golden)
    assert "a clone of format 1 lies in the namespace of its parent" in told
    converges("rbd_clone.present", f"{other_pool}/n/{name}", parent=golden, clone_format=2)
    rbd_cli("snap", "create", f"{other_pool}/n/{name}@t")
    converges("rbd_clone.present", spec, parent=f"{other_pool}/n/{name}@t", clone_format=2)  # and back
    parent = rbd_cli.json("info", spec)["parent"]
    assert (parent["pool"], parent["pool_namespace"], parent["image"], parent["snapshot"]) == (other_pool, "n", name, "t")


def test_a_clone_of_a_clone(golden, spec, converges, modules, rbd_cli):
    above = golden
    for depth in range(3):
        converges("rbd_clone.present", f"{spec}-{depth}", parent=above)
        above = f"{spec}-{depth}@s"
        converges("rbd_snapshot.protected", above)
    assert modules.rbd_clone.info(f"{spec}-2") == {"parent": f"{spec}-1@s", "clone_format": 1}
    assert modules.rbd_clone.children(f"{spec}-0") == {f"{spec}-0@s": [f"{spec}-1"]}


# What cannot be made.


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"parent": "{pool}/none@s"}, "the parent's image {pool}/none does not exist, and no earlier state makes it"),
        ({"parent": "{pool}/golden@none"}, "the parent {pool}/golden@none does not exist, and no earlier state makes it"),
        ({"parent": "no-such-pool/a@s"}, "the pool no-such-pool does not exist"),
        ({"parent": "{pool}/golden"}, "names no snapshot; write {pool}/golden@SNAPSHOT"),
        ({"parent": 5}, "must be named as text"),
        (
            {"parent": "{pool}/golden@bare"},
            "a clone of format 1 needs a protected parent. Declare rbd_snapshot.protected for {pool}/golden@bare",
        ),
        ({"parent": "{pool}/golden@bare", "clone_format": 1}, "a clone of format 1 needs a protected parent"),
        ({"clone_format": 3}, "clone_format must be auto, 1 or 2, not 3"),
        ({"size": "4M"}, "its parent {pool}/golden@s has 8M, and a clone cannot begin with less than that; 4M is declared"),
        ({"size": "x"}, "is not a size"),
        ({"size": "1P"}, "too large for the feature object-map"),
        ({"features": ["exclusive-lock"]}, "a clone needs the feature layering"),
        ({"data_pool": "no-such-pool"}, "the data pool no-such-pool does not exist"),
        ({"config": {"rbd_nonsense": 1}}, "Ceph has no config key 'rbd_nonsense'"),
        ({"stripe_unit": "8M", "stripe_count": 2}, "the stripe_unit 8M does not divide the object_size 4M"),
    ],
)
def test_refused(golden, pool, spec, refuses, rbd_cli, declared, words):
    declared = {"parent": golden, **declared}
    declared = {key: value.format(pool=pool) if isinstance(value, str) else value for key, value in declared.items()}
    assert words.format(pool=pool) in refuses("rbd_clone.present", spec, **declared)
    assert spec.split("/")[1] not in rbd_cli.json("ls", pool)


def test_no_namespace_to_lie_in(golden, other_pool, refuses):
    told = refuses("rbd_clone.present", f"{other_pool}/none/c", parent=golden, clone_format=2)
    assert f"the namespace {other_pool}/none does not exist" in told


def test_not_of_itself(golden, refuses):
    told = refuses("rbd_clone.present", golden[: -len("@s")], parent=golden)
    assert "exists and has no parent" in told


def test_a_parent_without_layering(spec, rbd_cli, refuses):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "exclusive-lock")
    rbd_cli("snap", "create", f"{spec}@s")
    assert "lacks the feature layering" in refuses("rbd_clone.present", f"{spec}-c", parent=f"{spec}@s", clone_format=2)


def test_what_only_trying_can_tell_leaves_nothing_behind(golden, spec, states, rbd_cli):
    ran = states.rbd_clone.present(spec, parent=golden, config={"rbd_qos_iops_limit": "many"})
    assert (ran.result, ran.changes) == (False, {})
    assert "Ceph takes no config rbd_qos_iops_limit = 'many'" in ran.comment
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])


# One that is there.


@pytest.fixture
def clone(golden, spec, rbd_cli):
    rbd_cli("clone", "--rbd-default-clone-format", "2", golden, spec)
    return spec


def test_adopted(golden, clone, unchanged):
    unchanged("rbd_clone.present", clone, parent=golden)
    unchanged("rbd_clone.present", clone, parent=golden, size="8M", clone_format=2, object_size="4M")


def test_grow_and_annotate(golden, clone, converges, rbd_cli):
    ran = converges(
        "rbd_clone.present", clone, parent=golden, size="16M", metadata={"a": 1}, features=["layering", "exclusive-lock", "deep-flatten"]
    )
    assert set(ran.changes[clone]) == {"size", "metadata.a", "features"}
    assert rbd_cli.json("info", clone)["size"] == 16 * M


def test_drift_that_cannot_be_mended(golden, bare, clone, pool, refuses):
    assert f"{clone} is a clone of {golden}, not of {bare} as declared" in refuses("rbd_clone.present", clone, parent=bare)
    # Not even a parent that does not exist is passed over.
    assert f"not of {pool}/none@s as declared" in refuses("rbd_clone.present", clone, parent=f"{pool}/none@s")
    assert "clone_format is 2 and cannot be changed to 1" in refuses("rbd_clone.present", clone, parent=golden, clone_format=1)
    assert "shrinking it to 4M would cut off data" in refuses("rbd_clone.present", clone, parent=golden, size="4M")
    assert "object_size is 4M and cannot be changed to 1M" in refuses("rbd_clone.present", clone, parent=golden, object_size="1M")


def test_flattened(golden, clone, refuses, rbd_cli):
    rbd_cli("flatten", clone)
    told = refuses("rbd_clone.present", clone, parent=golden)
    assert f"{clone} exists and has no parent, where {golden} is declared. Was it flattened, or made as an image?" in told


def test_a_parent_that_went_since(spec, unchanged, rbd_cli):
    """Under clones of format 2, Ceph lets the snapshot and even the image go to the trash."""
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}-c")
    rbd_cli("snap", "rm", f"{spec}@s")
    unchanged("rbd_clone.present", f"{spec}-c", parent=f"{spec}@s")
    rbd_cli("trash", "mv", spec)
    unchanged("rbd_clone.present", f"{spec}-c", parent=f"{spec}@s")


# A clone that lies in the trash.


def test_what_lies_in_the_trash_is_not_passed_over(golden, bare, clone, converges, refuses, rbd_cli):
    identity = rbd_cli.json("info", clone)["id"]
    rbd_cli("trash", "mv", clone)
    told = refuses("rbd_clone.present", clone, parent=golden)
    assert f"an image of that name lies in the trash (id {identity}). Declare restore_from_trash: True to bring it back" in told
    assert "must be True, False or an id" in refuses("rbd_clone.present", clone, parent=golden, restore_from_trash=7)
    told = refuses("rbd_clone.present", clone, parent=bare, restore_from_trash=True)
    assert f"{clone} is a clone of {golden}, not of {bare} as declared" in told
    assert trashed(rbd_cli, clone) == [identity]
    ran = converges("rbd_clone.present", clone, parent=golden, size="16M", restore_from_trash=True)
    assert ran.changes == changed(clone, image=("in the trash", "present"), size=("8M", "16M"))
    assert (rbd_cli.json("info", clone)["id"], trashed(rbd_cli, clone)) == (identity, [])


def test_a_new_one_beside_the_trash(golden, clone, converges, rbd_cli):
    identity = rbd_cli.json("info", clone)["id"]
    rbd_cli("trash", "mv", clone)
    ran = converges("rbd_clone.present", clone, parent=golden, restore_from_trash=False)
    assert ran.changes == made(clone, golden, clone_format=1)
    assert trashed(rbd_cli, clone) == [identity] != [rbd_cli.json("info", clone)["id"]]


def test_what_an_earlier_state_moves_to_the_trash_is_there(golden, clone, state_run):
    """The dry run knows what the real run will find."""
    sls = f"""
gone:
  rbd_image.absent:
    - name: {clone}
again:
  rbd_clone.present:
    - name: {clone}
    - parent: {golden}
"""
    dry, real = (state_run(sls, test=test) for test in (True, False))
    assert (dry[0].result, real[0].result) == (None, True)
    assert dry[1].result is real[1].result is False
    assert dry[1].comment == real[1].comment and "lies in the trash (id " in real[1].comment
    sls += "    - restore_from_trash: True\n"
    again = state_run(sls, test=True)
    assert again[1].changes == state_run(sls)[1].changes == changed(clone, image=("in the trash", "present"))


# The execution module.


def test_module(golden, bare, spec, modules, rbd_cli):
    identity = modules.rbd_clone.create(spec, golden, metadata={"a": "b", "c": None})
    assert rbd_cli.json("info", spec)["id"] == identity
    assert rbd_cli.json("image-meta", "list", spec) == {"a": "b"}
    assert modules.rbd_clone.info(spec) == {"parent": golden, "clone_format": 1}
    assert modules.rbd_clone.info(golden[: -len("@s")]) == {"parent": None, "clone_format": None}
    assert spec in modules.rbd_clone.children(golden)[golden]
    assert modules.rbd_clone.children(golden[: -len("s")] + "none") == {}
    modules.rbd_clone.create(f"{spec}-2", bare, clone_format=2)
    rbd_cli("trash", "mv", f"{spec}-2")
    assert any(name.startswith(f"{spec}-2 (in the trash, id ") for name in modules.rbd_clone.children(bare)[bare])


def test_many_clones_of_one_snapshot(golden, pool, modules, rbd_cli):
    names = [f"{pool}/desk-{number}" for number in range(8)]
    ids = modules["rbd_clone.create"](names, golden)
    assert ids == {name: facts["id"] for name, facts in modules["rbd_image.info"](names).items()}
    assert set(names) <= set(modules["rbd_clone.children"](golden)[golden])
    with pytest.raises(ImageExists, match="/desk-0 failed.*/desk-7 failed"):
        modules["rbd_clone.create"]([names[0], names[7], f"{pool}/desk-8"], golden)
    assert modules["rbd_clone.info"](f"{pool}/desk-8")["parent"] == golden


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda create, spec, pool: create(spec, f"{pool}/none@s"),
            "ImageNotFound",
            "Cloning to the image {spec} failed: the parent's image does not exist",
        ),
        (lambda create, spec, pool: create(spec, f"{pool}/golden@none"), "SnapshotNotFound", "the parent's snapshot does not exist"),
        (
            lambda create, spec, pool: create(spec, f"{pool}/golden@bare"),
            "NotProtected",
            "a clone of format 1 needs a protected parent snapshot",
        ),
        (lambda create, spec, pool: create(f"{pool}/golden", f"{pool}/golden@s"), "ImageExists", "exists"),
        (lambda create, spec, pool: create(spec, f"{pool}/golden@s", object_size="3M"), "InvalidArgument", "not a power of two"),
        (
            lambda create, spec, pool: create(spec, f"{pool}/golden@s", data_pool="none"),
            "PoolNotFound",
            "the data pool none does not exist",
        ),
        (lambda create, spec, pool: create(spec, f"{pool}/golden@s", clone_format="new"), "InvalidArgument", "must be auto, 1 or 2"),
        (lambda create, spec, pool: create(spec, f"{pool}/golden"), "InvalidSpec", "names no snapshot"),
    ],
)
def test_module_errors(golden, pool, spec, modules, rbd_cli, call, kind, words):
    with pytest.raises(CommandExecutionError) as error:
        call(modules.rbd_clone.create, spec, pool)
    assert type(error.value).__name__ == kind
    assert words.format(spec=spec) in str(error.value)
    assert spec.split("/")[1] not in rbd_cli.json("ls", pool)


def test_children_belong_to_their_snapshot(spec, modules, rbd_cli, refuses, converges):
    rbd_cli("create", spec, "--size", "8M")
    for name in ("a", "b", "none"):
        rbd_cli("snap", "create", f"{spec}@{name}")
    for name in ("a", "b"):
        rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@{name}", f"{spec}-{name}")
    assert modules.rbd_clone.children(spec) == {f"{spec}@a": [f"{spec}-a"], f"{spec}@b": [f"{spec}-b"]}
    assert modules.rbd_clone.children(f"{spec}@b") == {f"{spec}@b": [f"{spec}-b"]}
    assert f"these clones hang on it: {spec}-b." in refuses("rbd_snapshot.absent", f"{spec}@b")
    converges("rbd_snapshot.absent", f"{spec}@none")


# A cluster that admits only clients of format 2.


def test_auto_is_2_where_the_cluster_allows_it(private_cluster, make_loaders, rbd_cli):
    from labkit import cluster as lab_cluster

    keys = ("fsid", "monitors", "conf", "user", "keyring")
    pillar = {"ceph": {**{key: getattr(private_cluster, key) for key in keys}, "pool": "rbd"}}
    loaders = make_loaders(pillar=pillar)
    loaders.modules.rbd_image.create("a", "8M")
    loaders.modules.rbd_snapshot.create("a@s")
    for test in (True, False):
        assert "needs a protected parent" in loaders.states.rbd_clone.present("c", parent="a@s", test=test).comment
    lab_cluster.ceph(private_cluster.folder, "osd", "set-require-min-compat-client", "mimic")
    dry = loaders.states.rbd_clone.present("c", parent="a@s", test=True)
    real = loaders.states.rbd_clone.present("c", parent="a@s")
    assert (dry.result, real.result) == (None, True)
    assert dry.changes == real.changes == made("rbd/c", "rbd/a@s", clone_format=2)
    assert "clone-child" in type(rbd_cli)(private_cluster).json("info", "rbd/c")["op_features"]
    again = loaders.states.rbd_clone.present("c", parent="a@s")
    assert (again.result, again.changes) == (True, {})
