"""Loop devices: attach a file, find the device of a file, detach and wait until it is free."""

import glob
import os
import time

from saltrbd import errors
from saltrbd.run import run

# Seconds within which a detached loop device is free; the kernel waits for the last close and writes back before.
FREE_WAIT = 5.0


def find(path):
    """Return the loop device of a file, or None. Read from sysfs: asking the device would ask the file's server, which may be dead."""
    for entry in glob.glob("/sys/block/loop*/loop/backing_file"):
        if backing_file(entry) == path:
            return "/dev/" + entry.split("/")[3]
    return None


def backing_file(entry):
    """Return the path in a sysfs file, without the mark of a deleted file."""
    try:
        with open(entry, "rb") as file:
            text = os.fsdecode(file.read().rstrip(b"\n"))
    except OSError:
        return None
    return text[: -len(" (deleted)")] if text.endswith(" (deleted)") else text


def attach(path, read_only, limit):
    """Attach a file to a free loop device and return the device; losetup tries again when another takes it first."""
    words = ["losetup", "--find", "--show"] + ["--read-only"] * read_only + [path]
    for pause in (0.1, 0.3, None):
        result = run(words, limit, ok=None)
        if result.code == 0:
            return result.out.strip()
        if pause:
            _make_nodes()
            time.sleep(pause)  # another process may be making the same nodes at this moment
    raise errors.CommandFailed(
        "No loop device could be had for {}: {}. Detach unused ones (losetup --list).".format(path, (result.err or result.out).strip())
    )


def _make_nodes():
    """Make the nodes of loop devices that the kernel has and /dev has not (a container without devtmpfs)."""
    for entry in glob.glob("/sys/block/loop*/dev"):
        node = "/dev/" + entry.split("/")[3]
        if os.path.exists(node):
            continue
        with open(entry) as file:
            major, minor = (int(part) for part in file.read().split(":"))
        try:
            os.mknod(node, 0o60660, os.makedev(major, minor))
        except FileExistsError:
            continue
        except OSError:
            return


def detach(device, path, limit):
    """Detach the loop device of a file and wait until it is free. Raises :class:`Busy` when somebody still has it open."""
    entry = "/sys/block/{}/loop/backing_file".format(os.path.basename(device))
    if backing_file(entry) != path:
        return
    run(["losetup", "--detach", device], limit)
    until = time.monotonic() + FREE_WAIT
    while backing_file(entry) == path:
        if time.monotonic() > until:
            raise errors.Busy("{} is detached, but not free after {:g} s: somebody still has it open.".format(device, FREE_WAIT))
        time.sleep(0.02)


def resize(device, size, limit):
    """Let the device have the size of its file, and wait until it is ``size`` bytes (whole sectors)."""
    until = time.monotonic() + limit
    while size_of(device) != size // 512 * 512:
        if time.monotonic() > until:
            raise errors.NotConverged("{} has {} bytes, not the image's {}.".format(device, size_of(device), size))
        run(["losetup", "--set-capacity", device], limit)
        time.sleep(0.1)  # the FUSE client keeps the old size for a second


def size_of(device):
    """Return the size of a block device in bytes, as the kernel has it."""
    with open("/sys/block/{}/size".format(os.path.basename(device))) as file:
        return int(file.read()) * 512
