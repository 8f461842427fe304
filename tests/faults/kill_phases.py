"""What a run of Salt is doing just now, as told from inside of it by a piece of shared memory, and seen from outside."""

import mmap
import os
import subprocess
from pathlib import Path

from saltrbd import client, device_find, freeze, freezer, proc

from labkit import processes

_FLAGS = {"frozen": 0, "snapshot": 1, "clone": 2}
_MKFS = 8
_OPERATIONS = {"snapshot_create": "snapshot", "clone_create": "clone"}


class Phases:
    """Written by the child that runs Salt, read by the one that kills. Only watches: nothing is done in another way or order."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 64)

    def clear(self):
        self._memory[:64] = bytes(64)

    def _set(self, phase, value):
        self._memory[_FLAGS[phase]] = value

    def watch(self):
        """In the child: let the core say what it begins and ends."""
        batch, freezes, thaws, popen = client.Client.batch, freezer.Freezer.freeze, freezer.Freezer.thaw, subprocess.Popen.__init__

        def watched_batch(one, requests):
            met = {_OPERATIONS[op] for op, _ in requests if op in _OPERATIONS}
            for phase in met:
                self._set(phase, 1)
            try:
                return batch(one, requests)
            finally:
                for phase in met:
                    self._set(phase, 0)

        def watched_freeze(one):
            freezes(one)
            self._set("frozen", 1)

        def watched_thaw(one):
            self._set("frozen", 0)
            thaws(one)

        def watched_popen(one, argv, *args, **kwargs):
            popen(one, argv, *args, **kwargs)
            if os.path.basename(str(argv[0])).startswith("mkfs."):
                self._memory[_MKFS : _MKFS + 8] = one.pid.to_bytes(8, "little")

        client.Client.batch, freezer.Freezer.freeze, freezer.Freezer.thaw = watched_batch, watched_freeze, watched_thaw
        subprocess.Popen.__init__ = watched_popen

    def mkfs(self):
        """The pid of the mkfs that runs, or None."""
        pid = int.from_bytes(self._memory[_MKFS : _MKFS + 8], "little")
        return pid if pid and proc.name_of(pid).startswith("mkfs.") and proc.start_of(pid) else None

    def now(self, fsid):
        """The set of phases that hold in this moment."""
        found = {phase for phase, index in _FLAGS.items() if self._memory[index]}
        if self.mkfs():
            found.add("mkfs")
        if unmounted(fsid):
            found.add("unmounted")
        return found

    def holds(self, phase, fsid):
        """Whether a phase holds; cheaper than all of them."""
        if phase == "mkfs":
            return self.mkfs() is not None
        if phase == "unmounted":
            return unmounted(fsid)
        return bool(self._memory[_FLAGS[phase]])


def unmounted(fsid):
    """Whether an image of the cluster is mapped on this host and not mounted."""
    numbers = {mount.device for mount in proc.mounts()}
    mapped = [one for one in device_find.on_host() if one.fsid == fsid and one.device]
    try:
        return any(freeze.number_of(one.device) not in numbers for one in mapped)
    except OSError:
        return False  # it went just now


def helpers(salt):
    """The pids of (the freezing process, its guard) that a run of Salt has started; None for one that is not there."""
    name = os.path.basename(freezer.HELPER)
    found = processes.find(lambda argv: any(os.path.basename(word) == name for word in argv) and argv[-1] == str(salt))
    guards = [pid for pid in found if _parent(pid) in found]
    return next((pid for pid in found if pid not in guards), None), next(iter(guards), None)


def worker(salt):
    """The pid of the worker of a run of Salt, or None."""
    found = processes.find(lambda argv: len(argv) == 5 and argv[3].endswith("saltrbd/worker") and argv[4] == str(salt))
    return next(iter(found), None)


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
