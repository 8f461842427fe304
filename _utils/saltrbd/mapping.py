"""A mapping of an image to a block device of this host, and our own link that names its device."""

import hashlib
import os
import shutil
import time
from collections import namedtuple

from saltrbd import errors

RUN = "/run/rbd-volumes"
# What is being made lies there under such a name, with the pid of who makes it behind it.
BEGUN = (".link.", ".start.")
# Seconds after which what a dead process began is nobody's; one in a container that shares /run is not seen, and needs less.
_ABANDONED = 120


class Mapping(
    namedtuple(
        "Mapping",
        "spec device driver read_only pid fsid image_id snapshot_id fault encryption quiesce",
        defaults=(None, "", "", None, None, "", None),
    )
):
    """An image or snapshot as a block device of this host.

    ``device`` is a path such as /dev/rbd0, ``pid`` the daemon that serves it (None for krbd). ``image_id`` and
    ``snapshot_id`` tell it from another image of the same name. ``fault`` is None, or why the device is of no use: its
    daemon is dead, it has no device any more, its LUKS header is not open, or the image of that name is another one by now.
    ``encryption`` is "luks1" or "luks2" where the device shows what lies behind the image's LUKS header, else empty. ``quiesce`` is the
    path of the hook that is run before and after every snapshot of the image, empty for a writable device of nbd without one, None
    where there can be none.
    """

    __slots__ = ()


def link_path(fsid, spec):
    """Return the path of our own link to the device of an image: ``/run/rbd-volumes/FSID/POOL/IMAGE[@SNAPSHOT]``.

    A namespace stands between pool and image, with an ``@`` behind it: an image may have the same name as a namespace.
    It is the name for fstab. It is there while the image is mapped, and made by :func:`ensure_link`.
    """
    parts = [fsid, _component(spec.pool)]
    if spec.namespace:
        parts.append(_component(spec.namespace + "@"))
    parts.append(_component(spec.image + ("@" + spec.snapshot if spec.snapshot else "")))
    return os.path.join(RUN, *parts)


def _component(name):
    """One part of a path, different for different names: no ``..``, no backslash (fstab), at most 255 bytes."""
    text = name.replace("%", "%25").replace("\\", "%5C")
    if text.startswith("."):
        text = "%2E" + text[1:]
    raw = text.encode("utf-8")
    if len(raw) <= 255:
        return text
    return raw[:180].decode("utf-8", "ignore") + "%%" + hashlib.sha256(raw).hexdigest()


def ensure_link(mapping):
    """Make the link of a mapping point to its device, and return its path. Raises :class:`StaleMapping` for a faulty one."""
    if mapping.fault:
        raise errors.StaleMapping("{} is mapped, but {}.".format(mapping.spec, mapping.fault))
    path = link_path(mapping.fsid, mapping.spec)
    if link_is_right(mapping):
        return path
    os.makedirs(RUN, mode=0o700, exist_ok=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fresh = os.path.join(RUN, ".link.{}".format(os.getpid()))
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(mapping.device, fresh)
    os.replace(fresh, path)
    return path


def clear_begun():
    """Remove what was begun, for a link or the start of a daemon, by a process that was killed over it."""
    for name in os.listdir(RUN) if os.path.isdir(RUN) else ():
        path, pid = os.path.join(RUN, name), name.split(".")[2] if name.startswith(BEGUN) else ""
        if not pid.isdigit() or os.path.exists("/proc/" + pid):
            continue
        try:
            if time.time() - os.lstat(path).st_mtime > _ABANDONED:
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        except FileNotFoundError:
            pass  # another run was quicker


def link_is_right(mapping):
    """True if the link of a mapping points to its device."""
    try:
        return os.readlink(link_path(mapping.fsid, mapping.spec)) == mapping.device
    except OSError:
        return False


def keep(path, text):
    """Write a file that only root can read; whole or not at all."""
    fresh = "{}.{}".format(path, os.getpid())
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        os.unlink(fresh)
        raise


def remove_link(mapping):
    """Remove the link of a mapping and the folders that are empty then."""
    path = link_path(mapping.fsid, mapping.spec)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    folder = os.path.dirname(path)
    while folder != RUN:
        try:
            os.rmdir(folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
