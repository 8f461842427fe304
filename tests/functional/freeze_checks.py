"""Mounted volumes to freeze, and whether a filesystem stands still; shared by the tests of freezing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from saltrbd import device, freeze, proc, settings
from saltrbd import spec as specs
from saltrbd.freezer import HELPER

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"

HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from saltrbd import freeze, settings, spec
name = spec.parse(sys.argv[2])
target = freeze.Target(name, *sys.argv[3:7])
with freeze.held({name: target}, settings.load({}, {"rbd": {"freeze_timeout": float(sys.argv[7])}})):
    print("frozen", flush=True)
    time.sleep(60)
"""


def tool(*argv, check=True, timeout=60):
    return subprocess.run([shutil.which(argv[0], path=TOOLS), *argv[1:]], check=check, timeout=timeout, capture_output=True, text=True)


def chosen(cluster, pool, **limits):
    values = {"conf": cluster.conf, "user": cluster.user, "keyring": cluster.keyring, "fsid": cluster.fsid, "pool": pool}
    return settings.load({"id": "tests"}, {"ceph": values, "rbd": limits})


@pytest.fixture
def mounted(ceph, rbd_cli, spec, tmp_path):
    """Map an image and mount a filesystem from it: ``mounted("xfs", "320M")``; returns (spec, mount point)."""

    def make(fs_type="ext4", size="64M", name=spec, options="rw", point=None):
        rbd_cli("create", name, "--size", size)
        path = device.map_image(ceph, specs.parse(name)).device
        point = point or tmp_path / name.replace("/", "-")
        point.mkdir()
        tool(f"mkfs.{fs_type}", "-q", path)
        tool("mount", "-o", options, path, str(point))
        return specs.parse(name), str(point)

    return make


def targets(ceph, *wanted):
    return freeze.targets(ceph, wanted, {})


def is_frozen(point):
    """Nobody but the one who tries can tell: a frozen filesystem refuses to be frozen."""
    if "busy" in tool("fsfreeze", "--freeze", point, check=False).stderr:
        return True
    tool("fsfreeze", "--unfreeze", point)
    return False


def wait_thawed(point, seconds):
    until = time.monotonic() + seconds
    while is_frozen(point):
        assert time.monotonic() < until, f"{point} is frozen still after {seconds} s"
        time.sleep(0.1)


def helpers():
    """The pids of the freezing processes, each before its guard."""
    return sorted(pid for pid in proc.pids() if HELPER in proc.argv_of(pid))


def no_helper_is_left(seconds=5):
    until = time.monotonic() + seconds
    while helpers():
        assert time.monotonic() < until, helpers()
        time.sleep(0.05)


@pytest.fixture
def holder(repo, ceph):
    """Hold a filesystem frozen by a process of its own: ``holder(spec, limit)`` returns the process.

    ``before`` is a command that starts a command.
    """
    started = []

    def hold(spec, limit, before=()):
        target = targets(ceph, spec)[spec]
        words = [str(spec), target.mount_point, target.device, target.fs_type, target.number, str(limit)]
        argv = [*before, sys.executable, "-c", HOLD, str(repo / "_utils"), *words]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "frozen\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()


def kill_group(folders):
    """Kill every process in the control groups, as a service manager does, until none is left."""
    for _ in range(50):
        found = {int(pid) for folder in folders for pid in (folder / "cgroup.procs").read_text().split()}
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was still listed
        time.sleep(0.05)
    raise AssertionError(f"still there: {found}")
