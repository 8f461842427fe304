"""Watching worker processes from outside, and Salt processes for tests that kill them."""

import json
import subprocess
import sys
import time
from pathlib import Path

from saltrbd import settings

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
