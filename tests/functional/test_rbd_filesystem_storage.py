"""The storage stops in the middle: errors come within the limits, Salt does not hang, and the next run converges."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from labkit import cluster as lab_cluster

pytestmark = pytest.mark.timeout(180)
TIMEOUT = 4


@pytest.fixture
def salt(private_cluster, make_loaders):
    """Salt on a cluster of this test's own, with short limits."""
    keys = ("fsid", "monitors", "conf", "user", "keyring")
    pillar = {"ceph": {**{key: getattr(private_cluster, key) for key in keys}, "pool": "rbd"}}
    return make_loaders(pillar={**pillar, "rbd": {"timeout": TIMEOUT, "progress_timeout": 2 * TIMEOUT, "freeze_timeout": 3}})


@pytest.fixture
def osd(private_cluster):
    """The pid of the cluster's OSD, which goes on at the end."""
    pid = lab_cluster.daemons(private_cluster.folder)["ceph-osd"]
    yield pid
    os.kill(pid, signal.SIGCONT)


def within(seconds, function, *args, **kwargs):
    began = time.monotonic()
    result = function(*args, **kwargs)
    took = time.monotonic() - began
    assert took < seconds, f"{took:.1f} s"
    return result


def stop_when(pid, name):
    """Stop a process at the moment when a program runs."""

    def watch():
        until = time.monotonic() + 30
        while time.monotonic() < until:
            for entry in Path("/proc").iterdir():
                try:
                    if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(name + b"\0"):
                        os.kill(pid, signal.SIGSTOP)
                        return
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_an_osd_stops_under_mkfs(salt, osd):
    assert salt.states.rbd_image.present("a", size="512M").result is True
    assert salt.states.rbd_device.mapped("a").result is True
    watch = stop_when(osd, b"mkfs.ext4")
    # mkfs, its kill and the second look, each with a limit.
    ran = within(60, salt.states.rbd_filesystem.formatted, "a", fs_type="ext4", mkfs_options=["-i", 4096])
    watch.join()
    assert ran.result is False and ran.changes == {}
    assert "within" in ran.comment
    os.kill(osd, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while True:
        ran = salt.states.rbd_filesystem.formatted("a", fs_type="ext4")
        if ran.result or time.monotonic() > deadline:
            break
        time.sleep(1)  # the killed mkfs ends when its writes do
    assert ran.result is True, ran.comment
    assert salt.modules.rbd_filesystem.check("a")["state"] == "clean"


def test_an_osd_stops_under_umount_and_mount(salt, osd, tmp_path):
    point = str(tmp_path / "m")
    assert salt.states.rbd_image.present("a", size="512M").result is True
    assert salt.states.rbd_device.mapped("a").result is True
    assert salt.states.rbd_filesystem.formatted("a", fs_type="ext4").result is True
    assert salt.states.rbd_filesystem.mounted(point, image="a", persist=False).result is True
    Path(point, "file").write_bytes(os.urandom(1 << 20))
    os.kill(osd, signal.SIGSTOP)
    ran = within(60, salt.states.rbd_filesystem.mounted, point, image="a", persist=False)
    assert ran.result is False and f"within {TIMEOUT} s" in ran.comment
    ran = within(60, salt.states.rbd_filesystem.unmounted, point)
    assert ran.result is False and f"'umount {point}' did not end within {TIMEOUT} s" in ran.comment
    assert "it survives SIGKILL and is left behind: pid" in ran.comment
    os.kill(osd, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while salt.states.rbd_filesystem.unmounted(point).result is False or salt.modules.rbd_filesystem.info("a")["state"] == "mounted":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    ran = salt.states.rbd_filesystem.mounted(point, image="a", persist=False)
    assert ran.result is True, ran.comment
    assert Path(point, "file").stat().st_size == 1 << 20
