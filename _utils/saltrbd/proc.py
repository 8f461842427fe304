"""What /proc tells of this host's processes and mounts."""

import os
from collections import namedtuple

Process = namedtuple("Process", "pid start argv")
# ``root`` is the folder of the filesystem that is mounted ("/": all of it), ``super_options`` are the whole filesystem's.
Mount = namedtuple("Mount", "point device source fs_type options pid root super_options")


def state_of(pid):
    """Return (state letter, kernel function it sleeps in) of a process, ("", "") for one that is gone."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            letter = file.read().rpartition(b")")[2].split()[0].decode("ascii")
    except (OSError, IndexError):
        return "", ""
    try:
        with open("/proc/{}/wchan".format(pid), "rb") as file:
            where = file.read().decode("ascii", "replace").strip("0 \n")
    except OSError:
        where = ""
    return letter, where


def stuck(pid):
    """Return "pid N, state D, in the kernel's FUNCTION" of a process that does not end: of the thread that sleeps in the kernel."""
    letter, where = state_of(pid)
    for thread in _threads(pid):
        found = state_of(thread)
        if found[0] == "D":
            letter, where = found
    return "pid {}, state {}{}".format(pid, letter or "?", ", in the kernel's {}".format(where) if where else "")


def _threads(pid):
    try:
        return ["{}/task/{}".format(pid, name) for name in os.listdir("/proc/{}/task".format(pid))]
    except OSError:
        return []


def start_of(pid):
    """Return when a process began, in clock ticks since the boot, or None: with it a pid names one process for certain."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def argv_of(pid):
    """Return the argument list of a process, empty for a kernel thread or one that is gone."""
    try:
        with open("/proc/{}/cmdline".format(pid), "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def name_of(pid):
    """Return the kernel's short name of a process (at most 15 characters), empty for one that is gone."""
    try:
        with open("/proc/{}/comm".format(pid), "rb") as file:
            return os.fsdecode(file.read().rstrip(b"\n"))
    except OSError:
        return ""


def environ_of(pid):
    """Return the environment that a process was started with."""
    try:
        with open("/proc/{}/environ".format(pid), "rb") as file:
            pairs = [os.fsdecode(word).partition("=") for word in file.read().split(b"\0") if b"=" in word]
    except OSError:
        return {}
    return {key: value for key, _, value in pairs}


def processes(program):
    """Return the :class:`Process` list of all that run this program (the base name of their first argument).

    The kernel's short name is asked first: the arguments lie in the process's own memory, and reading them waits as long as a
    process that waits for its storage.
    """
    found = []
    for pid in pids():
        argv = argv_of(pid) if name_of(pid) == program[:15] else []
        if argv and os.path.basename(argv[0]) == program:
            start = start_of(pid)
            if start is not None:
                found.append(Process(pid, start, argv))
    return found


def pids():
    """Return all process ids that this host (or container) shows."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def boot_id():
    """Return the kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def pid_namespace():
    """Return the name of our pid namespace: a pid of another one means nothing here."""
    return os.readlink("/proc/self/ns/pid")


def mounts(pid="self"):
    """Return the :class:`Mount` list of a process's mount namespace; ``device`` is "major:minor"."""
    found = []
    try:
        with open("/proc/{}/mountinfo".format(pid), "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        left, _, right = line.partition(b" - ")
        head, tail = left.split(b" "), right.split(b" ")
        if len(head) < 6 or len(tail) < 2:
            continue
        point, fs_type, source = (unescape(raw) for raw in (head[4], tail[0], tail[1]))
        options, root, super_options = (unescape(raw) for raw in (head[5], head[3], b" ".join(tail[2:])))
        found.append(Mount(point, head[2].decode("ascii"), source, fs_type, options, pid, root, super_options))
    return found


def all_mounts():
    """Return the mounts of every mount namespace once, ours first; ``pid`` of a foreign one is a process inside it, else "self"."""
    found, seen = mounts(), {_namespace("self")}
    for pid in pids():
        name = _namespace(pid)
        if name and name not in seen:
            seen.add(name)
            found += mounts(pid)
    return found


def _namespace(pid):
    try:
        return os.readlink("/proc/{}/ns/mnt".format(pid))
    except OSError:
        return None


def unescape(raw):
    """Return a field of mountinfo or fstab: blank, tab, newline and backslash are octal numbers there."""
    out, index = bytearray(), 0
    while index < len(raw):
        if raw[index : index + 1] == b"\\" and raw[index + 1 : index + 4].isdigit():
            out.append(int(raw[index + 1 : index + 4], 8))
            index += 4
            continue
        out += raw[index : index + 1]
        index += 1
    return os.fsdecode(bytes(out))
