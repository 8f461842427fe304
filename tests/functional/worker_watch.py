"""Watching worker processes from outside, Salt processes for tests that kill them, and clients with images of their own."""

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from saltrbd import settings, spec
from saltrbd.client import Client

from labkit import processes

UTILS = Path(__file__).resolve().parents[2] / "_utils"
WORKER = str(UTILS / "saltrbd/worker")


def chosen(cluster, conf=None, keyring=None, user="admin", fsid=None, **rbd):
    """Settings for a cluster: what a pillar with these keys under ``ceph:`` and ``rbd:`` gives."""
    ceph = {"conf": conf or cluster.conf, "keyring": keyring or cluster.keyring, "user": user, "fsid": fsid or cluster.fsid}
    return settings.load({"id": "tests"}, {"ceph": ceph, "rbd": rbd})


def workers():
    """Return {pid of a worker: pid of the process that started it}, of this checkout's workers on this host."""
    found = {}
    for pid in processes.find(lambda argv: len(argv) == 5 and argv[3] == WORKER):
        argv = processes.arguments(pid)
        if len(argv) == 5:
            found[pid] = int(argv[4])
    return found


def until(true, seconds, what):
    """Wait until ``true()`` holds and return its value; fails after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = true()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def gone(pid):
    """True when a process is not there any more, or only as a zombie."""
    return processes.state(pid) in ("", "Z")


def start_salt(chosen_settings, code, before=()):
    """Start Salt's Python with the core and run ``code`` there; ``ceph`` is a client, ``print`` is seen at once.

    ``before`` is a command that starts a command.
    """
    head = (
        "import json, os, sys, time; sys.path.insert(0, sys.argv[1]); from saltrbd import client, settings, spec\n"
        "values = json.loads(sys.argv[2]); values['monitors'] = tuple(values['monitors'])\n"
        "ceph = client.get(settings.Settings(**values))\n"
    )
    argv = [*before, sys.executable, "-u", "-c", head + code, str(UTILS), json.dumps(chosen_settings._asdict())]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def ceph(cluster):
    """A client of its own; afterwards its worker is gone."""
    found = Client(chosen(cluster))
    yield found
    pid = found._worker.pid if found._worker else None
    found.close()
    assert pid is None or processes.state(pid) == ""


@pytest.fixture
def make_client(cluster):
    """Clients with settings of their own: ``make_client(threads=3)``."""
    made = []

    def make(**options):
        made.append(Client(chosen(cluster, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_images(ceph, pool):
    """Make images and return their specs: ``make_images(200)``."""

    def make(count, size=8 << 20):
        found = [spec.parse(f"{pool}/{uuid.uuid4().hex[:8]}-{number}") for number in range(count)]
        for outcome in ceph.batch([("image_create", dict(one.where(), size=size)) for one in found]):
            outcome.get()
        return found

    return make


@pytest.fixture
def make_user(ceph_cli, pool, tmp_path):
    """Make a Ceph user with a profile for this file's pool: ``make_user("profile rbd")`` returns (name, keyring)."""
    made = []

    def make(profile):
        user = f"u-{uuid.uuid4().hex[:6]}"
        key = ceph_cli("auth", "get-or-create-key", f"client.{user}", "mon", "profile rbd", "osd", f"{profile} pool={pool}")
        made.append(user)
        keyring = tmp_path / f"{user}.keyring"
        keyring.write_text(f"[client.{user}]\n key = {key['key']}\n")
        return user, str(keyring)

    yield make
    for user in made:
        ceph_cli("auth", "rm", f"client.{user}")


def snapshots(images, name, **options):
    return [("snapshot_create", dict(one.at(name).where(), **options)) for one in images]


def failed(outcomes):
    return [outcome.error for outcome in outcomes if outcome.error is not None]
