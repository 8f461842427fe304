"""Devices when something dies: the daemon, Salt, the monitor, the OSD; and many who map at once."""

import json
import os
import signal
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import stopped
from saltrbd import client, device, device_find, owner, proc, settings
from saltrbd import spec as specs
from state_checks import both, refused

from labkit import cluster as lab_cluster


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def parsed(spec):
    return specs.parse(spec)


@pytest.fixture
def image(rbd_cli, spec):
    """An empty image of 64 MiB."""
    rbd_cli("create", spec, "--size", "64M")
    return spec


@pytest.fixture
def ceph(cluster, pool):
    """The client that the modules use, with this file's cluster."""
    values = {"conf": cluster.conf, "user": cluster.user, "keyring": cluster.keyring, "fsid": cluster.fsid, "pool": pool}
    found = client.get(settings.load({"id": "tests"}, {"ceph": values}))
    yield found
    found.close()


def test_a_daemon_that_died_is_refused_while_it_is_watched_and_recovered_then(states, modules, image, tmp_path):
    both(states.rbd_device.mapped, image)
    before = modules.rbd_device.info(image)
    run("mkfs.ext4", "-q", before["device"])
    run("mount", before["device"], tmp_path)
    os.kill(before["pid"], signal.SIGKILL)
    killed = time.monotonic()
    while proc.start_of(before["pid"]) is not None:
        time.sleep(0.02)
    assert modules.rbd_device.list()[image]["fault"] == "its daemon is dead"
    assert f"mounted on {tmp_path}" in refused(states.rbd_device.mapped, image)
    run("umount", tmp_path)
    comment = refused(states.rbd_device.mapped, image)
    assert "still watched from 127.0.0.1:0/" in comment and "try again" in comment
    while states.rbd_device.mapped(image, test=True).result is False:
        assert time.monotonic() < killed + 60
        time.sleep(1)
    assert time.monotonic() > killed + 20
    result = both(states.rbd_device.mapped, image)
    assert result.changes[image]["device"]["old"] == "mapped by fuse, but its daemon is dead"
    run("mount", modules.rbd_device.info(image)["device"], tmp_path)
    run("umount", tmp_path)
    both(states.rbd_device.unmapped, image)


def test_what_a_dead_daemon_left_can_be_unmapped_at_once(states, modules, image):
    both(states.rbd_device.mapped, image)
    os.kill(modules.rbd_device.info(image)["pid"], signal.SIGKILL)
    both(states.rbd_device.unmapped, image)
    assert modules.rbd_device.users(image)["owner"] is None
    assert modules.rbd_device.list() == {}


def test_many_at_once(ceph, pool, rbd_cli, cluster):
    """Twenty mappers of one image in processes of their own get one device; four images at once get four."""
    spec = f"{pool}/many-{uuid.uuid4().hex[:6]}"
    names = [f"{spec}-{number}" for number in range(4)]
    for name in [spec, *names]:
        rbd_cli("create", name, "--size", "8M")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from saltrbd import client, device, settings, spec; "
        "ceph = client.get(settings.load({'id': 'tests'}, {'ceph': {'conf': sys.argv[2], 'keyring': sys.argv[3]}})); "
        "print(device.map_image(ceph, spec.parse(sys.argv[4])).device)"
    )
    root = str(Path(device.__file__).parent.parent)

    def map_it(name):
        return run("/usr/bin/python3", "-c", code, root, cluster.conf, cluster.keyring, name)

    with ThreadPoolExecutor(12) as threads:
        devices = list(threads.map(map_it, [spec] * 12 + names))
    assert len(set(devices[:12])) == 1
    assert len(set(devices)) == 5
    for name in [spec, *names]:
        assert device.unmap(ceph, parsed(name)) is True


@pytest.mark.parametrize("delay", [0.25, 0.3, 0.35, 0.4, 0.5])
def test_salt_killed_while_it_maps(states, modules, ceph, image, cluster, delay):
    """Whatever a killed run leaves, the next one makes it whole and the one after finds nothing to do."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from saltrbd import client, device, settings, spec; "
        "ceph = client.get(settings.load({'id': 'tests'}, {'ceph': {'conf': sys.argv[2], 'keyring': sys.argv[3]}})); "
        "device.map_image(ceph, spec.parse(sys.argv[4]))"
    )
    argv = ["/usr/bin/python3", "-c", code, str(Path(device.__file__).parent.parent), cluster.conf, cluster.keyring, image]
    process = subprocess.Popen(argv)
    time.sleep(delay)
    process.kill()
    process.communicate()
    time.sleep(0.3)  # the daemon that it may have started goes on
    dry = states.rbd_device.mapped(image, test=True)
    real = states.rbd_device.mapped(image)
    assert real.result is True, real.comment
    assert dry.changes == real.changes
    again = states.rbd_device.mapped(image)
    assert (again.result, again.changes) == (True, {}), again.comment
    assert owner.holder(ceph, parsed(image), ceph.call("image_info", parsed(image))["id"]).facts["address"]
    assert len([one for one in device_find.on_host() if str(one.spec) == image]) == 1
    both(states.rbd_device.unmapped, image)
    assert modules.rbd_device.users(image)["owner"] is None


def test_a_lock_that_was_left_is_given_back(states, modules, ceph, image):
    wanted = parsed(image)
    image_id = ceph.call("image_info", wanted)["id"]
    owner.take(ceph, wanted, image_id, owner.Verdict(), "cookie", "fuse")
    result = both(states.rbd_device.unmapped, image)
    assert result.changes == {image: {"lock": {"old": "held by this host", "new": None}}}
    assert modules.rbd_device.users(image)["owner"] is None


def test_the_daemon_outlives_salt(make_minion_config, image, modules, states, rbd_cli):
    argv = ["salt-call", "-c", str(make_minion_config()), "--local", "--out=json", "rbd_device.map", image]
    salt = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    answer = json.loads(salt.communicate(timeout=60)[0])["local"]
    pid = modules.rbd_device.info(image)["pid"]
    with open(f"/proc/{pid}/stat") as file:
        parent, group, session = file.read().rpartition(")")[2].split()[1:4]
    assert parent == "1"
    assert str(os.getsid(0)) != session and str(salt.pid) not in (group, session)
    assert os.path.realpath(answer["link"]) == answer["device"]
    assert both(states.rbd_device.unmapped, image).result


def test_the_same_name_in_another_cluster(whole, make_loaders, states, modules, rbd_cli):
    """Pool, image and snapshot are called the same in two clusters: a device of the one is never taken for the other's."""
    other = type(rbd_cli)(whole)
    ceph = {key: getattr(whole, key) for key in ("conf", "keyring", "user", "fsid", "monitors")}
    theirs = make_loaders(pillar={"ceph": {**ceph, "pool": "rbd"}})
    image = f"rbd/twin-{uuid.uuid4().hex[:6]}"
    for cli in (rbd_cli, other):
        cli("create", image, "--size", "8M")
    both(states.rbd_device.mapped, image)
    ours = modules.rbd_device.info(image)
    assert image not in theirs.modules.rbd_device.list()
    assert (theirs.states.rbd_device.unmapped(image).result, theirs.states.rbd_device.unmapped(image).changes) == (True, {})
    both(theirs.states.rbd_device.mapped, image)
    second = theirs.modules.rbd_device.info(image)
    assert second["device"] != ours["device"] and second["link"] != ours["link"]
    for facts, word in ((ours, b"ours"), (second, b"theirs")):
        with open(facts["device"], "r+b", buffering=0) as file:
            file.write(word.ljust(512))
            os.fsync(file.fileno())
    both(theirs.states.rbd_device.unmapped, image)
    assert modules.rbd_device.info(image)["device"] == ours["device"] and os.path.realpath(ours["link"]) == ours["device"]
    both(states.rbd_device.unmapped, image)
    for cli, word in ((rbd_cli, "ours"), (other, "theirs")):
        assert cli("export", "--no-progress", image, "-").startswith(f"{word} ")
        cli("rm", "--no-progress", image)


@pytest.fixture
def impatient(whole, make_loaders):
    """Loaders for the cluster whose daemons are stopped: what has no answer within 4 s fails."""
    ceph = {key: getattr(whole, key) for key in ("conf", "keyring", "user", "fsid")}
    return make_loaders(pillar={"ceph": {**ceph, "pool": "rbd"}, "rbd": {"timeout": 4}})


@pytest.fixture
def two(whole, rbd_cli, impatient):
    """Two images there: one that is mapped, and one that is not."""
    names = [f"rbd/{kind}-{uuid.uuid4().hex[:6]}" for kind in ("mapped", "other")]
    for name in names:
        type(rbd_cli)(whole)("create", name, "--size", "8M")
    assert impatient.states.rbd_device.mapped(names[0]).result is True
    return names


def test_the_monitor_is_stopped(whole, impatient, two):
    mapped, other = two
    began = time.monotonic()
    with stopped(whole, "ceph-mon"):
        failed = impatient.states.rbd_device.mapped(other)
        # The session that is there does without a monitor: nothing of that map is left, its lock neither.
        left = impatient.states.rbd_device.unmapped(other)
    assert time.monotonic() - began < 40
    assert failed.result is False and failed.changes == {}
    assert failed.comment.startswith(f"{other} could not be mapped. ") and "did not end within 4 s" in failed.comment, failed.comment
    assert f"Look whether the monitors run, and whether this host reaches them ({whole.conf})." in failed.comment
    assert (left.result, left.changes) == (True, {}), left.comment
    assert impatient.states.rbd_device.unmapped(mapped).result is True


def test_the_osd_is_stopped(whole, impatient, two):
    mapped, other = two
    began = time.monotonic()
    with stopped(whole, "ceph-osd"):
        results = [impatient.states.rbd_device.mapped(other), impatient.states.rbd_device.unmapped(mapped)]
    assert time.monotonic() - began < 40
    assert [result.result for result in results] == [False, False]
    assert all("4 s" in result.comment for result in results), [result.comment for result in results]
    deadline = time.monotonic() + 120
    while (last := impatient.states.rbd_device.unmapped(mapped)).result is not True:
        assert time.monotonic() < deadline, (last.comment, lab_cluster.ceph(whole.folder, "status"))
        time.sleep(1)
