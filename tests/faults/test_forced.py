"""Faults forced on a real cluster under a whole highstate: it ends within its limits, names what is wrong, and the next one after the fault
makes everything as declared, with the data that was there before.

Each fault is a context manager: it holds while the highstate runs, and is gone after it.
"""

import os
import signal
import subprocess
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from kill_phases import unmounted
from kill_site import Site
from saltrbd import doctor

from labkit import cluster as lab_cluster
from labkit import commands, processes

TIMEOUT = 4
# Seconds for a whole highstate under a fault: a few states meet it themselves, each within a few of its limits; the rest depends on them.
LONGEST = 75


@pytest.fixture(scope="module")
def user(whole, tmp_path_factory):
    """A user with what the documentation gives: (name, keyring)."""
    path = tmp_path_factory.mktemp("user") / "keyring"
    commands.run(
        ["ceph", "-c", whole.conf, "auth", "get-or-create", "client.volumes", "mon", "profile rbd", "osd", "profile rbd", "-o", str(path)]
    )
    path.chmod(0o600)
    return "volumes", str(path)


@pytest.fixture(scope="module")
def host(whole, user, tmp_path_factory, repo):
    name, keyring = user
    found = Site(
        whole,
        "rbd",
        tmp_path_factory.mktemp("host"),
        repo,
        ceph={"user": name, "keyring": keyring},
        rbd={"timeout": TIMEOUT, "progress_timeout": 6, "freeze_timeout": 6},
    )
    found.keep()
    yield found
    assert lab_cluster.revive(whole.folder)
    found.close()


class Fault:
    """What a test needs of a fault: a context, the words that name it, and whether it begins in the middle of the highstate."""

    def __init__(self, whole, host, user):
        self.whole, self.host, self.user = whole, host, user

    def ceph(self, *words):
        return lab_cluster.ceph(self.whole.folder, *words)

    @contextmanager
    def stopped(self, daemon):
        pid = lab_cluster.daemons(self.whole.folder)[daemon]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def osd_blocks(self):
        return self.stopped("ceph-osd")

    def monitor_hangs(self):
        return self.stopped("ceph-mon")

    @contextmanager
    def monitor_down(self):
        pid = lab_cluster.daemons(self.whole.folder)["ceph-mon"]
        os.kill(pid, signal.SIGKILL)
        while processes.state(pid):
            time.sleep(0.05)
        yield
        assert lab_cluster.revive(self.whole.folder)

    @contextmanager
    def osd_full(self):
        """So it is from a millionth of its space on; it has a few megabytes in it. Ceph lets writes wait then, without an error."""
        ratios = {"nearfull": "0.85", "backfillfull": "0.9", "full": "0.95"}
        try:
            for name in ratios:
                self.ceph("osd", f"set-{name}-ratio", "0.000001")
            self._told_by_the_doctor("OSD_FULL")
            yield
        finally:
            for name, ratio in ratios.items():
                self.ceph("osd", f"set-{name}-ratio", ratio)
        self._is_over("OSD_FULL")

    @contextmanager
    def quota(self):
        """The pool may have no more objects than it has; writes wait as well."""
        try:
            self.ceph("osd", "pool", "set-quota", "rbd", "max_objects", "1")
            self._told_by_the_doctor("POOL_FULL")
            yield
        finally:
            self.ceph("osd", "pool", "set-quota", "rbd", "max_objects", "0")
        self._is_over("POOL_FULL")

    def _told_by_the_doctor(self, code):
        self.until(lambda: code in self.ceph("health")["checks"], 90)
        found = {one.name: one for one in doctor.examine({}, self.host.loaders.pillar)}
        assert (found["health"].status, code in found["health"].text) == ("fault", True), found["health"]

    def _is_over(self, code):
        self.until(lambda: code not in self.ceph("health")["checks"], 90)

    @contextmanager
    def capability_missing(self):
        self.ceph("auth", "caps", "client.volumes", "mon", "profile rbd", "osd", "profile rbd-read-only")
        try:
            yield
        finally:
            self.ceph("auth", "caps", "client.volumes", "mon", "profile rbd", "osd", "profile rbd")

    @contextmanager
    def keyring_unreadable(self):
        path = Path(self.user[1])
        content = path.read_bytes()
        path.write_bytes(b"\x00" * len(content))
        try:
            yield
        finally:
            path.write_bytes(content)

    @contextmanager
    def wrong_fsid(self):
        pillar = self.host.pillar
        self.host.pillar = {"ceph": {"fsid": "00000000-1111-2222-3333-444444444444"}}
        try:
            yield
        finally:
            self.host.pillar = pillar

    @contextmanager
    def disk_full(self):
        """The file system below the new mount points has no inode left."""
        root = self.host.folder / "mnt"
        commands.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=5", "tmpfs", str(root)])
        try:
            for number in range(4):
                (root / str(number)).touch()
            yield
        finally:
            commands.run(["umount", str(root)])

    @staticmethod
    def until(true, seconds):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "the cluster does not say so"
            time.sleep(0.3)


@pytest.fixture
def fault(whole, host, user):
    return Fault(whole, host, user)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("osd_blocks", "had no answer within 4 s from the cluster at"),
        ("osd_full", "had no answer within 4 s from the cluster at"),
        ("quota", "had no answer within 4 s from the cluster at"),
        ("monitor_hangs", "Look whether the monitors run"),
        ("monitor_down", "Look whether the monitors run"),
        ("capability_missing", "the cluster does not permit it"),
        ("keyring_unreadable", "client.volumes"),
        ("wrong_fsid", "but ceph:fsid is 00000000-1111-2222-3333-444444444444; nothing was done"),
        ("disk_full", "No space left on device"),
    ],
)
def test_a_highstate_under_a_fault(host, fault, name, words):
    host.take_away()
    number, declared = host.next()
    with getattr(fault, name)():
        began = time.monotonic()
        results = host.apply(declared)
        took = time.monotonic() - began
    said = [one[1] for one in results if one[0] is not True]
    assert took < LONGEST, f"{took:.0f} s"
    assert words in " ".join(said), said
    assert "Traceback" not in str(results)
    host.converge(declared)
    host.data(number)
    host.orphans(["keeper", f"v{number}", f"c{number}"])
    host.unchanged(declared)


def test_the_pool_goes_under_way(whole, host, repo, tmp_path_factory):
    """In the middle of a highstate, with an image mapped. What was in it is gone; with the pool made anew a highstate makes all again."""
    pool = f"gone-{uuid.uuid4().hex[:6]}"

    def make():
        lab_cluster.ceph(whole.folder, "osd", "pool", "create", pool)
        commands.run(["rbd", "-c", whole.conf, "pool", "init", pool])

    make()
    other = Site(whole, pool, tmp_path_factory.mktemp("other"), repo, rbd={"timeout": TIMEOUT, "progress_timeout": 6, "freeze_timeout": 6})
    _, declared = other.next()
    host.take_away()
    pid, answer = other.start(declared, watch=True)
    while not unmounted(whole.fsid):
        assert processes.state(pid) not in ("", "Z")
        time.sleep(0.005)
    lab_cluster.ceph(whole.folder, "osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")
    began = time.monotonic()
    results = other.finish(pid, answer)
    assert time.monotonic() - began < LONGEST
    said = [one[1] for one in results if one[0] is not True]
    assert f"the pool {pool} does not exist" in " ".join(said), said
    assert "Traceback" not in str(results)
    make()
    for one in other.mappings():
        if one.spec.pool == pool:
            subprocess.run(["umount", one.device], stderr=subprocess.DEVNULL, timeout=30, check=False)
            other.done(other.loaders.states.rbd_device.unmapped, str(one.spec))
    other.converge(declared)
    other.unchanged(declared)
    other.take_away("none")
    assert [one for one in other.mappings() if one.spec.pool == pool] == []
