"""How full the filesystems of this host's volumes are, and whether they stand still. Nothing is written.

A frozen filesystem tells nobody: who writes waits, without an end. So a child of its own takes a folder away that does not exist, for
which the kernel first asks for the right to write. While it waits no signal ends it; then this child is all that is there, and the next
looks only see whether it waits still. It ends by itself when the filesystem thaws.
"""

import contextlib
import json
import os
import select
import time
from collections import namedtuple

from saltrbd import freeze, launch, proc
from saltrbd.mapping import RUN, keep

PROBES = os.path.join(RUN, ".probes")
# Seconds for all filesystems together; one that is well answers in a millisecond.
LIMIT = 3.0
# No folder has this name, and none gets it.
_NO_FOLDER = ".saltrbd-no-such-folder"

# ``full``, ``inodes``: per cent, None where it does not say; ``frozen_for``: seconds, None where it is not; ``ours``: this package froze
# it; ``hangs``: it does not answer, and is not seen to be frozen.
Probe = namedtuple("Probe", "full inodes frozen_for ours hangs")


def probe(mounts, limit=LIMIT):
    """Return {mount point: :class:`Probe`} of ``proc.Mount`` s, within ``limit`` seconds."""
    os.makedirs(PROBES, mode=0o700, exist_ok=True)
    children, found = {}, {}
    for mount in mounts:
        waiting = _waiting(mount)
        if waiting:
            found[mount.point] = _judged(mount, waiting, {})
        else:
            children[mount.point] = (mount, *_child(mount))
    _gather(children, limit, found)
    _clear({mount.device for mount in mounts})
    return found


def _gather(children, limit, found):
    until, said, ended = time.monotonic() + limit, dict.fromkeys(children, b""), set()
    while len(ended) < len(children) and time.monotonic() < until:
        waits = {pipe: point for point, (_, _, pipe) in children.items() if point not in ended}
        ready = select.select(list(waits), [], [], max(0.0, until - time.monotonic()))[0]
        for pipe in ready:
            data = os.read(pipe, 4096)
            said[waits[pipe]] += data
            if not data:
                ended.add(waits[pipe])
    for point, (mount, pid, pipe) in children.items():
        os.close(pipe)
        facts = {}
        for line in said[point].splitlines():
            facts.update(json.loads(line.decode("ascii")))
        if point in ended:
            os.waitpid(pid, 0)
            found[point] = Probe(facts.get("full"), facts.get("inodes"), None, False, "full" not in facts)
            continue
        started = {"pid": pid, "start": proc.start_of(pid), "since": time.time() - limit, "point": point}
        keep(_path(mount), json.dumps(started))
        launch.move_to_roots(pid)  # whoever ends the minion need not wait for it
        found[point] = _judged(mount, started, facts)


def _child(mount):
    """Start the child that looks at one filesystem; return (pid, the pipe from which its lines come)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.setsid()
        os.dup2(writing, 0)
        os.closerange(1, 4096)  # nobody waits for our end because of a pipe of his
        os.chdir("/")
        found = os.statvfs(mount.point)
        free, files = found.f_blocks - found.f_bfree + found.f_bavail, found.f_files
        full = 100.0 * (1 - found.f_bavail / free) if free else 0.0
        _tell({"full": full, "inodes": 100.0 * (1 - found.f_ffree / files) if files else 0.0})
        if _is_writable(mount):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(mount.point, _NO_FOLDER))
    except BaseException:  # noqa: BLE001 -- this copy of the process must end here, whatever it is
        os._exit(1)
    os._exit(0)


def _tell(facts):
    os.write(0, (json.dumps(facts) + "\n").encode("ascii"))


def _is_writable(mount):
    return "rw" in mount.super_options.split(",") and "rw" in mount.options.split(",")


def _path(mount):
    return os.path.join(PROBES, mount.device.replace(":", "-"))


def _waiting(mount):
    """Return what an earlier look has left of a child that waits still, or None."""
    try:
        with open(_path(mount)) as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if found["start"] is not None and proc.start_of(found["pid"]) == found["start"] else None


def _judged(mount, waiting, facts):
    frozen = _waits_for_thaw(waiting["pid"])
    ours = any(os.path.exists(os.path.join(folder, mount.device)) for folder in (freeze.MARKS, freeze.PASSING))
    seconds = max(0.0, time.time() - waiting["since"]) if frozen else None
    return Probe(facts.get("full"), facts.get("inodes"), seconds, ours, not frozen)


def _waits_for_thaw(pid):
    """Whether a process waits for the right to write: by its stack, which root alone may read, or by the function that it sleeps in."""
    try:
        with open("/proc/{}/stack".format(pid)) as file:
            return "mnt_want_write" in file.read()
    except OSError:
        return "percpu" in proc.state_of(pid)[1]


def _clear(devices):
    """Forget the children of filesystems that are no longer mounted."""
    there = {device.replace(":", "-") for device in devices}
    for name in os.listdir(PROBES):
        if name not in there and not name.endswith(str(os.getpid())):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(PROBES, name))
