"""The site in machines under emulation, whose kernel has rbd and nbd. The tests are one story, in their order.

Two Ceph nodes and the management host: what a small host can carry.
"""

import json
import os
import time
import uuid

import lab_checks
import pytest

from labkit import prepare


@pytest.fixture(scope="module")
def lab(begin):
    """A management host and two Ceph nodes."""
    return begin("libvirt", 2)


@pytest.fixture(params=["krbd", "nbd"])
def driver(request):
    return request.param


def _state(lab, minion, function, name, **kwargs):
    words = [f"{key}={json.dumps(value)}" for key, value in kwargs.items()]
    (result,) = lab.salt(minion, "state.single", function, f"name={name}", *words)[minion].values()
    return result


def _done(lab, minion, function, name, **kwargs):
    result = _state(lab, minion, function, name, **kwargs)
    assert result["result"] is True, result["comment"]
    return result


def _refused(lab, minion, function, name, **kwargs):
    result = _state(lab, minion, function, name, **kwargs)
    assert result["result"] is False and result["changes"] == {}, result
    return result["comment"]


def test_up(lab):
    lab_checks.keys_are_preseeded(lab)
    lab_checks.is_whole(lab)
    lab_checks.changes_nothing(lab)
    # The kernel's own, by the driver that the states choose by themselves.
    assert {one["image"] for one in json.loads(lab.run("node1", "rbd", "device", "list", "--format=json")[1])} == {"rbd0001", "rbd0002"}


def test_scenario(lab, driver):
    """Written, frozen, snapshotted, cloned: the clone shows it; refused to the other machine; grown while it is mounted; unmapped."""
    name = f"story-{driver}"
    spec, clone, path = f"rbd/{name}", f"rbd/{name}-clone", f"/mnt/{name}"
    _done(lab, "node1", "rbd_image.present", spec, size="512M")
    _done(lab, "node1", "rbd_device.mapped", spec, driver=driver)
    _done(lab, "node1", "rbd_filesystem.formatted", spec, fs_type="ext4")
    _done(lab, "node1", "rbd_filesystem.mounted", path, image=spec)
    lab.run("node1", "sh", "-c", f"echo edit1 >{path}/edit")
    snapshot = _done(lab, "node1", "rbd_snapshot.protected", f"{spec}@snap1", consistency="filesystem")
    assert "Filesystem-consistent" in snapshot["comment"]
    _done(lab, "node1", "rbd_clone.present", clone, parent=f"{spec}@snap1")
    _done(lab, "node1", "rbd_device.mapped", clone, driver=driver)
    _done(lab, "node1", "rbd_filesystem.mounted", f"{path}-clone", image=clone)
    assert lab.run("node1", "cat", f"{path}-clone/edit")[1] == "edit1\n"
    said = _refused(lab, "node2", "rbd_device.mapped", spec, driver=driver)
    assert "mapped by the host node1" in said and "192.168.56.11:0/" in said
    _done(lab, "node1", "rbd_image.present", spec, size="1G")
    _done(lab, "node1", "rbd_filesystem.grown", spec)
    assert int(lab.run("node1", "df", "--block-size=1M", "--output=size", path)[1].split()[1]) > 900
    if driver == "nbd":
        (mapping,) = [one for one in lab.salt("node1", "rbd_device.list")["node1"] if one["image"] == name]
        assert mapping["quiesce"]
        # Another client's snapshot finds the filesystem at rest.
        lab.run("node1", "sh", "-c", f"echo edit2 >{path}/edit2")
        lab.run("node2", "rbd", "snap", "create", "--no-progress", f"{spec}@snap2")
    for image, where in ((clone, f"{path}-clone"), (spec, path)):
        _done(lab, "node1", "rbd_filesystem.unmounted", where)
        _done(lab, "node1", "rbd_device.unmapped", image)
    assert name not in lab.run("node1", "rbd", "device", "list", "-t", driver)[1]


def test_what_the_kernel_cannot_map_is_refused_before(lab):
    spec = f"rbd/j{uuid.uuid4().hex[:8]}"
    _done(lab, "node1", "rbd_image.present", spec, size="64M", features=["layering", "exclusive-lock", "journaling"])
    said = _refused(lab, "node1", "rbd_device.mapped", spec, driver="krbd")
    assert "journaling" in said and f"rbd feature disable {spec} journaling" in said


# What maps, formats, freezes and quiesces; ./lab test vm runs more of them, in machines that are faster.
@pytest.mark.parametrize("name", ["test_rbd_device", "test_freeze", "test_quiesce"])
def test_functional(lab, lab_home, driver, name):
    """The functional tests inside a node, against the cluster of the nodes."""
    venv = prepare.salt_environment(lab_home, os.environ.get("RBD_LAB_SALT", prepare.SALT))
    lab.carry("node1", venv)
    code, out = lab.test("node1", venv, f"tests/functional/{name}.py", RBD_LAB_DRIVER=driver)
    print(out)
    assert code == 0, out


def test_reload(lab):
    lab.run("node1", "sh", "-c", "echo kept >/mnt/test0001/kept && sync /mnt/test0001/kept")
    lab.vagrant("reload")
    lab_checks.is_whole(lab)
    assert lab.run("node1", "cat", "/mnt/test0001/kept")[1] == "kept\n"
    lab_checks.changes_nothing(lab)


def test_a_machine_is_pulled(lab):
    """The other one takes the volume after fencing, with the right data; the first one, back, cannot write."""
    spec, path = "rbd/moves", "/srv/moves"
    for state, name, kwargs in (
        ("rbd_image.present", spec, {"size": "512M"}),
        ("rbd_device.mapped", spec, {"driver": "krbd"}),
        ("rbd_filesystem.formatted", spec, {"fs_type": "ext4"}),
        ("rbd_filesystem.mounted", path, {"image": spec}),
    ):
        _done(lab, "node2", state, name, **kwargs)
    lab.run("node2", "dd", "if=/dev/urandom", f"of={path}/data", "bs=1M", "count=8", "status=none")
    lab.run("node2", "sh", "-c", f"sha256sum {path}/data >{path}/sum && sync --file-system {path}")
    assert "mapped by the host node2" in _refused(lab, "node1", "rbd_device.mapped", spec, driver="krbd")
    lab.pull("node2")
    # Until the cluster has missed node2's OSD, nothing is written.
    deadline = time.monotonic() + 1200
    while "1 up" not in lab.run("node1", "ceph", "osd", "stat")[1]:
        assert time.monotonic() < deadline
        time.sleep(5)
    _done(lab, "node1", "rbd_device.fenced", spec, who="node2")
    _done(lab, "node1", "rbd_device.mapped", spec, driver="krbd")
    _done(lab, "node1", "rbd_filesystem.mounted", path, image=spec, fs_type="ext4")
    assert "data: OK" in lab.run("node1", "sh", "-c", f"cd / && sha256sum --check {path}/sum")[1]
    assert lab.salt("node1", "rbd_device.fenced")["node1"]
    lab.vagrant("up", "node2", "--no-provision")
    deadline = time.monotonic() + 1200
    while lab.salt("node2", "test.ping", timeout=60).get("node2") is not True:
        assert time.monotonic() < deadline
        time.sleep(5)
    assert "mapped by the host node1" in _refused(lab, "node2", "rbd_device.mapped", spec, driver="krbd")
    assert lab.run("node2", "findmnt", "--mountpoint", path, check=False)[0] == 1


def test_destroy(lab):
    lab_checks.leaves_nothing(lab)
