"""Consistent snapshots that did not come off: what this run has made is taken back, and nothing else."""

import os
import shutil
import signal
import subprocess
import threading

import pytest
from saltrbd import client, device, errors
from saltrbd import spec as specs
from state_checks import both

from labkit import cluster as lab_cluster

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"


@pytest.fixture
def volumes(ceph, rbd_cli, spec, tmp_path):
    """Two images whose filesystems are mounted."""

    def tool(*argv):
        subprocess.run([shutil.which(argv[0], path=TOOLS), *argv[1:]], check=True, timeout=60, capture_output=True)

    names = [f"{spec}0", f"{spec}1"]
    for number, name in enumerate(names):
        rbd_cli("create", name, "--size", "64M")
        path = device.map_image(ceph, specs.parse(name)).device
        (tmp_path / str(number)).mkdir()
        tool("mkfs.ext4", "-q", path)
        tool("mount", path, str(tmp_path / str(number)))
    return names


@pytest.fixture
def look(rbd_cli):
    """The snapshots of an image, as the rbd command lists them: {name: id}."""
    return lambda image: {item["name"]: item["id"] for item in rbd_cli.json("snap", "ls", image)}


@pytest.fixture
def slow_monitor(cluster):
    """The monitor, which hands out the snapshots' ids, stands still for some seconds: ``slow_monitor(3)``."""
    timers = []

    def stop(seconds):
        pid = lab_cluster.daemons(cluster.folder)["ceph-mon"]
        os.kill(pid, signal.SIGSTOP)
        timers.append(threading.Timer(seconds, lambda: os.kill(pid, signal.SIGCONT)))
        timers[-1].start()

    yield stop
    for timer in timers:
        timer.join(20)


@pytest.mark.parametrize("protect", [False, True])
def test_thawed_before_the_snapshots_were_there(protect, volumes, make_loaders, look, slow_monitor, states):
    short = make_loaders(pillar={"rbd": {"freeze_timeout": 1}}).states.rbd_snapshot
    state = short.protected if protect else short.present
    slow_monitor(4)
    ran = state("s", images=volumes, consistency="filesystem")
    assert ran.result is False and ran.changes == {}
    assert "The filesystems were thawed before every snapshot was on its image (rbd:freeze_timeout is 1 s)." in ran.comment
    assert f"These snapshots were removed again: {volumes[0]}@s, {volumes[1]}@s." in ran.comment
    assert look(volumes[0]) == look(volumes[1]) == {}
    both(states.rbd_snapshot.present, "s", images=volumes, consistency="filesystem")


def test_one_that_another_has_made_meanwhile_stays(volumes, modules, rbd_cli, look):
    rbd_cli("snap", "create", f"{volumes[1]}@s")
    theirs = look(volumes[1])
    with pytest.raises(errors.SnapshotExists) as raised:
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem", protect=True)
    assert str(raised.value).endswith(f"exists already. These snapshots were removed again: {volumes[0]}@s.")
    assert look(volumes[0]) == {} and look(volumes[1]) == theirs


def test_what_cannot_be_taken_back_is_named(volumes, modules, rbd_cli, look, monkeypatch):
    """A fake between the snapshots and their end: somebody clones one of them in that instant."""
    rbd_cli("snap", "create", f"{volumes[1]}@s")
    batch = client.Client.batch

    def cloned_first(self, requests):
        if requests and requests[0][0] == "snapshot_undo":
            rbd_cli("clone", "--rbd-default-clone-format", "2", f"{volumes[0]}@s", f"{volumes[0]}c")
        return batch(self, requests)

    monkeypatch.setattr(client.Client, "batch", cloned_first)
    with pytest.raises(errors.SnapshotExists) as raised:
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem")
    words = f"{volumes[0]}@s is still there, and may be of a moment after the thaw; remove it."
    assert "exists already" in str(raised.value) and words in str(raised.value) and "clones hang on it" in str(raised.value)
    assert "removed again" not in str(raised.value)
    assert list(look(volumes[0])) == ["s"]


def test_only_the_one_with_that_id_is_taken_back(ceph, spec, rbd_cli, look):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("snap", "protect", f"{spec}@s")
    number, where = look(spec)["s"], specs.parse(f"{spec}@s")
    with pytest.raises(errors.Refused, match="another one by now"):
        ceph.call("snapshot_undo", where, snapshot_id=number + 1)
    assert look(spec) == {"s": number}
    ceph.call("snapshot_undo", where, snapshot_id=number)
    assert look(spec) == {}
    with pytest.raises(errors.SnapshotNotFound):
        ceph.call("snapshot_undo", where, snapshot_id=number)
