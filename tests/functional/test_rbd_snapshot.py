"""rbd_snapshot.present, protected, unprotected and absent on the real cluster, dry and for real.

Here nothing is mapped; what freezes filesystems has tests of its own.
"""

import time

import pytest
from salt.exceptions import CommandExecutionError

MADE = {"snapshot": {"old": None, "new": "present"}}
PROTECTED = {"protected": {"old": None, "new": True}}
REMOVED = {"snapshot": {"old": "present", "new": None}}


@pytest.fixture
def image(spec, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    return spec


@pytest.fixture
def snap(image, rbd_cli):
    """A snapshot that is there."""
    rbd_cli("snap", "create", f"{image}@s")
    return f"{image}@s"


@pytest.fixture
def look(rbd_cli):
    """What the rbd command says: {snapshot name: protected}."""

    def look(image):
        return {item["name"]: item["protected"] == "true" for item in rbd_cli.json("snap", "ls", image)}

    return look


def clone(rbd_cli, number, snapshot, name):
    rbd_cli("clone", "--rbd-default-clone-format", str(number), snapshot, name)


# present


def test_present(image, converges, look):
    ran = converges("rbd_snapshot.present", f"{image}@s")
    assert ran.changes == {f"{image}@s": MADE}
    assert ran.comment == f"Changed {image}@s (snapshot: present). Crash-consistent: {image}@s."
    assert look(image) == {"s": False}


def test_a_dry_run_makes_nothing(image, states, look):
    assert states.rbd_snapshot.protected(f"{image}@s", test=True).result is None
    assert look(image) == {}


def test_present_leaves_a_protected_one_protected(snap, image, unchanged, rbd_cli, look):
    rbd_cli("snap", "protect", snap)
    unchanged("rbd_snapshot.present", snap)
    unchanged("rbd_snapshot.protected", snap)
    assert look(image) == {"s": True}


def test_consistency(image, converges, refuses, unchanged, look):
    told = refuses("rbd_snapshot.present", f"{image}@s", consistency="filesystem")
    assert f"{image}@s cannot be made filesystem-consistent" in told
    assert look(image) == {}
    assert "Crash-consistent" in converges("rbd_snapshot.present", f"{image}@s", consistency="crash").comment
    # One that is there is not made again, whatever it was.
    unchanged("rbd_snapshot.present", f"{image}@s", consistency="filesystem")


def test_in_a_namespace(other_pool, rbd_cli, converges, look):
    rbd_cli("create", f"{other_pool}/n/i", "--size", "8M")
    converges("rbd_snapshot.protected", f"{other_pool}/n/i@s")
    assert look(f"{other_pool}/n/i") == {"s": True}
    converges("rbd_snapshot.unprotected", f"{other_pool}/n/i@s")
    converges("rbd_snapshot.absent", f"{other_pool}/n/i@s")
    assert look(f"{other_pool}/n/i") == {}


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("{image}", {}, "names no snapshot"),
        ("{image}-none@s", {}, "{image}-none does not exist, so it can have no snapshot s. Declare rbd_image.present."),
        ("no-such-pool/i@s", {}, "the pool no-such-pool does not exist"),
        ("{image}@a@b", {}, "holds '/', '@'"),
        ("{image}@s", {"consistency": "perfect"}, "must be one of auto, filesystem, crash, not 'perfect'"),
        ("{image}@s", {"images": ["{image}"]}, "With images, the name is a snapshot's name alone"),
        ("s", {"images": []}, "The list of images for the snapshot s is empty"),
        ("s", {"images": "{image}"}, "must be a list of specs"),
        ("s", {"images": 5}, "must be a list of specs, not 5"),
        ("s", {"images": ["{image}", 5]}, "must be named as text"),
        ("s", {"images": ["{image}", "{image}-none"]}, "{image}-none does not exist"),
    ],
)
def test_refused(image, refuses, look, name, more, words):
    more = {
        key: [str(item).format(image=image) if item != 5 else 5 for item in value] if isinstance(value, list) else value
        for key, value in more.items()
    }
    for function in ("rbd_snapshot.present", "rbd_snapshot.protected"):
        assert words.format(image=image) in refuses(function, name.format(image=image), **more)
    assert look(image) == {}


# protected


def test_protected(image, converges, look):
    assert converges("rbd_snapshot.protected", f"{image}@s").changes == {f"{image}@s": dict(MADE, **PROTECTED)}
    assert look(image) == {"s": True}


def test_protected_over_one_that_is_not(snap, image, converges, look):
    assert converges("rbd_snapshot.protected", snap).changes == {snap: {"protected": {"old": False, "new": True}}}
    assert look(image) == {"s": True}


def test_an_image_without_layering_cannot_be_a_parent(spec, rbd_cli, converges, refuses, look):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "exclusive-lock")
    told = f"{spec}@s cannot be protected, because its image lacks the feature layering."
    assert refuses("rbd_snapshot.protected", f"{spec}@s") == told
    assert look(spec) == {}
    converges("rbd_snapshot.present", f"{spec}@s")
    assert refuses("rbd_snapshot.protected", f"{spec}@s") == told


# unprotected


def test_unprotected(snap, image, rbd_cli, converges, unchanged, look):
    rbd_cli("snap", "protect", snap)
    assert converges("rbd_snapshot.unprotected", snap).changes == {snap: {"protected": {"old": True, "new": False}}}
    assert look(image) == {"s": False}
    unchanged("rbd_snapshot.unprotected", f"{image}@none")
    unchanged("rbd_snapshot.unprotected", f"{image}-none@s")


def test_clones_of_format_1_need_the_protection(snap, image, other_pool, rbd_cli, converges, refuses, look):
    rbd_cli("snap", "protect", snap)
    clone(rbd_cli, 2, snap, f"{image}-2")
    clone(rbd_cli, 1, snap, f"{other_pool}/one")
    told = refuses("rbd_snapshot.unprotected", snap)
    assert told == f"{snap} stays protected, because these clones of format 1 hang on it: {other_pool}/one."
    assert look(image) == {"s": True}
    rbd_cli("rm", f"{other_pool}/one")
    converges("rbd_snapshot.unprotected", snap)  # that of format 2 needs none
    assert look(image) == {"s": False}


# absent


def test_absent(snap, image, converges, unchanged, look):
    assert converges("rbd_snapshot.absent", snap).changes == {snap: REMOVED}
    assert look(image) == {}
    unchanged("rbd_snapshot.absent", f"{image}-none@s")


def test_absent_while_protected(snap, image, rbd_cli, refuses, converges, look):
    rbd_cli("snap", "protect", snap)
    for more in ({}, {"with_clones": True}):
        assert refuses("rbd_snapshot.absent", snap, **more) == f"{snap} is protected. Declare rbd_snapshot.unprotected first."
    assert look(image) == {"s": True}


@pytest.mark.parametrize("value", ["no", 1, None])
def test_only_true_itself_means_with_clones(snap, refuses, value):
    assert "with_clones must be True or False" in refuses("rbd_snapshot.absent", snap, with_clones=value)


def test_absent_under_clones(snap, image, other_pool, rbd_cli, modules, refuses, converges, unchanged, look):
    clone(rbd_cli, 2, snap, f"{image}-c")
    clone(rbd_cli, 2, snap, f"{other_pool}/n/c")
    identity = rbd_cli.json("info", f"{other_pool}/n/c")["id"]
    rbd_cli("trash", "mv", f"{other_pool}/n/c")
    told = refuses("rbd_snapshot.absent", snap)
    names = sorted([f"{image}-c", f"{other_pool}/n/c (in the trash, id {identity})"])
    assert f"these clones hang on it: {', '.join(names)}." in told
    assert "with_clones: True" in told
    with pytest.raises(Exception, match="these clones hang on it"):
        modules.rbd_snapshot.remove(snap)
    assert look(image) == {"s": False}
    converges("rbd_snapshot.absent", snap, with_clones=True)
    assert look(image) == {}
    # It lies in Ceph's trash for snapshots now, and the clones are what they were.
    (gone,) = rbd_cli.json("snap", "ls", "--all", image)
    assert gone["namespace"]["type"] == "trash"
    assert "the clone" in refuses("rbd_image.absent", image)
    assert f"the snapshot {snap} in Ceph's trash for snapshots" in refuses("rbd_image.absent", image, trash=False)
    unchanged("rbd_clone.present", f"{image}-c", parent=snap)
    # Another snapshot of that name is another parent.
    rbd_cli("snap", "create", snap)
    assert f"a clone of an older snapshot {snap} that was removed since" in refuses("rbd_clone.present", f"{image}-c", parent=snap)


# Many at once.


@pytest.fixture(scope="module")
def two_hundred(pool, modules_of_the_file):
    names = [f"{pool}/many{number:03}" for number in range(200)]
    for name in names:
        modules_of_the_file.rbd_image.create(name, "1M", features=["layering"])
    return names


@pytest.fixture(scope="module")
def modules_of_the_file(loaders):
    return loaders.modules


def test_two_hundred_at_once(two_hundred, states, rbd_cli):
    dry = states.rbd_snapshot.protected("s", images=two_hundred, test=True)
    assert dry.result is None
    assert dry.comment.endswith("and 192 more.")
    began = time.monotonic()
    real = states.rbd_snapshot.protected("s", images=two_hundred)
    took = time.monotonic() - began
    assert real.result is True, real.comment
    assert real.changes == dry.changes == {f"{name}@s": dict(MADE, **PROTECTED) for name in two_hundred}
    assert "Crash-consistent: 200 snapshots." in real.comment
    # One after the other each would wait for the monitor's next second: 200 s.
    assert took < 40
    for name in two_hundred[::67]:
        assert rbd_cli.json("snap", "ls", name)[0]["protected"] == "true"
    again = states.rbd_snapshot.protected("s", images=two_hundred)
    assert (again.result, again.changes, again.comment) == (True, {}, "The snapshot s of all the images exists and is protected.")


def test_two_hundred_less_one(two_hundred, states, converges, look, rbd_cli):
    """What is there stays, what is missing comes, and the changes name only that."""
    assert look(two_hundred[0]) == {"s": True}  # the test before this one made them
    rbd_cli("snap", "unprotect", f"{two_hundred[0]}@s")
    rbd_cli("snap", "unprotect", f"{two_hundred[1]}@s")
    rbd_cli("snap", "rm", f"{two_hundred[1]}@s")
    ran = converges("rbd_snapshot.protected", "s", images=two_hundred)
    assert ran.changes == {
        f"{two_hundred[0]}@s": {"protected": {"old": False, "new": True}},
        f"{two_hundred[1]}@s": dict(MADE, **PROTECTED),
    }


def test_unprotected_and_absent_of_two_hundred(two_hundred, converges, refuses, rbd_cli):
    rbd_cli("clone", "--rbd-default-clone-format", "1", f"{two_hundred[7]}@s", f"{two_hundred[7]}-c")
    # One refusal stops all.
    assert f"{two_hundred[7]}-c" in refuses("rbd_snapshot.unprotected", "s", images=two_hundred)
    rbd_cli("rm", f"{two_hundred[7]}-c")
    assert len(converges("rbd_snapshot.unprotected", "s", images=two_hundred).changes) == 200
    assert converges("rbd_snapshot.absent", "s", images=two_hundred).changes == {f"{name}@s": REMOVED for name in two_hundred}
    assert rbd_cli.json("snap", "ls", two_hundred[7]) == []


# The execution module.


def test_module(image, modules, rbd_cli, look):
    made = modules.rbd_snapshot.create(f"{image}@a")
    assert made == {f"{image}@a": {"consistency": "crash", "seconds": None, "reason": None}}
    modules.rbd_snapshot.create([f"{image}@b", f"{image}@c"], protect=True, consistency="crash")
    assert look(image) == {"a": False, "b": True, "c": True}
    assert sorted(modules.rbd_snapshot.list(image)) == ["a", "b", "c"]
    facts = modules.rbd_snapshot.info(f"{image}@b")
    assert (facts["name"], facts["size"], facts["protected"], facts["children"]) == ("b", 8 << 20, True, [])
    assert modules.rbd_snapshot.protect("a", images=[image])
    assert modules.rbd_snapshot.unprotect([f"{image}@a", f"{image}@b"])
    assert look(image) == {"a": False, "b": False, "c": True}
    assert modules.rbd_snapshot.remove("a", images=[image])
    assert look(image) == {"b": False, "c": True}


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda module, image: module.info(f"{image}@none"), "SnapshotNotFound", "The snapshot {image}@none does not exist"),
        (lambda module, image: module.protect(f"{image}@none"), "SnapshotNotFound", "Protecting the snapshot {image}@none failed"),
        (lambda module, image: module.unprotect(f"{image}@none"), "SnapshotNotFound", "Unprotecting the snapshot {image}@none failed"),
        (lambda module, image: module.remove(f"{image}@none"), "SnapshotNotFound", "Removing the snapshot {image}@none failed"),
        (lambda module, image: module.create(f"{image}@s"), "SnapshotExists", "Creating the snapshot {image}@s failed"),
        (lambda module, image: module.create(f"{image}-none@s"), "ImageNotFound", "{image}-none@s failed"),
        (lambda module, image: module.create(f"{image}@s", protect="no"), "InvalidArgument", "protect must be True or False"),
        (lambda module, image: module.create(f"{image}@t", consistency="filesystem"), "FreezeFailed", "{image} cannot be frozen"),
        (lambda module, image: module.remove(f"{image}@s", with_clones="no"), "InvalidArgument", "with_clones must be True or False"),
        (lambda module, image: module.remove(f"{image}@p"), "Busy", "Removing the snapshot {image}@p failed"),
        (lambda module, image: module.list(f"{image}-none"), "ImageNotFound", "{image}-none failed"),
        (lambda module, image: module.create(5), "InvalidSpec", "must be named as text"),
    ],
)
def test_module_errors(snap, image, modules, rbd_cli, look, call, kind, words):
    rbd_cli("snap", "create", f"{image}@p")
    rbd_cli("snap", "protect", f"{image}@p")
    with pytest.raises(CommandExecutionError) as error:
        call(modules.rbd_snapshot, image)
    assert type(error.value).__name__ == kind
    assert words.format(image=image) in str(error.value)
    assert look(image) == {"s": False, "p": True}


def test_module_tells_every_failure_of_a_batch(image, modules, look):
    with pytest.raises(CommandExecutionError) as error:
        modules.rbd_snapshot.create("s", images=[f"{image}-x", image, f"{image}-y"])
    assert type(error.value).__name__ == "ImageNotFound"
    assert f"{image}-x@s" in str(error.value)
    assert f"{image}-y@s" in str(error.value)
    # All or none: one moment that is incomplete is none.
    assert look(image) == {}
