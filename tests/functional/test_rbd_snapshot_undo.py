"""Consistent snapshots that did not come off: what this run has made is taken back, and nothing else."""

import os
import shutil
import signal
import subprocess
import threading

import pytest
from saltrbd import client, device, errors, snapshot
from saltrbd import spec as specs
from saltrbd.freezer import Freezer
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


@pytest.fixture
def before_the(monkeypatch):
    """A fake in front of the client, for what happens in an instant: ``before_the("snapshot_create", step)``; what the step
    returns as a list is the batch's answer."""

    def arrange(operation, step):
        batch = client.Client.batch

        def instead(self, requests):
            found = step(self, batch, requests) if requests and requests[0][0] == operation else None
            return found if isinstance(found, list) else batch(self, requests)

        monkeypatch.setattr(client.Client, "batch", instead)

    return arrange


@pytest.mark.parametrize("protect", [False, True])
def test_thawed_before_the_snapshots_were_there(protect, volumes, make_loaders, look, slow_monitor, states, before_the):
    short = make_loaders(pillar={"rbd": {"freeze_timeout": 1}}).states.rbd_snapshot
    state = short.protected if protect else short.present
    before_the("snapshot_create", lambda *_: slow_monitor(4))
    ran = state("s", images=volumes, consistency="filesystem")
    assert ran.result is False and ran.changes == {}
    assert "The filesystems were thawed before every snapshot was on its image (rbd:freeze_timeout is 1 s)." in ran.comment
    assert f"These snapshots were removed again: {volumes[0]}@s, {volumes[1]}@s." in ran.comment
    assert look(volumes[0]) == look(volumes[1]) == {}
    both(states.rbd_snapshot.present, "s", images=volumes, consistency="filesystem")


def test_one_that_another_has_made_meanwhile_stays(volumes, modules, rbd_cli, look, before_the):
    before_the("snapshot_create", lambda *_: rbd_cli("snap", "create", f"{volumes[1]}@s"))
    with pytest.raises(errors.SnapshotExists) as raised:
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem", protect=True)
    assert str(raised.value).endswith(f"exists already. These snapshots were removed again: {volumes[0]}@s.")
    assert (list(look(volumes[0])), list(look(volumes[1]))) == ([], ["s"])


def test_what_cannot_be_taken_back_is_named(volumes, modules, rbd_cli, look, before_the):
    """Somebody clones one of them before it is taken back."""
    rbd_cli("snap", "create", f"{volumes[1]}@s")
    clone = ["clone", "--rbd-default-clone-format", "2", f"{volumes[0]}@s", f"{volumes[0]}c"]
    before_the("snapshot_undo", lambda *_: rbd_cli(*clone))
    with pytest.raises(errors.SnapshotExists) as raised:
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem")
    assert f"{volumes[0]}@s {snapshot.DOUBTFUL}" in str(raised.value) and "clones hang on it" in str(raised.value)
    assert "exists already" in str(raised.value) and "removed again" not in str(raised.value)
    assert list(look(volumes[0])) == ["s"]


def test_one_whose_making_had_no_answer_is_named(volumes, modules, look, before_the):
    """The second snapshot is made, and its answer is lost with the worker."""

    def lose(self, batch, requests):
        done = batch(self, requests)
        lost = errors.WorkerDied("Its outcome is unknown.")
        lost.facts = {"op": "snapshot_create", "unknown": True, "seen": batch(self, [("image_info", where(requests[1]))])[0].result}
        return [done[0], client.Outcome(None, lost)]

    def where(request):
        return {key: request[1][key] for key in ("pool", "namespace", "image")}

    before_the("snapshot_create", lose)
    with pytest.raises(errors.WorkerDied) as raised:
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem")
    words = f"Its outcome is unknown. {volumes[1]}@s {snapshot.DOUBTFUL} These snapshots were removed again: {volumes[0]}@s."
    assert str(raised.value) == words
    assert (list(look(volumes[0])), list(look(volumes[1]))) == ([], ["s"])


def test_a_thaw_that_fails_takes_them_back(volumes, modules, look, monkeypatch):
    """A fake thaw, which says that the storage does not answer."""

    def thaw(self):
        Freezer.leave(self)
        raise errors.CommandTimeout("It did not thaw.")

    monkeypatch.setattr(Freezer, "thaw", thaw)
    with pytest.raises(
        errors.CommandTimeout, match=f"It did not thaw. These snapshots were removed again: {volumes[0]}@s, {volumes[1]}@s."
    ):
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem")
    assert look(volumes[0]) == look(volumes[1]) == {}


def test_one_that_cannot_be_protected_is_not_left(spec, modules, rbd_cli, look):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "exclusive-lock")
    with pytest.raises(errors.RbdError):
        modules.rbd_snapshot.create(f"{spec}@s", protect=True)
    assert look(spec) == {}


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
