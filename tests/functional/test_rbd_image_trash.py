"""The trash with a time, and what goes from it for good: on the real cluster, dry and for real."""

import os
import time

import pytest
from image_checks import trashed

from labkit import commands

DAY = 86400


@pytest.fixture
def place(pool, rbd_cli):
    """A namespace of the test's own: (``pool/namespace``, its pool, its name)."""
    name = f"n{os.urandom(4).hex()}"
    rbd_cli("namespace", "create", f"{pool}/{name}")
    return f"{pool}/{name}"


def left(rbd_cli, place):
    pool, namespace = place.split("/")
    return sorted(item["name"] for item in rbd_cli.json("trash", "ls", pool, "--namespace", namespace))


def gone(place, *entries):
    return {f"{place}/{name} (id {identity})": {"image": {"old": "in the trash", "new": None}} for name, identity in entries}


def make(rbd_cli, place, *names):
    """Make images and return their ids by name."""
    for name in names:
        rbd_cli("create", f"{place}/{name}", "--size", "8M")
    return {name: rbd_cli.json("info", f"{place}/{name}")["id"] for name in names}


def throw(rbd_cli, place, *names, expires=None):
    for name in names:
        rbd_cli("trash", "mv", f"{place}/{name}", *(["--expires-at", expires] if expires else []))


# A delay.


def test_absent_with_a_delay(spec, converges, unchanged, rbd_cli, modules):
    rbd_cli("create", spec, "--size", "8M")
    before = int(time.time())
    ran = converges("rbd_image.absent", spec, delay="7d")
    assert ran.changes == {spec: {"image": {"old": "present", "new": "in the trash"}, "kept_for": {"old": None, "new": "1w"}}}
    (identity,) = trashed(rbd_cli, spec)
    (entry,) = [item for item in modules.rbd_image.trash_list() if item["id"] == identity]
    assert entry["source"] == "USER"
    assert before <= entry["deleted"] <= time.time()
    assert entry["kept_until"] - entry["deleted"] == 7 * DAY
    # What lies there keeps its time.
    unchanged("rbd_image.absent", spec, delay="1d")
    # Ceph itself refuses a removal before.
    rbd_cli("trash", "rm", f"{spec.split('/')[0]}/{identity}", check=False)
    assert trashed(rbd_cli, spec) == [identity]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"delay": "soon"}, "The delay must be seconds"), ({"delay": "1h", "trash": False}, "A delay is for the trash")],
)
def test_absent_with_a_bad_delay(spec, refuses, rbd_cli, arguments, words):
    rbd_cli("create", spec, "--size", "8M")
    assert words in refuses("rbd_image.absent", spec, **arguments)


def test_times_are_those_of_the_clock_in_every_time_zone(spec, make_loaders, rbd_cli, monkeypatch):
    """The bindings of 16.2 give UTC without saying so."""
    monkeypatch.setenv("TZ", "America/New_York")
    modules = make_loaders({"rbd": {"timeout": 31}}).modules  # a worker of its own, which inherits the zone
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@s")
    facts = modules.rbd_image.info(spec)
    assert abs(facts["created"] - time.time()) < 300
    assert abs(facts["snapshots"][0]["created"] - time.time()) < 300
    modules.rbd_image.trash(spec, delay="1h")
    (entry,) = modules.rbd_image.trashed(spec)
    assert abs(entry["deleted"] - time.time()) < 300
    assert abs(entry["kept_until"] - time.time() - 3600) < 300


# Purged.


def test_purged(place, converges, unchanged, rbd_cli):
    unchanged("rbd_image.purged", place)
    ids = make(rbd_cli, place, "a", "b", "kept", "lives")
    throw(rbd_cli, place, "a", "b")
    throw(rbd_cli, place, "kept", expires="2037-01-01")
    unchanged("rbd_image.purged", place, images=["c"])
    assert converges("rbd_image.purged", place, images=["a"]).changes == gone(place, ("a", ids["a"]))
    assert left(rbd_cli, place) == ["b", "kept"]
    assert converges("rbd_image.purged", place).changes == gone(place, ("b", ids["b"]))
    assert left(rbd_cli, place) == ["kept"]
    assert converges("rbd_image.purged", place, early=[ids["kept"]]).changes == gone(place, ("kept", ids["kept"]))
    assert left(rbd_cli, place) == []
    assert rbd_cli.json("ls", place) == ["lives"]


def test_the_trash_of_a_pool_is_not_that_of_its_namespaces(pool, place, unchanged, rbd_cli):
    make(rbd_cli, place, "a")
    throw(rbd_cli, place, "a")
    unchanged("rbd_image.purged", pool, images=["a"])
    assert left(rbd_cli, place) == ["a"]


def test_what_is_in_the_way_is_told_at_once(place, other_pool, converges, refuses, states, modules, rbd_cli):
    ids = make(rbd_cli, place, "free", "snaps", "cloned")
    rbd_cli("snap", "create", f"{place}/snaps@s")
    rbd_cli("snap", "protect", f"{place}/snaps@s")
    rbd_cli("snap", "create", f"{place}/cloned@s")
    clone = f"{other_pool}/n/of-{ids['cloned']}"
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{place}/cloned@s", clone)
    rbd_cli("snap", "rm", f"{place}/cloned@s")
    throw(rbd_cli, place, "free", "snaps", "cloned")
    told = refuses("rbd_image.purged", place)
    assert f"{place}/snaps (id {ids['snaps']}) stays in the trash. In the way are: the protected snapshot {place}/snaps@s." in told
    assert f"{place}/cloned (id {ids['cloned']}) stays in the trash. In the way are: the clone {clone}; the snapshot" in told
    assert "/free" not in told
    with pytest.raises(Exception, match="In the way are"):
        modules.rbd_image.purge(place)
    assert left(rbd_cli, place) == ["cloned", "free", "snaps"]
    ran = converges("rbd_image.purged", place, skip_blocked=True)
    assert ran.changes == gone(place, ("free", ids["free"]))
    assert f"the clone {clone}" in ran.comment
    # The clone goes: with it the snapshot, and then the image.
    rbd_cli("rm", "--no-progress", clone)
    assert converges("rbd_image.purged", place, images=["cloned"]).changes == gone(place, ("cloned", ids["cloned"]))


def test_a_clone_in_the_trash_goes_before_its_parent(place, converges, rbd_cli):
    ids = make(rbd_cli, place, "a")
    rbd_cli("snap", "create", f"{place}/a@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{place}/a@s", f"{place}/b")
    ids["b"] = rbd_cli.json("info", f"{place}/b")["id"]
    rbd_cli("snap", "rm", f"{place}/a@s")
    throw(rbd_cli, place, "a", "b")
    assert converges("rbd_image.purged", place).changes == gone(place, *ids.items())
    assert left(rbd_cli, place) == []


def test_a_removal_that_was_cut_off_is_ended(place, cluster, converges, modules, rbd_cli):
    """The image's header is gone already: nothing can be read of it, or brought back."""
    ids = make(rbd_cli, place, "half")
    throw(rbd_cli, place, "half")
    pool, namespace = place.split("/")
    where = ["--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "--pool", pool, "--namespace", namespace]
    commands.run(["rados", *where, "rm", f"rbd_header.{ids['half']}"], timeout=30)
    assert [entry["facts"] for entry in modules.rbd_image.trash_list(pool, namespace, facts=True)] == [None]
    assert modules.rbd_image.trashed(f"{place}/half") == []
    converges("rbd_image.present", f"{place}/half", size="8M")
    assert converges("rbd_image.purged", place).changes == gone(place, ("half", ids["half"]))
    assert rbd_cli.json("ls", place) == ["half"]


def test_a_user_of_a_trashed_image(place, pool, converges, refuses, held, rbd_cli):
    spec = f"{pool}/used-{os.urandom(3).hex()}"
    rbd_cli("create", spec, "--size", "8M")
    client = held(spec)
    rbd_cli("trash", "mv", spec)
    name = spec.split("/")[1]
    assert f"(client.{client})" in refuses("rbd_image.purged", pool, images=[name])
    held.let_go()
    converges("rbd_image.purged", pool, images=[name])


ALL_AT_ONCE = """
away:
  rbd_image.absent:
    - name: {place}/a
clone away:
  rbd_image.absent:
    - name: {place}/c
for good:
  rbd_image.purged:
    - name: {place}
    - images: [a, c]
parent away:
  rbd_image.absent:
    - name: {place}/p
    - trash: False
new:
  rbd_image.present:
    - name: {place}/a
    - size: 8M
kept:
  rbd_image.absent:
    - name: {place}/d
    - delay: 1h
not yet:
  rbd_image.purged:
    - name: {place}
    - images: [d]
"""


def test_states_that_follow_each_other_are_predicted(place, state_run, rbd_cli):
    make(rbd_cli, place, "a", "p", "d")
    rbd_cli("snap", "create", f"{place}/p@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{place}/p@s", f"{place}/c")
    rbd_cli("snap", "rm", f"{place}/p@s")
    text = ALL_AT_ONCE.format(place=place)
    dry, real = state_run(text, test=True), state_run(text)
    assert [ran.comment for ran in real if ran.result is not True] == []
    assert [ran.result for ran in dry] == [None] * 6 + [True]
    assert [ran.changes for ran in dry] == [ran.changes for ran in real]
    assert left(rbd_cli, place) == ["d"]
    assert rbd_cli.json("ls", place) == ["a"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("no-such-pool", {}, "the pool no-such-pool does not exist"),
        ("a/b/c", {}, "holds '/'"),
        ("{pool}", {"early": "x"}, "early must be a list"),
        ("{pool}", {"images": [5]}, "images must be a list"),
        ("{pool}", {"skip_blocked": "no"}, "skip_blocked must be True or False"),
    ],
)
def test_bad_arguments(pool, refuses, name, arguments, words):
    assert words in refuses("rbd_image.purged", name.format(pool=pool), **arguments)
