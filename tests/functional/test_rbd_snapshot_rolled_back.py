"""rbd_snapshot.rolled_back on the real cluster, dry and for real; another client writes, and the content is read by the rbd command."""

import re

import pytest
from image_checks import MIRROR, M
from saltrbd.errors import Busy, Refused, SnapshotNotFound

# The features by which librbd knows of changes by maps, and without which it asks for every object.
MAPPED = "layering,exclusive-lock,object-map,fast-diff,deep-flatten"
FEATURES = [MAPPED, "layering", "layering,exclusive-lock"]


@pytest.fixture
def image(spec, rbd_cli, other_client):
    """An image with data that has a snapshot s."""
    rbd_cli("create", spec, "--size", "16M", "--image-feature", MAPPED)
    other_client(spec, "image.write(b'before' * 1000, 0); image.write(b'too', 9 << 20)")
    rbd_cli("snap", "create", f"{spec}@s")
    return spec


def rolled(image, snapshot="s", **fields):
    entry = {"content": {"old": "changed since", "new": f"as at {image}@{snapshot}"}}
    return {image: {**entry, **{key: {"old": old, "new": new} for key, (old, new) in fields.items()}}}


@pytest.mark.parametrize("features", FEATURES)
def test_rolled_back(spec, rbd_cli, other_client, converges, digest, features):
    rbd_cli("create", spec, "--size", "16M", "--image-feature", features)
    other_client(spec, "image.write(b'before' * 1000, 0); image.write(b'too', 9 << 20)")
    rbd_cli("snap", "create", f"{spec}@s")
    before = digest(spec)
    other_client(spec, "image.write(b'after', 5); image.discard(8 << 20, 4 << 20); image.write(b'new', 13 << 20)")
    assert digest(spec) != before
    assert converges("rbd_snapshot.rolled_back", f"{spec}@s", discard_changes=True).changes == rolled(spec)
    assert digest(spec) == before
    # One byte is enough, wherever it is.
    other_client(spec, "image.write(b'T', (9 << 20) + 2)")
    converges("rbd_snapshot.rolled_back", f"{spec}@s", discard_changes=True)
    assert digest(spec) == before


def test_nothing_to_do(image, unchanged, other_client):
    unchanged("rbd_snapshot.rolled_back", f"{image}@s")
    unchanged("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True)
    other_client(image, "image.write(b'before', 0)")  # the same bytes again
    unchanged("rbd_snapshot.rolled_back", f"{image}@s")


def test_it_needs_its_argument(image, other_client, refuses, states, digest):
    other_client(image, "image.write(b'x', (9 << 20) + 7)")
    after = digest(image)
    told = (
        f"{image} has changed since {image}@s, first at byte {(9 << 20) + 7}. Rolling it back loses what was written since: declare "
        "discard_changes: True for that."
    )
    assert refuses("rbd_snapshot.rolled_back", f"{image}@s") == told
    for value in ("yes", 1, None):
        assert "discard_changes must be True or False" in refuses("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=value)
    assert states.rbd_snapshot.rolled_back(f"{image}@s", discard_changes=True, test=True).result is None
    assert digest(image) == after


def test_the_size_goes_back_too(image, rbd_cli, converges, digest):
    before = digest(image)
    rbd_cli("resize", "--no-progress", "--size", "32M", image)
    assert converges("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True).changes == rolled(image, size=("32M", "16M"))
    rbd_cli("resize", "--no-progress", "--allow-shrink", "--size", "4M", image)
    assert converges("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True).changes == rolled(image, size=("4M", "16M"))
    assert (digest(image), rbd_cli.json("info", image)["size"]) == (before, 16 * M)


def test_later_snapshots_stay(image, rbd_cli, other_client, converges, digest):
    before = digest(image)
    other_client(image, "image.write(b'later', 0)")
    rbd_cli("snap", "create", f"{image}@later")
    later = digest(image)
    converges("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True)
    assert (digest(image), digest(f"{image}@later")) == (before, later)
    converges("rbd_snapshot.rolled_back", f"{image}@later", discard_changes=True)
    assert digest(image) == later


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("features", FEATURES[:2])
def test_a_clone_whose_parent_link_has_changed_since(image, rbd_cli, other_client, converges, digest, features, flatten):
    """Shrunk and grown, or flattened: what the parent gave at the snapshot is there again."""
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{image}@s", f"{image}-c", "--image-feature", features)
    rbd_cli("snap", "create", f"{image}-c@s")
    before = digest(f"{image}-c")
    if flatten:
        rbd_cli("flatten", "--no-progress", f"{image}-c")
        other_client(f"{image}-c", "image.discard(8 << 20, 4 << 20)")
    else:
        for size in ("4M", "16M"):
            rbd_cli("resize", "--no-progress", "--allow-shrink", "--size", size, f"{image}-c")
    assert digest(f"{image}-c") != before
    converges("rbd_snapshot.rolled_back", f"{image}-c@s", discard_changes=True)
    assert digest(f"{image}-c") == before


def test_many_go_back_together(pool, image, other_pool, rbd_cli, other_client, states, converges, refuses, digest):
    images = [image, f"{image}-b", f"{other_pool}/n/{image.split('/')[1]}"]
    for other in images[1:]:
        rbd_cli("create", other, "--size", "8M")
        rbd_cli("snap", "create", f"{other}@s")
    before = [digest(item) for item in images]
    for item in images[:2]:
        other_client(item, "image.write(b'after', 0)")
    told = refuses("rbd_snapshot.rolled_back", "s", images=images)
    assert f"{images[0]} has changed" in told
    assert f"{images[1]} has changed" in told
    assert images[2] not in told
    ran = converges("rbd_snapshot.rolled_back", "s", images=images, discard_changes=True)
    assert set(ran.changes) == set(images[:2])
    assert [digest(item) for item in images] == before


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("{image}@none", {}, "{image}@none does not exist, so its image cannot be rolled back to it."),
        ("{image}-none@s", {}, "{image}-none does not exist, so it cannot be rolled back to s."),
        ("{image}", {}, "names no snapshot"),
        ("no-such-pool/i@s", {}, "the pool no-such-pool does not exist"),
        ("s", {"images": []}, "The list of images for the snapshot s is empty"),
    ],
)
def test_refused(image, refuses, name, more, words):
    assert words.format(image=image) in refuses("rbd_snapshot.rolled_back", name.format(image=image), discard_changes=True, **more)


def test_not_while_another_client_uses_it(image, held, other_client, refuses, converges, unchanged, modules, ceph, digest):
    unchanged("rbd_snapshot.rolled_back", f"{image}@s")
    number = held(image)  # it writes
    told = refuses("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True)
    way = rf"{image} is not rolled back to s\. In the way are: the user [0-9.]+:0/[0-9]+ \(client\.{number}, host tests\)"
    assert re.match(way, told), told
    with pytest.raises(Refused, match=f"client.{number}"):
        modules.rbd_snapshot.rollback(f"{image}@s")
    # Who comes between the look and the act is seen too.
    pool, name = image.split("/")
    with pytest.raises(Busy, match=r"is in use by [0-9.]+:0/"):
        ceph.call("snapshot_rollback", pool=pool, namespace="", image=name, snapshot="s")
    held.let_go()
    converges("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True)


def test_a_mirror_daemon_is_in_nobodys_way(pool, image, held, other_client, rbd_cli, modules, converges, digest):
    before = digest(image)
    rbd_cli("mirror", "pool", "enable", pool, "image")
    rbd_cli("mirror", "image", "enable", image, "snapshot")
    other_client(image, "image.write(b'after', 0)")
    number = held(image, MIRROR)
    assert [str(found["client"]) for found in modules.rbd_device.users(image)["mirrors"]] == [number]
    converges("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True)
    assert digest(image) == before


def foreseen(state_run, sls):
    """Two states, each of which changes something: the dry run says what the real one does."""
    dry, real = state_run(sls, test=True), state_run(sls)
    assert [(ran.result, ran.changes) for ran in dry] == [(None, ran.changes) for ran in real]
    assert [ran.result for ran in real] == [True, True]


def test_not_while_mapped_here(image, other_client, driver, states, refuses, converges, state_run, digest):
    before = digest(image)
    other_client(image, "image.write(b'after', 0)")
    assert states.rbd_device.mapped(image, persist=False).result is True
    told = refuses("rbd_snapshot.rolled_back", f"{image}@s", discard_changes=True)
    assert "In the way are: " in told
    assert "the lock 'saltrbd' held by the host tests" in told
    # What an earlier state of the same run unmaps is in nobody's way, in the dry run either.
    sls = f"""
{image}:
  rbd_device.unmapped: []
{image}@s:
  rbd_snapshot.rolled_back:
    - discard_changes: True
"""
    foreseen(state_run, sls)
    assert digest(image) == before


def test_a_snapshot_that_the_same_dry_run_makes(spec, state_run):
    sls = f"""
{spec}:
  rbd_image.present:
    - size: 8M
{spec}@s:
  rbd_snapshot.present: []
back:
  rbd_snapshot.rolled_back:
    - name: {spec}@s
    - discard_changes: True
"""
    assert [ran.result for ran in state_run(sls, test=True)] == [None, None, True]
    assert [ran.result for ran in state_run(sls)] == [True, True, True]


def test_an_image_that_the_same_run_brings_back_from_the_trash(image, rbd_cli, other_client, state_run, digest):
    before = digest(image)
    other_client(image, "image.write(b'after', 0)")
    rbd_cli("trash", "mv", image)
    sls = f"""
{image}:
  rbd_image.present:
    - size: 16M
    - restore_from_trash: True
{image}@s:
  rbd_snapshot.rolled_back:
    - discard_changes: True
"""
    foreseen(state_run, sls)
    assert digest(image) == before


def test_compare(image, other_client, modules):
    facts = {"size": 16 * M, "snapshot_size": 16 * M, "differs_at": None, "compared": 0}
    assert modules.rbd_snapshot.compare(f"{image}@s") == {f"{image}@s": facts}
    other_client(image, "image.write(b'x', (9 << 20) + 1)")
    found = modules.rbd_snapshot.compare(f"{image}@s")[f"{image}@s"]
    assert (found["differs_at"], found["compared"]) == ((9 << 20) + 1, 4 * M)
    for function in ("compare", "rollback"):
        with pytest.raises(SnapshotNotFound, match=f"{image}@none"):
            getattr(modules.rbd_snapshot, function)(f"{image}@none")
