"""rbd_clone.flattened on the real cluster, and how deep clones may stand; the rbd command looks on independently."""

import logging

import pytest
from image_checks import changed
from saltrbd import device_plan, kernel
from saltrbd.errors import ImageNotFound
from saltrbd.spec import parse as name_of

NO_DEEP = ["--image-feature", "layering,exclusive-lock"]


@pytest.fixture(scope="module")
def golden(pool, rbd_cli):
    """A snapshot with data, unprotected: clones of it are of format 2."""
    rbd_cli("create", f"{pool}/golden", "--size", "32M")
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "256K", "--io-pattern", "rand", f"{pool}/golden")
    rbd_cli("snap", "create", f"{pool}/golden@s")
    return f"{pool}/golden@s"


@pytest.fixture
def clone(rbd_cli):
    def clone(parent, name, *words, number=2):
        rbd_cli("clone", "--rbd-default-clone-format", str(number), parent, name, *words)
        return name

    return clone


def parent_in(rbd_cli, spec):
    return rbd_cli.json("info", spec).get("parent")


def test_flattened(golden, spec, clone, rbd_cli, converges, unchanged, digest):
    clone(golden, spec)
    before = digest(spec)
    assert converges("rbd_clone.flattened", spec).changes == changed(spec, parent=(golden, None))
    assert parent_in(rbd_cli, spec) is None
    assert digest(spec) == before
    unchanged("rbd_clone.flattened", golden.partition("@")[0])  # never was a clone


def test_a_dry_run_copies_nothing(golden, spec, clone, rbd_cli, states):
    clone(golden, spec)
    assert states.rbd_clone.flattened(spec, test=True).result is None
    assert parent_in(rbd_cli, spec)["image"] == "golden"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{spec}", "{spec} does not exist, so it cannot be flattened."),
        ("{spec}@s", "names a snapshot, where an image is wanted"),
        ("no-such-pool/i", "the pool no-such-pool does not exist"),
    ],
)
def test_refused(spec, refuses, name, words):
    assert words.format(spec=spec) in refuses("rbd_clone.flattened", name.format(spec=spec))


def test_across_pools_with_the_parent_in_the_trash(golden, spec, other_pool, clone, rbd_cli, converges, digest):
    pool, name = spec.split("/")
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@s")
    other = clone(f"{spec}@s", f"{other_pool}/n/{name}")
    before = digest(other)
    identity = rbd_cli.json("info", spec)["id"]
    rbd_cli("snap", "rm", f"{spec}@s")  # to Ceph's trash for snapshots
    rbd_cli("trash", "mv", spec)
    assert converges("rbd_clone.flattened", other).changes == changed(other, parent=(f"{spec}@s", None))
    assert digest(other) == before
    # The snapshot went with its last clone, so that the image can be purged.
    rbd_cli("trash", "rm", f"{pool}/{identity}")


def test_snapshots_without_deep_flatten_keep_the_parent(golden, spec, clone, rbd_cli, converges):
    for name, words in ((f"{spec}-deep", []), (spec, NO_DEEP)):
        clone(golden, name, *words)
        rbd_cli("snap", "create", f"{name}@x")
    assert "go on standing" not in converges("rbd_clone.flattened", f"{spec}-deep").comment
    told = f"Its snapshots (x) go on standing on {golden}, because {spec} lacks the feature deep-flatten."
    assert told in converges("rbd_clone.flattened", spec).comment
    children = {item["image"] for item in rbd_cli.json("children", golden)}
    assert spec.split("/")[1] in children
    assert f"{spec.split('/')[1]}-deep" not in children


def test_while_in_use(golden, spec, clone, rbd_cli, held, converges, digest):
    """Another client of librbd that has the image open carries it out itself."""
    clone(golden, spec)
    held(spec)
    before = digest(spec)
    converges("rbd_clone.flattened", spec)
    assert parent_in(rbd_cli, spec) is None
    assert digest(spec) == before


def test_while_mapped_here(golden, spec, clone, driver, states, converges, refuses):
    clone(golden, spec)
    assert states.rbd_device.mapped(spec, persist=False).result is True
    if driver == "krbd":
        assert "is not flattened. In the way are: the host tests has it mapped by krbd" in refuses("rbd_clone.flattened", spec)
        assert states.rbd_device.unmapped(spec).result is True
    converges("rbd_clone.flattened", spec)


def test_the_same_run_counts_it(golden, spec, clone, rbd_cli, state_run):
    """With its last clone flattened the snapshot may go; the dry run knows."""
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@s")
    clone(f"{spec}@s", f"{spec}-c")
    sls = f"""
{spec}-c:
  rbd_clone.flattened: []
{spec}@s:
  rbd_snapshot.absent: []
"""
    dry, real = state_run(sls, test=True), state_run(sls)
    assert [ran.result for ran in dry] == [None, None]
    assert [ran.result for ran in real] == [True, True]
    assert [ran.changes for ran in dry] == [ran.changes for ran in real]


def test_the_module(golden, spec, clone, modules, rbd_cli, caplog):
    names = [clone(golden, f"{spec}-{number}") for number in range(3)]
    with caplog.at_level(logging.INFO, logger="saltrbd.client"):
        assert modules.rbd_clone.flatten([*names, golden.partition("@")[0]]) is True
    assert [parent_in(rbd_cli, name) for name in names] == [None] * 3
    with pytest.raises(ImageNotFound, match=f"Flattening the image {spec} failed: the image does not exist."):
        modules.rbd_clone.flatten(spec)


# Depth


@pytest.fixture(scope="module")
def deep(make_loaders):
    """Loaders whose pillar sets limits: ``deep(max_depth=2)``."""

    def make(**limits):
        return make_loaders({"rbd": limits})

    return make


def run(loaders, function, *args, **kwargs):
    """Run a state dry and real; both agree. Returns the real result."""
    module, _, name = function.partition(".")
    state = getattr(getattr(loaders.states, module), name)
    dry, real = state(*args, test=True, **kwargs), state(*args, **kwargs)
    assert (dry.result, dry.changes) == (None if real.changes else real.result, real.changes)
    if not real.result:
        assert dry.comment == real.comment
    return real


@pytest.fixture
def chain(golden, spec, other_pool, clone, rbd_cli):
    """golden@s, its clone in another pool's namespace whose snapshot lies in Ceph's trash, and the clone of that, which lies in the trash:
    returns the snapshot of the clone of that again, which stands on three parents."""
    pool, name = spec.split("/")
    one = clone(golden, f"{other_pool}/n/{name}")
    rbd_cli("snap", "create", f"{one}@s")
    two = clone(f"{one}@s", f"{pool}/{name}-2")
    rbd_cli("snap", "rm", f"{one}@s")
    rbd_cli("snap", "create", f"{two}@s")
    three = clone(f"{two}@s", f"{pool}/{name}-3")
    identity = rbd_cli.json("info", two)["id"]
    rbd_cli("trash", "mv", two)
    rbd_cli("snap", "create", f"{three}@s")
    words = [f"{two}@s (the image is in the trash, id {identity})", f"{one}@s (the snapshot is in Ceph's trash)", golden]
    return f"{three}@s", words


def test_depth_is_counted_through_pools_namespaces_and_trash(chain, spec, deep, modules, rbd_cli):
    source, words = chain
    found = modules.rbd_clone.parents(source)
    assert [item["image"] for item in found] == [words[0].split("/")[1].partition("@")[0], spec.split("/")[1], "golden"]
    assert [(item["trash"], item["image_trash"]) for item in found] == [(False, True), (True, False), (False, False)]
    arguments = {"parent": source, "clone_format": 2}
    refused = run(deep(max_depth=3), "rbd_clone.present", spec, **arguments)
    assert refused.result is False
    told = f"{spec} would stand on 4 parents, and rbd:max_depth is 3 (the kernel maps 16): {source}, {', '.join(words)}. "
    assert refused.comment == told + "Declare rbd_clone.flattened for one of them."
    made = run(deep(max_depth=4), "rbd_clone.present", spec, **arguments)
    assert made.result is True
    assert f"{spec} stands on 4 parents ({source}, {', '.join(words)}); 5 are refused." in made.comment
    # What is there stays, however deep.
    assert run(deep(max_depth=1), "rbd_clone.present", spec, **arguments).result is True
    shallow = run(deep(warn_depth=5), "rbd_clone.present", f"{spec}-x", **arguments)
    assert "stands on" not in shallow.comment


def test_a_dry_run_counts_what_it_would_make(golden, spec, deep, state_run_with):
    # In order: clone, its snapshot, the next clone.
    parts = []
    for number in range(1, 4):
        parent = golden if number == 1 else f"{spec}-{number - 1}@s"
        parts.append(f"{spec}-{number}:\n  rbd_clone.present:\n    - parent: {parent}\n    - clone_format: 2\n")
        parts.append(f"{spec}-{number}@s:\n  rbd_snapshot.present: []\n")
    sls = "\n".join(parts)
    runner = state_run_with(deep(max_depth=2))
    dry, real = runner(sls, test=True), runner(sls)
    assert [ran.result for ran in dry] == [None, None, None, None, False, False]
    assert [ran.result for ran in real] == [True, True, True, True, False, False]
    assert dry[4].comment == real[4].comment
    assert f"{spec}-3 would stand on 3 parents" in real[4].comment
    # Flattened in the same run, the chain is shorter, in the dry run too.
    flatten = f"{spec}-1:\n  rbd_clone.flattened: []\n" + parts[4] + parts[5]
    dry, real = runner(flatten, test=True), runner(flatten)
    assert [ran.result for ran in dry] == [None, None, None]
    assert [ran.result for ran in real] == [True, True, True]


def test_a_snapshot_that_kept_its_parent_counts(golden, spec, clone, rbd_cli, deep):
    """Flattened without deep-flatten, an old snapshot still stands on the parent, and what is cloned from it too."""
    clone(golden, spec, *NO_DEEP)
    rbd_cli("snap", "create", f"{spec}@old")
    rbd_cli("flatten", "--no-progress", spec)
    rbd_cli("snap", "create", f"{spec}@new")
    loaders = deep(max_depth=1)
    assert "would stand on 2 parents" in run(loaders, "rbd_clone.present", f"{spec}-c", parent=f"{spec}@old", clone_format=2).comment
    assert run(loaders, "rbd_clone.present", f"{spec}-c", parent=f"{spec}@new", clone_format=2).result is True


# Snapshots


def test_snapshots_are_counted_with_those_in_the_trash(spec, clone, rbd_cli, deep):
    rbd_cli("create", spec, "--size", "8M")
    for name in ("a", "b"):
        rbd_cli("snap", "create", f"{spec}@{name}")
    clone(f"{spec}@a", f"{spec}-c")
    rbd_cli("snap", "rm", f"{spec}@a")
    for function in ("rbd_snapshot.present", "rbd_snapshot.protected"):
        refused = run(deep(max_snapshots=2), function, f"{spec}@c")
        assert refused.result is False
        assert refused.comment == (
            f"{spec} has 2 snapshots, 1 of them in Ceph's trash; {spec}@c would be one more, and rbd:max_snapshots is 2 (the kernel maps "
            "510). Declare rbd_snapshot.retained."
        )
    # One that is there is no more.
    assert run(deep(max_snapshots=2), "rbd_snapshot.protected", f"{spec}@b").result is True
    made = run(deep(max_snapshots=3, warn_snapshots=3), "rbd_snapshot.present", f"{spec}@c")
    assert made.result is True
    assert f"{spec} has 2 snapshots, 1 of them in Ceph's trash, and {spec}@c is one more; 4 are refused." in made.comment
    assert "is one more" not in run(deep(warn_snapshots=5), "rbd_snapshot.present", f"{spec}@d").comment


@pytest.mark.timeout(900)
def test_more_parents_than_the_kernel_follows(spec, driver, rbd_cli, modules, ceph, states, refuses):
    """Sixteen are mapped by the kernel's rbd, one more is refused before the map, in the dry run too."""
    names = [spec, *(f"{spec}-{number}" for number in range(1, kernel.MAX_PARENTS + 2))]
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering")
    for parent, name in zip(names, names[1:]):
        snapshot = name_of(f"{parent}@s")
        ceph.call("snapshot_create", snapshot)
        ceph.call("clone_create", name_of(name), parent=snapshot.where(), clone_format=2, features=["layering"])
    for name, refused in ((names[16], False), (names[17], True)):
        parents = device_plan._parents(ceph, modules.rbd_image.info(name), {})
        told = kernel.parents_refusal(name_of(name), parents, kernel.supported_features())
        assert bool(told) is refused
        assert not told or f"cannot map {name}, which has more than 16 parents. Run 'rbd flatten {name}'" in told
    if driver == "krbd":
        assert states.rbd_device.mapped(names[16], persist=False).result is True
        assert "more than 16 parents" in refuses("rbd_device.mapped", names[17], persist=False)
        with pytest.raises(Exception, match="Invalid argument"):
            rbd_cli("device", "map", names[17])
