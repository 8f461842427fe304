"""What a run of Salt is doing just now, as told from inside of it by a piece of shared memory, and seen from outside."""

import mmap
import os
import subprocess
from pathlib import Path

from saltrbd import client, device_find, freeze, freezer, proc, process

from labkit import processes

_FLAGS = {"frozen": 0, "snapshot": 1, "clone": 2}
# Where the pids of what Salt has started last stand, and what tells these programs.
_STARTED = {"mkfs": 8, "worker": 16, "helper": 24}
_OPERATIONS = {"snapshot_create": "snapshot", "snapshot_name": "snapshot", "clone_create": "clone"}


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
            kind = kind_of(argv)
            if kind:
                self._memory[_STARTED[kind] : _STARTED[kind] + 8] = one.pid.to_bytes(8, "little")

        client.Client.batch, freezer.Freezer.freeze, freezer.Freezer.thaw = watched_batch, watched_freeze, watched_thaw
        subprocess.Popen.__init__ = watched_popen

    def started(self, kind):
        """The pid of the mkfs, the worker or the helper that runs, or None."""
        pid = int.from_bytes(self._memory[_STARTED[kind] : _STARTED[kind] + 8], "little")
        return pid if pid and proc.start_of(pid) is not None and kind_of(processes.arguments(pid)) == kind else None

    def now(self, fsid):
        """The set of phases that hold in this moment."""
        found = {phase for phase, index in _FLAGS.items() if self._memory[index]}
        if self.started("mkfs"):
            found.add("mkfs")
        if unmounted(fsid):
            found.add("unmounted")
        return found

    def holds(self, phase, fsid):
        """Whether a phase holds; cheaper than all of them."""
        if phase == "mkfs":
            return self.started("mkfs") is not None
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


def kind_of(argv):
    """What of ours an argument list starts, or None; a helper starts as systemd-run and becomes itself."""
    words = [str(word) for word in argv]
    if words and os.path.basename(words[0]).startswith("mkfs."):
        return "mkfs"
    if freezer.HELPER in words:
        return "helper"
    return "worker" if process._HERE in words else None


def guard(helper):
    """The pid of the process that thaws where the freezing one dies, or None."""
    try:
        children = Path(f"/proc/{helper}/task/{helper}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
