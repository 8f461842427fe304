"""The safety rules on the real cluster, as far as no other file has them; what takes a second host is in test_two_clients."""

import json
import os
import time
import uuid

import pytest
from saltrbd import errors, killed, mkfs
from state_checks import both, refused

from labkit import cluster as lab_cluster

KINDS = {True: "in the trash", False: None}


@pytest.fixture
def image(rbd_cli, spec):
    """An empty image of 64 MiB."""
    rbd_cli("create", spec, "--size", "64M")
    return spec


@pytest.fixture
def volumes(states, image, tmp_path, rbd_cli):
    """Make volumes with a filesystem mounted here: ``volumes(number)`` returns their specs."""

    def make(number):
        made = [image] + [f"{image}-{extra}" for extra in range(1, number)]
        for spec in made[1:]:
            rbd_cli("create", spec, "--size", "64M")
        for spec in made:
            assert states.rbd_device.mapped(spec).result is True
            assert states.rbd_filesystem.formatted(spec, fs_type="ext4").result is True
            point = str(tmp_path / spec.replace("/", "-"))
            assert states.rbd_filesystem.mounted(point, image=spec, persist=False).result is True
        return made

    return make


@pytest.fixture
def slow_monitor(ceph_cli, cluster):
    """Let the monitor wait ten seconds before each change of its maps, a snapshot's number among them."""
    options = {"paxos_min_wait": "10", "paxos_propose_interval": "0"}
    for option, value in options.items():
        ceph_cli("config", "set", "mon", option, value)
    yield
    for option in options:
        ceph_cli("config", "rm", "mon", option)
    lab_cluster.hasten(cluster.folder)


def names(rbd_cli, image):
    return [item["name"] for item in rbd_cli.json("snap", "ls", image)]


@pytest.mark.parametrize(("before", "refuses"), [(100, True), (-120, False)])
def test_the_mark_of_a_killed_mkfs_covers_what_that_mkfs_can_have_written(before, refuses, states, modules, image, digest):
    """Somebody uses the device without a filesystem, and a mkfs of ours was killed on it: ``before`` is how much longer ago than a
    mkfs can take (in seconds; librbd keeps the time of a write to the minute)."""
    assert states.rbd_device.mapped(image).result is True
    begun = int(time.time()) - killed.SECONDS - before
    told = {"image": modules.rbd_image.info(image)["id"], "fs_type": "ext4", "uuid": str(uuid.uuid4()), "time": begun}
    modules.rbd_image.set_metadata(image, put={mkfs.KEY: json.dumps(told)})
    with open(modules.rbd_device.info(image)["device"], "r+b") as device:
        device.seek(20 << 20)
        device.write(os.urandom(1 << 20))
        os.fsync(device.fileno())
    kept = digest(image)
    if not refuses:
        made = both(states.rbd_filesystem.formatted, image, fs_type="ext4")
        assert made.changes[image]["filesystem"] == {"old": "what a killed mkfs.ext4 left", "new": "ext4"}
        return
    assert "librbd knows of data in it" in refused(states.rbd_filesystem.formatted, image, fs_type="ext4")
    with pytest.raises(errors.NotBlank, match="librbd knows of data in it"):
        modules.rbd_filesystem.format(image, fs_type="ext4")
    assert digest(image) == kept


@pytest.mark.parametrize("trash", [True, False])
def test_a_device_that_only_reads_stands_in_the_way_of_removal(trash, states, modules, image, rbd_cli, tmp_path):
    both(states.rbd_device.mapped, image, read_only=True)
    device = modules.rbd_device.info(image)["device"]
    said = refused(states.rbd_image.absent, image, trash=trash)
    assert f"In the way are: the read-only device {device} of {image} on this host" in said
    for remove in (modules.rbd_image.trash, modules.rbd_image.remove):
        with pytest.raises(errors.RbdError, match=f"read-only device {device} of {image}"):
            remove(image)
    assert rbd_cli.json("info", image)["size"] == 64 << 20
    both(states.rbd_device.unmapped, image)
    gone = both(states.rbd_image.absent, image, trash=trash)
    assert gone.changes == {image: {"image": {"old": "present", "new": KINDS[trash]}}}


def test_a_device_of_a_snapshot_stands_in_the_way_of_removal(states, modules, image, rbd_cli):
    snapshot = f"{image}@s"
    rbd_cli("snap", "create", snapshot)
    both(states.rbd_device.mapped, snapshot)
    device = modules.rbd_device.info(snapshot)["device"]
    for state, name in ((states.rbd_snapshot.absent, snapshot), (states.rbd_image.absent, image)):
        assert f"the read-only device {device} of {snapshot} on this host" in refused(state, name)
    assert names(rbd_cli, image) == ["s"]
    both(states.rbd_device.unmapped, snapshot)
    both(states.rbd_snapshot.absent, snapshot)


@pytest.mark.parametrize("function", ["present", "protected"])
def test_snapshots_after_the_thaw_are_taken_away_again(function, make_loaders, volumes, rbd_cli, slow_monitor):
    """The filesystems stand still for a shorter time than the monitor takes to hand out a snapshot's number."""
    made = volumes(2)
    loaders = make_loaders(pillar={"rbd": {"freeze_timeout": 4}})
    ran = getattr(loaders.states.rbd_snapshot, function)("s", images=made, consistency="filesystem")
    assert ran.result is False and ran.changes == {}
    assert "The filesystems were thawed before every snapshot was on its image (rbd:freeze_timeout is 4 s)" in ran.comment
    assert f"These snapshots were removed again: {made[0]}@s, {made[1]}@s." in ran.comment
    assert [names(rbd_cli, image) for image in made] == [[], []]


def test_what_was_made_beside_a_snapshot_that_failed_is_taken_away_again(modules, volumes, rbd_cli):
    made = volumes(2)
    rbd_cli("snap", "create", f"{made[1]}@s")
    (kept,) = rbd_cli.json("snap", "ls", made[1])
    with pytest.raises(errors.SnapshotExists, match=f"These snapshots were removed again: {made[0]}@s"):
        modules.rbd_snapshot.create("s", images=made, protect=True, consistency="filesystem")
    assert names(rbd_cli, made[0]) == []
    assert rbd_cli.json("snap", "ls", made[1]) == [kept]
