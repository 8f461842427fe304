"""Starting a daemon that serves a device: it outlives Salt and does not live in the minion's control group.

Where systemd is process 1 the daemon becomes a transient service, else it daemonizes itself and is moved to the root of the control
groups by which service managers end a service (version 2, and named ones of version 1; those of controllers only limit). Stopping
or updating the minion must never take the storage from under a mounted filesystem.
"""

import os
import tempfile

from saltrbd import errors
from saltrbd.mapping import RUN
from saltrbd.run import run, which

# At shutdown the filesystems (_netdev) are unmounted before, and the network ends after the daemon.
_PROPERTIES = ("Before=remote-fs-pre.target", "Wants=remote-fs-pre.target", "After=network-online.target")


def has_systemd():
    """True where systemd runs as process 1 and can start a transient service."""
    return os.path.isdir("/run/systemd/system") and which("systemd-run") is not None


def start(argv, unit, what, limit, before, env=None):
    """Run ``argv``, which daemonizes itself once it serves.

    ``unit`` names the transient service, ``what`` describes it, ``before`` is the unit that it outlives at shutdown.
    Raises what ``run`` raises; after a timeout the service is ended, and the caller looks for what the daemon may have left.
    """
    program = which(argv[0])  # systemd has a PATH of its own
    if program is None or not has_systemd():
        run(argv, limit, env=env)
        return
    with tempfile.TemporaryDirectory(prefix=".start.{}.".format(os.getpid()), dir=RUN) as folder:
        err = os.path.join(folder, "stderr")
        words = ["systemd-run", "--quiet", "--collect", "--unit=" + unit, "--description=" + what, "--service-type=forking"]
        for item in _PROPERTIES + _network() + ("Before=" + before, "StandardOutput=null", "StandardError=file:" + err):
            words += ["-p", item]
        words += ["--setenv={}={}".format(key, value) for key, value in sorted((env or {}).items())]
        # systemd replaces $NAME in arguments; $$ stands for one $.
        try:
            result = run(words + ["--", program] + [word.replace("$", "$$") for word in argv[1:]], limit, ok=None)
        except errors.CommandTimeout:
            # systemd would go on with it, and the device come up later, when nobody holds the image's lock for it.
            run(["systemctl", "kill", "--signal=KILL", unit + ".service"], limit, ok=None)
            raise
        said = _last_lines(err) or result.err.strip()
    if result.code:
        raise errors.CommandFailed("The command '{}' ended in the service {}: {}".format(" ".join(argv), unit, said))


def shares_network():
    """True where systemd's services see the network that this process sees."""
    return os.readlink("/proc/self/ns/net") == os.readlink("/proc/1/ns/net")


def _network():
    """A minion in a network namespace of its own reaches its cluster from there; a service would start in systemd's."""
    return () if shares_network() else ("NetworkNamespacePath=/proc/{}/ns/net".format(os.getpid()),)


def leave_control_group(pid):
    """Move a daemon out of the control groups of its starter, unless it has a service of its own."""
    if not has_systemd():
        move_to_roots(pid)


def move_to_roots(pid):
    """Move a process to the roots of the control groups by which a service is ended, where that is possible."""
    for root, path in _groups(pid):
        if path == "/":
            continue
        try:
            with open(os.path.join(root, "cgroup.procs"), "w") as file:
                file.write(str(pid))
        except OSError:
            pass  # a container without the right to; then its own end ends the daemon too


def _groups(pid):
    """Return [(mount point of the hierarchy, path in it)] for a process."""
    found = []
    try:
        with open("/proc/{}/cgroup".format(pid)) as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = _hierarchy(controllers)
        if root:
            found.append((root, path))
    return found


def _hierarchy(controllers):
    base = "/sys/fs/cgroup"
    if not controllers:
        return base if os.path.exists(os.path.join(base, "cgroup.controllers")) else os.path.join(base, "unified")
    return os.path.join(base, controllers[len("name=") :]) if controllers.startswith("name=") else None


def _last_lines(path):
    try:
        with open(path, errors="replace") as file:
            return " / ".join(line.strip() for line in file.read().splitlines()[-6:])
    except OSError:
        return ""
