"""Loop devices of a node's own: containers share the kernel's loop devices, and none may take another's."""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path

from labkit.commands import LabError, run

# Of each node; one for each image that it has mapped.
COUNT = 8
# Above those that this host takes for itself, which are always the lowest free ones.
NUMBERS = range(64, 2048, COUNT)

# From linux/loop.h.
_LOOP_CTL_ADD = 0x4C80
_LOOP_CTL_REMOVE = 0x4C81


def reserve():
    """Make a block of new loop devices and return their numbers; making the first one is what keeps others off."""
    for first in NUMBERS:
        if _control(_LOOP_CTL_ADD, first):
            block = list(range(first, first + COUNT))
            for number in block[1:]:
                _control(_LOOP_CTL_ADD, number)
            return block
    raise LabError(f"No {COUNT} loop devices between {NUMBERS.start} and {NUMBERS.stop} are free on this host.")


def device_files(numbers):
    """Return the lines of tmpfiles.d by which a node makes its device files, with the kernel's numbers of this host.

    Binding the host's files into its /dev would not do: losetup passes over what its folder calls a plain file.
    """
    lines = []
    for number in numbers:
        device = Path(f"/sys/block/loop{number}/dev").read_text().strip()
        lines.append(f"b /dev/loop{number} 0660 root disk - {device}\n")
    return "".join(lines)


def detach(numbers):
    """Detach what a node that fell has left attached."""
    for number in numbers:
        entry = Path(f"/sys/block/loop{number}")
        if (entry / "loop/backing_file").exists():
            with _device_file((entry / "dev").read_text()) as path:
                run(["losetup", "--detach", path], timeout=20, check=False)


@contextlib.contextmanager
def _device_file(numbers):
    """Make a device file for the time of a call, whether /dev has it or not."""
    major, minor = map(int, numbers.split(":"))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "loop")
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
        yield path


def release(numbers):
    """Remove loop devices; return a sentence for each that is still in use."""
    return [f"/dev/loop{number} is still in use and stays." for number in numbers if not _control(_LOOP_CTL_REMOVE, number)]


def _control(request, number):
    with open("/dev/loop-control", "rb") as control:
        try:
            fcntl.ioctl(control, request, number)
        except OSError as error:
            if error.errno == errno.ENODEV and request == _LOOP_CTL_REMOVE:
                return True  # it is gone already
            if error.errno in (errno.EEXIST, errno.EBUSY):
                return False
            raise
    return True
