"""Workers that are killed, stopped, shut out or cannot die: what became of the calls, and the next call works."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections import Counter

import pytest
from saltrbd import errors, spec
from worker_watch import failed, snapshots, until

from labkit import processes


def test_killed_in_the_middle_of_two_hundred(make_client, make_user, make_images, own_pace):
    """What was answered stays answered; for the rest the error says what a new worker finds, and it is true. All this with the
    capabilities that Ceph's documentation gives a user of RBD."""
    images = make_images(200)
    user, keyring = make_user("profile rbd")
    ceph = make_client(user=user, keyring=keyring)
    ceph.call("cluster_info")
    killer = threading.Timer(1.3, os.kill, (ceph._worker.pid, signal.SIGKILL))
    killer.start()
    outcomes = ceph.batch(snapshots(images, "s", protect=True))
    killer.join()
    unknown = {image: outcome.error for image, outcome in zip(images, outcomes) if outcome.error}
    assert {type(error) for error in unknown.values()} == {errors.WorkerDied}
    facts = dict(zip(images, (outcome.get() for outcome in ceph.batch([("image_info", one.where()) for one in images]))))
    for image in images:
        found = facts[image]["snapshots"]
        if image not in unknown:
            assert found[0]["protected"]
            continue
        what = "the image without that snapshot" if not found else "the snapshot, " + "not " * (not found[0]["protected"]) + "protected"
        assert str(unknown[image]) == (
            f"Creating the snapshot {image}@s was cut off, because the worker process ended by SIGKILL. "
            f"Its outcome is unknown: a new worker finds {what}."
        )
    # The next writes need not wait until the dead worker's locks time out, and nothing of it is in the way.
    began = time.monotonic()
    assert failed(ceph.batch(snapshots(images, "t"))) == []
    assert time.monotonic() - began < 28
    users = ceph.batch([("image_users", one.where()) for one in images])
    assert Counter(len(outcome.get()["watchers"]) for outcome in users) == {0: 200}


def test_killed_under_questions(ceph, make_images):
    """Questions have no outcome that could be unknown: they are asked once more."""
    images = make_images(20)
    for _ in range(4):
        ceph.call("cluster_info")
        os.kill(ceph._worker.pid, signal.SIGKILL)
        assert failed(ceph.batch([("image_info", one.where()) for one in images])) == []


def test_stopped_worker(make_client, pool):
    """The limit is the client's: a worker that does not run at all is replaced."""
    ceph = make_client(timeout=4)
    ceph.call("cluster_info")
    stopped = ceph._worker.pid
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    outcomes = ceph.batch([("namespace_list", {"pool": pool})] * 300)
    assert time.monotonic() - began < 30  # the default limit
    # Two hundred were under way; the others got a new worker.
    assert Counter(type(outcome.error) for outcome in outcomes) == {errors.CephTimeout: 200, type(None): 100}
    assert str(failed(outcomes)[0]).startswith(f"Listing the namespaces of {pool} had no answer within 4 s from the cluster at ")
    assert processes.state(stopped) == ""


# A Python for workers of which one thread writes to a file, as soon as it is asked for that, and runs the worker besides.
STUCK_PYTHON = """#!/usr/bin/python3
import os, runpy, sys, threading, time
def write():
    while not os.path.exists("{go}"):
        time.sleep(0.05)
    open("{file}", "w")
threading.Thread(target=write, daemon=True).start()
sys.argv = sys.argv[3:]
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0] + "/__main__.py", run_name="__main__")
"""


@pytest.fixture
def frozen(tmp_path):
    """A filesystem that stands still: who writes to it sleeps in the kernel, and SIGKILL does not wake it."""
    disk, point = tmp_path / "disk", tmp_path / "point"
    point.mkdir()
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", disk, point], check=True, timeout=60)
    subprocess.run(["fsfreeze", "--freeze", point], check=True, timeout=60)
    yield point
    subprocess.run(["fsfreeze", "--unfreeze", point], check=True, timeout=60)
    for _ in range(100):
        if subprocess.run(["umount", point], timeout=60).returncode == 0:
            return
        time.sleep(0.1)
    pytest.fail(f"{point} cannot be unmounted")


@pytest.mark.parametrize("when", ["at its start", "in a call"])
def test_a_worker_that_survives_sigkill_is_left_and_named(when, make_client, frozen, tmp_path, pool, caplog):
    python = tmp_path / "python"
    python.write_text(STUCK_PYTHON.format(go=tmp_path / "go", file=frozen / "file"))
    if when == "at its start":
        python.write_text(f"#!/bin/sh\nexec dd if=/dev/zero of={frozen}/file bs=1 count=1\n")
    python.chmod(0o755)
    ceph = make_client(python=str(python), timeout=10 if when == "in a call" else 2)
    if when == "in a call":
        assert ceph.call("image_list", pool=pool) is not None
        ceph.settings = ceph.settings._replace(timeout=2, python="")
        pid = ceph._worker.pid
        (tmp_path / "go").touch()
        until(lambda: any(processes.state(f"{pid}/task/{task}") == "D" for task in os.listdir(f"/proc/{pid}/task")), 5, "it sleeps")
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(errors.RbdError) as caught:
        ceph.call("image_create", pool=pool, image=f"left-{uuid.uuid4().hex[:6]}", size=8 << 20)
    assert time.monotonic() - began < 2 + 2 + 5
    (said,) = re.findall(r"The worker process survives SIGKILL and is left behind: pid \d+, state D[^.]*\.", str(caught.value))
    assert said in caplog.messages
    if when == "in a call":
        assert f"pid {pid}," in said and "a new worker finds no such image" in str(caught.value)
        assert ceph.call("image_list", pool=pool) is not None


def test_session_that_is_shut_out(ceph, ceph_cli, make_images):
    """An administrator fences a client: the error says so, and the next call has a new session."""
    (image,) = make_images(1)
    ceph.call("snapshot_create", image.at("one"))
    shut_out = ceph._worker.pid
    ceph_cli("osd", "blocklist", "add", ceph._worker.sessions[0])
    with pytest.raises(errors.SessionLost, match="shut this session out .* The next call connects anew"):
        for number in range(50):
            ceph.call("snapshot_create", image.at(f"two-{number}"))
    assert ceph.call("snapshot_create", image.at("three"))
    assert ceph._worker.pid != shut_out


def test_pool_made_anew(ceph, make_pool, ceph_cli, rbd_cli):
    """A session that goes on for long must not look into a pool that is gone."""
    pool = make_pool()
    image = spec.parse(f"{pool}/again")
    ceph.call("image_create", image, size=1 << 20)
    ceph_cli("osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")
    # A pool that goes between the look for it and the look for its image is not called a missing image.
    with pytest.raises(errors.PoolNotFound):
        for _ in range(100):
            ceph.call("image_info", image)
            time.sleep(0.1)
    with pytest.raises(errors.PoolNotFound):
        for _ in range(100):
            ceph.call("image_list", pool=pool)
            time.sleep(0.1)
    ceph_cli("osd", "pool", "create", pool)
    rbd_cli("pool", "init", pool)
    assert ceph.call("image_list", pool=pool) == []
    ceph.call("image_create", image, size=1 << 20)
    assert rbd_cli("ls", pool) == "again"


def test_nothing_is_left_of_fifty_workers(make_client):
    ceph = make_client()
    ceph.call("cluster_info")
    held, folder = os.listdir("/proc/self/fd"), os.listdir(tempfile.gettempdir())
    for number in range(50):
        pid = ceph._worker.pid
        if number % 2:
            ceph.close()
        else:
            os.kill(pid, signal.SIGKILL)
        ceph.call("namespace_list", pool="rbd")
        assert processes.state(pid) == "", "no zombie"
    assert len(os.listdir("/proc/self/fd")) == len(held)
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - set(folder) if "saltrbd" in name or name.startswith("tmp")]
