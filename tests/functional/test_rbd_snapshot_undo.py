"""Consistent snapshots that did not come off: what this run has made is taken back, and nothing else."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from freeze_checks import no_helper_is_left
from saltrbd import client, device, errors, snapshot
from saltrbd import spec as specs
from saltrbd.freezer import Freezer
from state_checks import both, unchanged
from worker_watch import gone, until, workers

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


@pytest.fixture
def short(states, make_loaders):
    """The states of snapshots, with a second in which filesystems may stand still; of two loaders the last one counts."""
    return make_loaders(pillar={"rbd": {"freeze_timeout": 1}}).states.rbd_snapshot


@pytest.mark.parametrize(("protect", "consistency"), [(False, "filesystem"), (True, "filesystem"), (False, "auto")])
def test_thawed_before_the_snapshots_were_there(protect, consistency, volumes, short, look, slow_monitor, states, before_the):
    """By ``auto`` too: a set that is not of one moment is none."""
    state = short.protected if protect else short.present
    before_the("snapshot_create", lambda *_: slow_monitor(4))
    ran = state("s", images=volumes, consistency=consistency)
    assert ran.result is False and ran.changes == {}
    assert "The filesystems were thawed before every snapshot was on its image (rbd:freeze_timeout is 1 s)." in ran.comment
    assert f"These snapshots were removed again: {volumes[0]}@s, {volumes[1]}@s." in ran.comment
    assert look(volumes[0]) == look(volumes[1]) == {}
    both(states.rbd_snapshot.present, "s", images=volumes, consistency="filesystem")


def test_a_single_one_that_was_thawed_before_is_called_what_it_is(volumes, short, look, slow_monitor, before_the):
    before_the("snapshot_create", lambda *_: slow_monitor(2.5))  # the guard of the freeze would kill what thaws after 4 s
    ran = short.present(f"{volumes[0]}@s")
    assert ran.result is True and list(look(volumes[0])) == ["s"]
    why = r"its filesystem was thawed after \d+ s, before the snapshot was known to be on the image"
    assert re.search(f" Crash-consistent: {volumes[0]}@s. {volumes[0]}@s: {why}.$", ran.comment), ran.comment


@pytest.mark.parametrize("step", ["snapshot_create", "snapshot_name"])
def test_one_that_another_has_made_meanwhile_stays(step, volumes, modules, rbd_cli, look, before_the):
    """Before ours are begun, or before they get their names."""
    before_the(step, lambda *_: rbd_cli("snap", "create", f"{volumes[1]}@s"))
    with pytest.raises(errors.SnapshotExists) as raised:
        modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem", protect=True)
    said = {"snapshot_create": "the snapshot exists already", "snapshot_name": "another snapshot of that name exists by now"}[step]
    assert str(raised.value).endswith(f"{volumes[1]}@s failed: {said}. These snapshots were removed again: {volumes[0]}@s.")
    assert (list(look(volumes[0])), list(look(volumes[1]))) == ([], ["s"])


def test_what_cannot_be_taken_back_is_named(volumes, modules, rbd_cli, look, before_the):
    """Somebody clones one of them before it is taken back: before it has its name, and after."""

    def clone(*_):
        (name,) = look(volumes[0])
        rbd_cli("clone", "--rbd-default-clone-format", "2", f"{volumes[0]}@{name}", f"{volumes[0]}-{name}")

    before_the("snapshot_undo", clone)
    for begun in (True, False):
        if begun:
            rbd_cli("snap", "create", f"{volumes[1]}@s")
        else:
            before_the("snapshot_name", lambda *_: rbd_cli("snap", "create", f"{volumes[1]}@s"))
        with pytest.raises(errors.SnapshotExists) as raised:
            modules.rbd_snapshot.create("s", images=volumes, consistency="filesystem")
        assert f"{volumes[0]}@s {snapshot.LEFT if begun else snapshot.DOUBTFUL}" in str(raised.value)
        assert "clones hang on it" in str(raised.value) and "removed again" not in str(raised.value)
        (left,) = look(volumes[0])
        assert left.startswith("saltrbd_begun.") if begun else left == "s"
        rbd_cli("rm", "--no-progress", f"{volumes[0]}-{left}")
        rbd_cli("snap", "rm", f"{volumes[0]}@{left}")
        rbd_cli("snap", "rm", f"{volumes[1]}@s")


def test_one_whose_making_had_no_answer_is_named(volumes, modules, look, before_the):
    """The second snapshot is made, and its answer is lost with the worker: it has no name by which it would be taken for one."""

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
    words = f"Its outcome is unknown. {volumes[1]}@s {snapshot.LEFT} These snapshots were removed again: {volumes[0]}@s."
    assert str(raised.value) == words
    assert look(volumes[0]) == {} and [name.partition(".")[0] for name in look(volumes[1])] == ["saltrbd_begun"]


def test_salt_is_killed_while_they_stand_still(volumes, states, look, cluster, before_the, monkeypatch):
    """The client that has the images' locks, their device, makes the snapshots when the monitor gives it their ids, and nobody is left who
    knows what they are. They are not taken for what was declared, and go when they are an hour old."""
    monitor, test, (told, tell) = lab_cluster.daemons(cluster.folder)["ceph-mon"], os.getpid(), os.pipe()

    def stop_the_monitor(*_):
        if os.getpid() != test:
            os.kill(monitor, signal.SIGSTOP)
            os.write(tell, b"x")

    before_the("snapshot_create", stop_the_monitor)
    salt = os.fork()
    if not salt:
        try:
            states.rbd_snapshot.present("s", images=volumes, consistency="filesystem")
        finally:
            os._exit(0)
    try:
        os.close(tell)
        assert os.read(told, 1) == b"x", "it ended before it made any"
        time.sleep(1)
        os.kill(salt, signal.SIGKILL)
        until(lambda: not any(gone(parent) for parent in workers().values()), 10, "the worker is gone")
    finally:
        os.kill(monitor, signal.SIGCONT)
        os.waitpid(salt, 0)
        os.close(told)
    no_helper_is_left(20)
    until(lambda: all(look(volume) for volume in volumes), 60, "they are made late")
    assert {name.partition(".")[0] for volume in volumes for name in look(volume)} == {"saltrbd_begun"}

    ran = both(states.rbd_snapshot.present, "s", images=volumes, consistency="filesystem")
    assert all(f"{volume}@s (frozen for " in ran.comment for volume in volumes)
    assert [len(look(volume)) for volume in volumes] == [2, 2]
    monkeypatch.setattr(snapshot, "ABANDONED", 0)
    ran = both(states.rbd_snapshot.present, "s", images=volumes, consistency="filesystem")
    assert len(ran.changes) == 2 and "saltrbd_begun." in ran.comment
    assert [list(look(volume)) for volume in volumes] == [["s"], ["s"]]


def test_what_was_never_finished_is_no_snapshot_to_any_state(ceph, spec, rbd_cli, look, states, modules, monkeypatch):
    """It is removed when it is old, protected or not; only whoever names it as it is called gets hold of it."""
    rbd_cli("create", spec, "--size", "8M")
    where = specs.parse(f"{spec}@s")
    left = {f"saltrbd_begun.{n}": ceph.call("snapshot_create", where, protect=n == 3, begun=str(n))["id"] for n in (1, 2, 3)}
    assert look(spec) == left and modules.rbd_snapshot.list(spec) == []
    unchanged(states.rbd_snapshot.absent, f"{spec}@s")
    unchanged(states.rbd_snapshot.retained, spec, pattern="*", latest=1)
    both(states.rbd_snapshot.absent, f"{spec}@saltrbd_begun.1")
    both(states.rbd_snapshot.present, f"{spec}@s")
    assert set(look(spec)) == {"saltrbd_begun.2", "saltrbd_begun.3", "s"}
    monkeypatch.setattr(snapshot, "ABANDONED", 0)
    both(states.rbd_snapshot.present, f"{spec}@s")
    assert list(look(spec)) == ["s"]


@pytest.mark.parametrize("features", ["exclusive-lock", "exclusive-lock,journaling"])
def test_a_name_is_given_once(features, ceph, spec, rbd_cli, look):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", features)
    where = specs.parse(f"{spec}@s")
    first, second = (ceph.call("snapshot_create", where, begun=token)["id"] for token in ("1", "2"))
    ceph.call("snapshot_name", where, snapshot_id=first)
    assert look(spec) == {"s": first, "saltrbd_begun.2": second}
    with pytest.raises(errors.SnapshotExists, match=f"Naming the snapshot {spec}@s failed: another snapshot of that name exists by now"):
        ceph.call("snapshot_name", where, snapshot_id=second)
    with pytest.raises(errors.SnapshotExists):
        ceph.call("snapshot_create", where, begun="3")
    ceph.call("snapshot_undo", where, snapshot_id=second)
    with pytest.raises(errors.SnapshotNotFound):
        ceph.call("snapshot_name", where, snapshot_id=second)
    assert look(spec) == {"s": first}


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
