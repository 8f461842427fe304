"""An image or clone whose making is cut off by SIGKILL, at any of librbd's steps: the next run takes away what is left, and makes it."""

import itertools
import json
import subprocess
import time
import uuid

import pytest
from saltrbd import errors, proc
from saltrbd import spec as specs
from worker_watch import until

from labkit.commands import LabError

NOTE = "saltrbd_begun."
# What librbd makes, one after the other. A worker is killed at each, again and again until the kill has left a torn image so often.
STEPS, TORN, TRIES = [NOTE + "{name}", "rbd_id.{name}", "rbd_header.{id}", "rbd_object_map.{id}"], 2, 30


@pytest.fixture
def rados(cluster, pool):
    """The ``rados`` command in this file's pool: (exit code, output)."""

    def call(*words, stdin=None):
        argv = ["rados", "-c", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "-p", pool, *words]
        ran = subprocess.run(argv, input=stdin, capture_output=True, timeout=60)
        return ran.returncode, ran.stdout

    return call


@pytest.fixture(scope="module")
def parent(pool, rbd_cli):
    rbd_cli("create", f"{pool}/parent", "--size", "8M")
    rbd_cli("snap", "create", f"{pool}/parent@s")
    rbd_cli("snap", "protect", f"{pool}/parent@s")
    return f"{pool}/parent@s"


def noted(rados, name, began=0):
    """A fake: the note of a maker that was killed ``began`` seconds ago."""
    when = int(time.time()) - began
    assert rados("put", NOTE + name, "/proc/self/fd/0", stdin=json.dumps({"from": when, "until": when + 40}).encode())[0] == 0


def notes(rados):
    return [name for name in rados("ls")[1].decode().split() if name.startswith(NOTE)]


def whole(rbd_cli, name, parent):
    """Whether the image can be opened and, if it is to be a clone, has its parent, which knows it."""
    try:
        info = rbd_cli.json("info", name)
    except LabError:
        return False
    if not parent:
        return True
    children = [child["image"] for child in rbd_cli.json("children", parent)]
    return info.get("parent", {}).get("snapshot") == "s" and name.split("/")[1] in children


# Kills a process as soon as an object is in the cluster: conf, keyring, pool, image, object, pid.
KILLER = """
import os, signal, sys
import rados
conf, keyring, pool, image, wanted, pid = sys.argv[1:]
cluster = rados.Rados(conffile=conf, name="client.admin", conf={"keyring": keyring})
cluster.connect(timeout=20)
context = cluster.open_ioctx(pool)
print("ready", flush=True)
while True:
    try:
        if "{id}" in wanted:
            wanted = wanted.format(id=context.read("rbd_id." + image)[4:].decode())
        context.stat(wanted)
        break
    except rados.ObjectNotFound:
        continue
os.kill(int(pid), signal.SIGKILL)
"""


@pytest.fixture
def cut_off(make_client, cluster, pool):
    """Carry out a request with a worker that is killed as soon as the object is there."""

    def cut(request, image, wanted):
        ceph = make_client()
        ceph.call("cluster_info")
        argv = ["/usr/bin/python3", "-c", KILLER, cluster.conf, cluster.keyring, pool, image, wanted, str(ceph._worker.pid)]
        killer = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            assert killer.stdout.readline() == "ready\n"
            ceph.batch([request])
        finally:
            # A note is there for some milliseconds: it can be missed.
            killer.kill()
            killer.communicate()
        ceph.close()

    return cut


@pytest.mark.parametrize("kind", ["image", "clone"])
def test_killed_at_its_steps(kind, cut_off, states, rbd_cli, rados, parent, pool):
    """The worker is killed, and with it all memory of what it did: the notes in the cluster alone tell."""
    torn = 0
    for number, wanted in zip(range(TRIES), itertools.cycle(STEPS)):
        if torn >= TORN and number >= len(STEPS):
            break
        name = f"k-{uuid.uuid4().hex[:6]}"
        args = {"size": 8 << 20} if kind == "image" else {"parent": specs.parse(parent).where(), "clone_format": 1}
        cut_off((kind + "_create", dict(specs.parse(f"{pool}/{name}").where(), **args)), name, wanted.format(name=name, id="{id}"))
        torn += name in rbd_cli("ls", pool).split() and not whole(rbd_cli, f"{pool}/{name}", kind == "clone" and parent)
        args = {"size": "8M"} if kind == "image" else {"parent": parent, "clone_format": 1}
        ran = getattr(states, f"rbd_{kind}").present(f"{pool}/{name}", **args)
        assert ran.result is True, ran.comment
        assert whole(rbd_cli, f"{pool}/{name}", kind == "clone" and parent)
        assert notes(rados) == []
    assert torn >= TORN, f"of {TRIES} kills {torn} met librbd at its steps"


# A fake: what the kill leaves is made by taking parts away, since a kill seldom meets just these moments.
PARTS = {
    "a name": ["rbd_id.{name}", "rbd_header.{id}", "rbd_object_map.{id}"],
    "no header": ["rbd_header.{id}", "rbd_object_map.{id}"],
    "no object map": ["rbd_object_map.{id}"],
    "all of it": [],
    "nothing": None,
}


@pytest.mark.parametrize("left", PARTS)
def test_images_of_which_a_killed_maker_left(left, spec, rbd_cli, rados, states):
    name = spec.split("/")[1]
    first = None
    if PARTS[left] is not None:
        rbd_cli("create", spec, "--size", "8M")
        first = rbd_cli.json("info", spec)["id"]
        for part in PARTS[left]:
            assert rados("rm", part.format(name=name, id=first))[0] == 0
    noted(rados, name)
    assert states.rbd_image.present(spec, size="16M", test=True).changes[spec]["image"] == {"old": None, "new": "present"}
    ran = states.rbd_image.present(spec, size="16M")
    assert ran.result is True, ran.comment
    info = rbd_cli.json("info", spec)
    assert info["size"] == 16 << 20 and info["id"] != first and info["flags"] == []
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "4K", spec)
    assert rbd_cli.json("info", spec)["flags"] == []
    assert notes(rados) == []
    assert states.rbd_image.present(spec, size="16M").changes == {}


@pytest.mark.parametrize("sign", ["written to", "a snapshot", "open", "long after", "before"])
def test_what_somebody_has_used_is_no_rest(sign, spec, rbd_cli, rados, states, ceph, start_client):
    """A note lies there, of a maker that was killed before it began, and the image is somebody's."""
    rbd_cli("create", spec, "--size", "8M")
    first = rbd_cli.json("info", spec)["id"]
    if sign == "written to":
        rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "4K", spec)
    elif sign == "a snapshot":
        rbd_cli("snap", "create", f"{spec}@mine")
    elif sign == "open":
        reader = start_client(spec, "print(1, flush=True); sys.stdin.read()")
        assert reader.stdout.readline() == "1\n"
    noted(rados, spec.split("/")[1], began={"long after": 200, "before": -200}.get(sign, 0))
    assert states.rbd_image.present(spec, size="8M").changes == {}
    with pytest.raises(errors.ImageExists):
        ceph.call("image_create", specs.parse(spec), size=8 << 20)
    assert rbd_cli.json("info", spec)["id"] == first
    assert notes(rados) == []
    if sign == "open":
        reader.communicate(timeout=60)


def test_a_name_without_a_note_is_not_taken_away(spec, rbd_cli, rados, states):
    rbd_cli("create", spec, "--size", "8M")
    assert rados("rm", f"rbd_header.{rbd_cli.json('info', spec)['id']}")[0] == 0
    ran = states.rbd_image.present(spec, size="8M")
    assert ran.result is False
    assert f"its name is taken, but it cannot be opened: its making was cut off, and 'rbd rm {spec}' takes away what is left" in ran.comment
    assert notes(rados) == []


# By the map, or asking for each object; with the time in which an answer is wanted, which is less than the walk over all objects takes.
@pytest.mark.parametrize(("features", "size", "timeout"), [(None, "3T", 5), (["layering"], "384G", 3)], ids=["by its map", "no map"])
def test_a_large_one_is_looked_at_in_time(features, size, timeout, spec, rbd_cli, rados, make_client):
    ceph, image = make_client(timeout=timeout), specs.parse(spec)
    rbd_cli("create", spec, "--size", size, *(["--image-feature", ",".join(features)] if features else []))
    first = rbd_cli.json("info", spec)["id"]
    noted(rados, image.image)
    with pytest.raises(errors.ImageNotFound):
        ceph.call("image_info", image)
    ceph.call("image_create", image, size=8 << 20)
    assert rbd_cli.json("info", spec)["id"] != first and rbd_cli("trash", "ls", image.pool) == ""
    assert notes(rados) == []


def test_one_maker_at_a_time(ceph, spec, rados):
    """Another host's maker (a fake: its lock) keeps others off until its lock ends; one of this host that is dead does not."""
    note, image = NOTE + spec.split("/")[1], specs.parse(spec)
    ceph.call("cluster_info")  # the worker has started before the lock begins to run out
    lock = ["lock", "get", note, "saltrbd", "--lock-cookie", "making"]
    assert rados(*lock, "--lock-duration", "3", "--lock-description", "{}")[0] == 0
    with pytest.raises(errors.Busy, match=r"it is being made by 127\.0\.0\.1:0/\d+ at this moment"):
        ceph.call("image_create", image, size=8 << 20)
    until(lambda: ceph.batch([("image_create", dict(image.where(), size=8 << 20))])[0].result, 20, "the lock ends by itself")


def test_the_lock_of_a_dead_maker_of_this_host(ceph, spec, rados):
    dead = subprocess.Popen(["sleep", "0"])
    start = proc.start_of(dead.pid) or 1
    dead.wait(timeout=10)
    maker = {"boot": proc.boot_id(), "pids": proc.pid_namespace(), "pid": dead.pid, "start": start, "sessions": []}
    lock = ["lock", "get", NOTE + spec.split("/")[1], "saltrbd", "--lock-cookie", "making", "--lock-duration", "600"]
    assert rados(*lock, "--lock-description", json.dumps(maker))[0] == 0
    assert ceph.call("image_create", specs.parse(spec), size=8 << 20)
    assert NOTE + spec.split("/")[1] not in notes(rados)
