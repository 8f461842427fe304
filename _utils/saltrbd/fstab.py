"""Our lines in /etc/fstab: they name the link of a device under /run/rbd-volumes, and every other line stays byte for byte."""

import os
import shutil
from collections import namedtuple

from saltrbd import boot, errors, hostlock
from saltrbd.mapping import RUN
from saltrbd.proc import unescape

PATH = "/etc/fstab"
# Seconds to wait for another process that edits; it needs milliseconds.
LOCK_WAIT = 10.0
# At boot the network comes first, and a volume that is missing does not stop the boot.
BOOT_OPTIONS = ("_netdev", "nofail")

Entry = namedtuple("Entry", "device point fs_type options")


def entry_of(link, point, fs_type, options):
    """Return the :class:`Entry` for a volume: its mount options and those for the boot; systemd maps before it mounts."""
    at_boot = [*BOOT_OPTIONS, "x-systemd.requires=" + boot.unit(link)]
    words = [word for word in options if word != "defaults"] + [word for word in at_boot if word not in options]
    return Entry(link, point, fs_type, ",".join(words))


def is_ours(entry):
    """Tell whether a line is this package's: by its device."""
    return entry.device.startswith(RUN + "/")


def parse(line):
    """Return the :class:`Entry` of a line (bytes), or None for a comment, a blank or a broken line."""
    fields = line.split()
    if len(fields) < 4 or fields[0].startswith(b"#"):
        return None
    return Entry(*(unescape(field) for field in fields[:4]))


def lines_for(text, point):
    """Return the entries of an fstab (bytes) for one mount point."""
    entries = (parse(line) for line in text.splitlines())
    return [entry for entry in entries if entry and os.path.normpath(entry.point) == point]


def render(entry):
    """Return the line (bytes) of an entry."""
    return " ".join([_escape(field) for field in entry] + ["0", "0"]).encode("utf-8", "surrogateescape") + b"\n"


def _escape(text):
    return "".join("\\{:03o}".format(ord(char)) if char in " \t\n\\#" else char for char in text)


def with_entry(text, point, entry):
    """Return the fstab (bytes) with ``entry`` (None: nothing) as our one line for a mount point; pure.

    It takes the place of our first line, or the end.
    """
    lines, placed = [], entry is None
    for line in text.splitlines(keepends=True):
        found = parse(line)
        if found is None or os.path.normpath(found.point) != point or not is_ours(found):
            lines.append(line)
            continue
        if not placed:
            lines.append(render(entry))
            placed = True
    if not placed:
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        lines.append(render(entry))
    return b"".join(lines)


def read(path=None):
    """Return the fstab as bytes, empty where there is none."""
    try:
        with open(path or PATH, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def update(point, entry, path=None):
    """Make ``entry`` our one line for a mount point (None: none), in one step that no crash can cut in half.

    Returns whether anything changed. Raises :class:`Refused` when a line that is not ours has the mount point.
    """
    path = os.path.realpath(path or PATH)
    busy = "Another process of this host has been editing {} for {:g} s.".format(PATH, LOCK_WAIT)
    with hostlock.named("fstab", LOCK_WAIT, busy):
        text = read(path)
        foreign = [one for one in lines_for(text, point) if not is_ours(one)]
        if entry and foreign:
            raise errors.Refused(foreign_line(path, point, foreign[0]))
        fresh = with_entry(text, point, entry)
        if fresh == text:
            return False
        _replace(path, fresh)
    return True


def foreign_line(path, point, entry):
    """Return the sentence on a line that is somebody else's."""
    return "{} has a line for {} already that is not this package's ({}, {}); remove it, or declare persist: False.".format(
        path, point, entry.device, entry.fs_type
    )


def _replace(path, text):
    fresh = "{}.saltrbd-{}".format(path, os.getpid())
    try:
        with open(fresh, "wb") as file:
            if os.path.exists(path):
                known = os.stat(path)
                os.fchown(file.fileno(), known.st_uid, known.st_gid)
                shutil.copystat(path, fresh)  # mode, and the label of SELinux
            else:
                os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise
