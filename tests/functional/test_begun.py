"""An image or clone whose making is cut off by SIGKILL, at any of librbd's steps: the next run takes away what is left, and makes it."""

import json
import os
import signal
import subprocess
import threading
import time
import uuid

import pytest
from saltrbd import errors, proc
from saltrbd import spec as specs

from labkit.commands import LabError

# Kills that are spread over the making of a clone, and how many of them must have left less than a whole one.
KILLS, TORN = 16, 3
NOTE = "saltrbd_begun."


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
    path = "/proc/self/fd/0"
    assert rados("put", NOTE + name, path, stdin=json.dumps({"time": int(time.time()) - began}).encode())[0] == 0


def notes(rados):
    return [name for name in rados("ls")[1].decode().split() if name.startswith(NOTE)]


def whole(rbd_cli, name, parent):
    """Whether the image is a whole clone that its parent knows."""
    try:
        info = rbd_cli.json("info", name)
    except LabError:
        return False  # it cannot even be opened
    children = [child["image"] for child in rbd_cli.json("children", parent)]
    return info.get("parent", {}).get("snapshot") == "s" and name.split("/")[1] in children


def test_clones_killed_at_every_step(make_client, states, rbd_cli, rados, parent, pool):
    """The worker is killed, and with it all memory of what it did: the notes in the cluster alone tell."""
    torn = kills = 0
    while kills < KILLS or (torn < TORN and kills < 3 * KILLS):
        ceph, names = make_client(), [f"{pool}/c{kills}-{number}-{uuid.uuid4().hex[:6]}" for number in range(4)]
        requests = [("clone_create", dict(specs.parse(name).where(), parent=specs.parse(parent).where(), clone_format=1)) for name in names]
        times = []
        for request in requests[:-1]:  # the first one opens a session
            began = time.monotonic()
            ceph.batch([request])[0].get()
            times.append(time.monotonic() - began)
        killer = threading.Timer(min(times) * (kills % KILLS) / KILLS, os.kill, (ceph._worker.pid, signal.SIGKILL))
        killer.start()
        ceph.batch([requests[-1]])
        killer.join()
        ceph.close()
        kills += 1
        name = names[-1]
        torn += name.split("/")[1] in rbd_cli("ls", pool).split() and not whole(rbd_cli, name, parent)
        ran = states.rbd_clone.present(name, parent=parent, clone_format=1)
        assert ran.result is True, ran.comment
        assert whole(rbd_cli, name, parent)
        assert notes(rados) == []
    assert torn >= TORN, "the kills did not meet librbd at its steps"


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
    noted(rados, spec.split("/")[1], began={"long after": 700, "before": -200}.get(sign, 0))
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


def test_one_maker_at_a_time(ceph, spec, rados):
    """Another host's maker (a fake: its lock) keeps others off until its lock ends; one of this host that is dead does not."""
    note, image = NOTE + spec.split("/")[1], specs.parse(spec)
    lock = ["lock", "get", note, "saltrbd", "--lock-cookie", "making"]
    assert rados(*lock, "--lock-duration", "6", "--lock-description", "{}")[0] == 0
    with pytest.raises(errors.Busy, match=r"it is being made by 127\.0\.0\.1:0/\d+ at this moment"):
        ceph.call("image_create", image, size=8 << 20)
    time.sleep(6.5)
    assert ceph.call("image_create", image, size=8 << 20)


def test_the_lock_of_a_dead_maker_of_this_host(ceph, spec, rados):
    dead = subprocess.Popen(["sleep", "0"])
    start = proc.start_of(dead.pid) or 1
    dead.wait(timeout=10)
    maker = {"boot": proc.boot_id(), "pids": proc.pid_namespace(), "pid": dead.pid, "start": start, "sessions": []}
    lock = ["lock", "get", NOTE + spec.split("/")[1], "saltrbd", "--lock-cookie", "making", "--lock-duration", "600"]
    assert rados(*lock, "--lock-description", json.dumps(maker))[0] == 0
    assert ceph.call("image_create", specs.parse(spec), size=8 << 20)
    assert NOTE + spec.split("/")[1] not in notes(rados)
