"""The process that holds a device for the proof that it is blank.

Started by ``saltrbd.blank`` as ``PYTHON -E -s -S blank_helper.py DEVICE``: it opens the device for itself alone, writes back what is
dirty, drops what the kernel has read of it before, and says ``{"held": true}``. For each line on stdin it reads the first and the
last MiB and says ``{"used": [offset, ...]}``. It ends at the end of stdin. A process of its own, because each of these
steps can block in the kernel. Standard library only, Python 3.6 or newer.
"""

import errno
import fcntl
import json
import os
import sys

BLKFLSBUF = 0x1261
END = 1 << 20


def say(**event):
    """Tell the asker, as a line of JSON."""
    os.write(1, (json.dumps(event) + "\n").encode("ascii"))


def used(descriptor):
    """Return the offset of the first byte that is not zero in each end of the device that has one."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    found = []
    for offset in sorted({0, max(0, size - END)}):
        data = b""
        while len(data) < min(END, size - offset):
            piece = os.pread(descriptor, min(END, size - offset) - len(data), offset + len(data))
            if not piece:
                raise OSError(errno.EIO, "the device ends before its size")
            data += piece
        rest = data.lstrip(b"\0")
        if rest:
            found.append(offset + len(data) - len(rest))
    return found


def main():
    """Hold the device until stdin ends."""
    try:
        descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        os.fsync(descriptor)
        fcntl.ioctl(descriptor, BLKFLSBUF, 0)
        say(held=True)
        while os.read(0, 1):
            say(used=used(descriptor))
    except OSError as error:
        say(error=error.strerror, errno=error.errno)


if __name__ == "__main__":
    main()
