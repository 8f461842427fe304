"""A control group of its own in every hierarchy, for what manages control groups itself: a container with systemd as process 1.

Without one, all containers would share the group of who started them, and the first systemd would move its processes about.
"""

import time
from pathlib import Path


def _hierarchies():
    """Return the mount point of every hierarchy; cpuset's groups take no process before they are given processors, so it is left out."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fs_type, _, options = after.split()[:3]
        if fs_type == "cgroup2" or (fs_type == "cgroup" and "cpuset" not in options.split(",")):
            found.append(Path(before.split()[4]))
    return found


def enter(name):
    """Return the words before a command by which it runs in the group of process 1 of the container with the group ``name``.

    Where cgroup2 is mounted with nsdelegate, which any systemd may set for the whole host, a container's systemd cannot move
    processes that come from outside of it, and so starts no unit for them.
    """
    groups = [hierarchy / name / "payload/init.scope/cgroup.procs" for hierarchy in _hierarchies()]
    (group,) = [path for path in groups if (path.parent / "cgroup.controllers").exists()] or ["/dev/null"]
    return ["sh", "-c", 'echo 0 >"$0"; exec "$@"', str(group)]


def make(name):
    """Make the group ``name`` in every hierarchy."""
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)


def join(name):
    """Move this process into the group ``name`` of every hierarchy."""
    for hierarchy in _hierarchies():
        (hierarchy / name / "cgroup.procs").write_text("0")


def remove(name, patience=5):
    """Remove the group ``name`` and those inside it from every hierarchy; return the paths that are still in use."""
    deadline = time.monotonic() + patience
    while True:
        left = [str(hierarchy / name) for hierarchy in _hierarchies() if not _removed(hierarchy / name)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _removed(group):
    try:
        for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            inner.rmdir()
        group.rmdir()
    except FileNotFoundError:
        return not group.exists()
    except OSError:
        return False  # a process that is about to be gone
    return True
