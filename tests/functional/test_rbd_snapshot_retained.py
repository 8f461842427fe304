"""rbd_snapshot.retained on the real cluster, dry and for real. What the rule keeps over years is a matter of the unit tests: here
every snapshot is of the same hour."""

import time

import pytest
from image_checks import DEFAULT

REMOVED = {"snapshot": {"old": "present", "new": None}}


@pytest.fixture
def look(rbd_cli):
    """The names of an image's snapshots as the rbd command lists them, oldest first; ``--all``: in Ceph's trash and of groups too."""

    def look(image, *words):
        found = rbd_cli.json("snap", "ls", image, *words)
        return [item["name"] for item in sorted(found, key=lambda item: item["id"])]

    return look


@pytest.fixture
def nights(rbd_cli, modules, look):
    """Make an image with so many snapshots, all at once, and return their names as specs, oldest first."""

    def make(image, count=4, prefix="night-"):
        rbd_cli("create", image, "--size", "8M")
        modules.rbd_snapshot.create([f"{image}@{prefix}{number}" for number in range(count)])
        return [f"{image}@{name}" for name in look(image)]

    return make


def left(look, image):
    return [f"{image}@{name}" for name in look(image)]


def gone(*names):
    return dict.fromkeys(names, REMOVED)


def test_retained(spec, nights, rbd_cli, converges, unchanged, look):
    made = nights(spec)
    rbd_cli("snap", "create", f"{spec}@mine")
    unchanged("rbd_snapshot.retained", spec, prefix="night-", latest=4)
    unchanged("rbd_snapshot.retained", spec, prefix="other-", latest=1)
    ran = converges("rbd_snapshot.retained", spec, prefix="night-", latest=2)
    assert ran.changes == gone(*made[:2])
    assert left(look, spec) == [*made[2:], f"{spec}@mine"]
    # All of one hour (or of two, where it has just begun): the newest stays.
    assert converges("rbd_snapshot.retained", spec, pattern="night-?", hourly=1, daily=1, yearly=5).changes == gone(made[2])
    assert left(look, spec) == [made[3], f"{spec}@mine"]
    assert converges("rbd_snapshot.retained", spec, pattern="*", latest=1).changes == gone(made[3])


def test_a_dry_run_removes_nothing(spec, nights, states, look):
    made = nights(spec)
    assert states.rbd_snapshot.retained(spec, prefix="night-", latest=1, test=True).changes == gone(*made[:3])
    assert left(look, spec) == made


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"latest": 1}, "Declare either prefix or pattern: which snapshots may go"),
        ({"latest": 1, "prefix": "a", "pattern": "*"}, "Declare either prefix or pattern"),
        ({"latest": 1, "prefix": ""}, "The prefix must be text, and not empty"),
        ({"pattern": "*"}, "Nothing would stay: declare how many to keep"),
        ({"pattern": "*", "daily": 0}, "Nothing would stay"),
        ({"pattern": "*", "daily": "7"}, "daily must be a number of snapshots to keep, from 0 to 100000, not '7'"),
        ({"pattern": "*", "daily": -1}, "daily must be a number"),
        ({"pattern": "*", "latest": 1, "images": []}, "The list of images is empty"),
        ({"pattern": "*", "latest": 1, "images": "rbd/a"}, "must be a list of specs"),
        ({"pattern": "*", "latest": 1, "images": ["{spec}"], "pool": "rbd"}, "Declare images or pool, not both"),
        ({"pattern": "*", "latest": 1, "namespace": "n"}, "A namespace is declared together with a pool"),
        ({"pattern": "*", "latest": 1, "images": ["{spec}", "{spec}-none"]}, "{spec}-none does not exist, so it has no snapshots to keep."),
        ({"pattern": "*", "latest": 1, "pool": "no-such-pool"}, "the pool no-such-pool does not exist"),
    ],
)
def test_refused(spec, nights, refuses, look, more, words):
    made = nights(spec, 2)
    if isinstance(more.get("images"), list):
        more = dict(more, images=[item.format(spec=spec) for item in more["images"]])
    assert words.format(spec=spec) in refuses("rbd_snapshot.retained", spec, **more)
    assert left(look, spec) == made


def test_what_is_never_removed(spec, nights, other_pool, rbd_cli, modules, driver, states, converges, unchanged, look):
    made = nights(spec, 6)
    name = spec.split("/")[1]
    rbd_cli("snap", "protect", made[0])
    for snapshot, clone in ((made[1], f"{other_pool}/n/{name}"), (made[2], f"{other_pool}/{name}")):
        rbd_cli("clone", "--rbd-default-clone-format", "2", snapshot, clone)
    identity = rbd_cli.json("info", f"{other_pool}/{name}")["id"]
    rbd_cli("trash", "mv", f"{other_pool}/{name}")
    assert states.rbd_device.mapped(made[3], persist=False).result is True
    ran = converges("rbd_snapshot.retained", spec, prefix="night-", latest=1)
    assert ran.changes == gone(made[4])
    for snapshot, reason in (
        (made[0], "it is protected"),
        (made[1], f"these clones hang on it: {other_pool}/n/{name}"),
        (made[2], f"these clones hang on it: {other_pool}/{name} (in the trash, id {identity})"),
        (made[3], "the read-only device /dev/"),
    ):
        assert f"{snapshot} stays: {reason}" in ran.comment
    assert left(look, spec) == [*made[:4], made[5]]
    # With each reason gone, the snapshot goes.
    rbd_cli("snap", "unprotect", made[0])
    rbd_cli("rm", f"{other_pool}/n/{name}")
    rbd_cli("trash", "rm", f"{other_pool}/{identity}")
    assert states.rbd_device.unmapped(made[3]).result is True
    assert converges("rbd_snapshot.retained", spec, prefix="night-", latest=1).changes == gone(*made[:4])


def test_snapshots_of_groups_and_in_cephs_trash_do_not_count(spec, nights, rbd_cli, converges, look):
    made = nights(spec, 3)
    rbd_cli("clone", "--rbd-default-clone-format", "2", made[2], f"{spec}-c")
    rbd_cli("snap", "rm", made[2])  # it goes to Ceph's trash
    rbd_cli("group", "create", f"{spec}-g")
    rbd_cli("group", "image", "add", f"{spec}-g", spec)
    rbd_cli("group", "snap", "create", f"{spec}-g@night")
    assert len(look(spec, "--all")) == 4
    assert converges("rbd_snapshot.retained", spec, pattern="*", latest=1).changes == gone(made[0])
    assert left(look, spec) == made[1:2]
    assert len(look(spec, "--all")) == 3
    rbd_cli("group", "rm", f"{spec}-g")


def test_many_images(spec, other_pool, make_pool, nights, rbd_cli, converges, unchanged, look):
    images = [spec, f"{other_pool}/n/{spec.split('/')[1]}"]
    first, second = nights(images[0], 2), nights(images[1], 3)
    ran = converges("rbd_snapshot.retained", "nightly", images=images, prefix="night-", latest=1)
    assert ran.changes == gone(first[0], *second[:2])
    # A whole pool, a whole namespace.
    third = nights(f"{other_pool}/{spec.split('/')[1]}", 2)
    unchanged("rbd_snapshot.retained", "nightly", pool=other_pool, namespace="n", prefix="night-", latest=1)
    assert converges("rbd_snapshot.retained", "nightly", pool=other_pool, prefix="night-", latest=1).changes == gone(third[0])
    unchanged("rbd_snapshot.retained", "nightly", pool=make_pool(), prefix="night-", latest=1)


def test_what_the_same_run_makes_is_the_newest(spec, nights, state_run, look):
    made = nights(spec, 2)
    sls = f"""
{spec}@night-new:
  rbd_snapshot.present: []
{spec}:
  rbd_snapshot.retained:
    - prefix: night-
    - latest: 1
"""
    dry, real = state_run(sls, test=True), state_run(sls)
    assert [ran.result for ran in dry] == [None, None]
    assert [ran.changes for ran in dry] == [ran.changes for ran in real]
    assert real[1].changes == gone(*made)
    assert look(spec) == ["night-new"]
    again = state_run(sls)
    assert [ran.changes for ran in again] == [{}, {}]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_times_are_utc_wherever_the_host_is(spec, nights, make_client, monkeypatch, zone):
    """The bindings give UTC without saying so, and Python takes that for local time."""
    nights(spec, 1)
    monkeypatch.setenv("TZ", zone)
    pool, name = spec.split("/")
    facts = make_client().call("image_info", pool=pool, namespace="", image=name)
    assert abs(facts["snapshots"][0]["created"] - time.time()) < 300
    assert abs(facts["created"] - time.time()) < 300
    assert abs(facts["modified"] - time.time()) < 300
    assert facts["features"] == DEFAULT
