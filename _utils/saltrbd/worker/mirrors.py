"""Which clients of a pool are rbd-mirror daemons: they watch images to copy them, and stand in nobody's way.

A daemon of this cluster's own site writes the number of its session into the pool's object ``rbd_mirror_leader``. One of another
site, which copies from here, does not: but it watches the pool's object ``rbd_mirroring``, as nobody else does. Whoever cannot be told
from a user this way counts as one.
"""

import re
import struct
import subprocess

import rados
import rbd

_ANSWER = 1 << 20
_LIMIT = 10
_WATCHER = re.compile(r"client\.(\d+) cookie=")


def clients(session, handle, pool, namespace):
    """Return the numbers of the sessions of the rbd-mirror daemons in the pool; empty for an image that is not mirrored."""
    try:
        if handle.mirror_image_get_info()["state"] == rbd.RBD_MIRROR_IMAGE_DISABLED:
            return set()
    except rbd.Error:
        return set()
    return _own_site(session, pool) | _that_watch(session, pool, namespace)


def _own_site(session, pool):
    try:
        _, answer = session.ioctx(pool).execute("rbd_mirror_leader", "rbd", "mirror_instances_list", b"", _ANSWER)
    except rados.Error:
        return set()
    return {int(text) for text in texts(answer) if text.isdigit()}


def texts(data):
    """Return a list of texts in Ceph's wire format: their number, and each with its length before it."""
    count, at, found = struct.unpack_from("<I", data)[0], 4, []
    for _ in range(count):
        length = struct.unpack_from("<I", data, at)[0]
        found.append(data[at + 4 : at + 4 + length].decode("ascii", "replace"))
        at += 4 + length
    return found


def _that_watch(session, pool, namespace):
    """The bindings cannot list the watchers of an object: the command ``rados`` can."""
    settings = session.settings
    argv = ["rados", "--id", settings["user"], "--conf", settings["conf"] or "/dev/null", "-p", pool]
    argv += ["--namespace", namespace] if namespace else []
    argv += ["-m", settings["mon_host"]] if settings["mon_host"] else []
    argv += ["--keyring", settings["keyring"]] if settings["keyring"] else []
    try:
        ran = subprocess.run(
            argv + ["listwatchers", "rbd_mirroring"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_LIMIT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return {int(number) for number in _WATCHER.findall(ran.stdout.decode("ascii", "replace"))}
