"""What ``./lab up`` repairs and ``./lab down`` takes away, on a cluster of its own that dies in several ways."""

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from labkit import cleanup
from labkit import cluster as lab_cluster


@pytest.fixture
def home(tmp_path_factory, cluster):
    folder = tmp_path_factory.mktemp("lab")
    yield folder
    assert cleanup.clear(folder) == []
    assert lab_cluster.healthy(cluster.folder), "the cluster beside it was touched"


@pytest.fixture
def mounted(make_loaders, tmp_path):
    """Map an image of a cluster, make a filesystem, write into it without a sync; return its mount point."""

    def mount(known):
        modules = make_loaders(pillar={"ceph": {**known, "fs_type": "ext4"}}).modules
        modules.rbd_image.create("rbd/a", "64M")
        device = modules.rbd_device.map("rbd/a")["device"]
        subprocess.run(["mkfs.ext4", "-q", device], check=True, timeout=60)
        point = tmp_path / "mount"
        point.mkdir()
        subprocess.run(["mount", device, point], check=True, timeout=60)
        (point / "file").write_bytes(os.urandom(8 * 2**20))
        return point

    return mount


def kill(folder, *names, sign=signal.SIGKILL):
    running = lab_cluster.daemons(folder)
    for name in names:
        os.kill(running[name], sign)
    deadline = time.monotonic() + 30
    while sign == signal.SIGKILL and any(os.path.exists(f"/proc/{running[name]}") for name in names):
        assert time.monotonic() < deadline, f"{names} did not end within 30 s"
        time.sleep(0.05)


def nothing_is_left(folder, known, point):
    assert not any(cleanup.leftovers(known))
    assert lab_cluster.daemons(folder) == {}
    assert not folder.exists()
    assert not os.path.ismount(point)
    assert list(point.iterdir()) == []
    assert not [path for path in Path("/run/rbd-volumes").rglob("*") if known["fsid"] in str(path)]


def test_secrets_are_for_root_alone(cluster):
    keyrings = list(Path(cluster.folder).rglob("*keyring"))
    assert len(keyrings) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in keyrings} == {0o600}
    facts = (Path(cluster.folder) / "facts.json").read_text()
    assert "key = " in Path(cluster.keyring).read_text()
    assert "==" not in facts


@pytest.mark.parametrize("death", ["frozen", "OSD stopped", "all killed", "daemon killed"])
def test_clear_leaves_nothing(home, mounted, death):
    known = lab_cluster.start(home)
    point = mounted(known)
    served = cleanup.leftovers(known)
    assert (len(served.mounts), len(served.devices)) == (1, 1)
    if death == "frozen":
        subprocess.run(["fsfreeze", "--freeze", point], check=True, timeout=60)
    elif death == "OSD stopped":
        kill(home, "ceph-osd", sign=signal.SIGSTOP)
    elif death == "all killed":
        kill(home, *lab_cluster.DAEMONS)
    elif death == "daemon killed":
        for pid in served.daemons:
            os.kill(pid, signal.SIGKILL)
    assert cleanup.clear(home) == []
    nothing_is_left(home, known, point)
    assert cleanup.clear(home) == []


def test_what_died_is_started_again(home):
    known = lab_cluster.start(home)
    assert lab_cluster.listens(known)
    lab_cluster.ceph(home, "osd", "pool", "create", "kept")
    for names in (["ceph-mgr"], ["ceph-mon"], ["ceph-mon", "ceph-mgr"]):
        kill(home, *names)
        assert not lab_cluster.healthy(home)
        assert lab_cluster.listens(known) is ("ceph-mon" not in names)
        assert lab_cluster.start(home) == known
        assert lab_cluster.healthy(home)
    kill(home, "ceph-osd", sign=signal.SIGSTOP)
    assert not lab_cluster.healthy(home)
    assert lab_cluster.start(home) == known
    assert "kept" in lab_cluster.ceph(home, "osd", "pool", "ls")
    # The OSD keeps its data in memory: without it the cluster is a new one.
    kill(home, "ceph-osd")
    assert lab_cluster.start(home)["fsid"] != known["fsid"]
    assert "kept" not in lab_cluster.ceph(home, "osd", "pool", "ls")
