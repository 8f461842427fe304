"""Handing a passphrase to a daemon: by memory of this process, so that it is in no argument, no environment and no file's content."""

import os
from contextlib import contextmanager


@contextmanager
def handed(passphrase):
    """Yield a path out of which root's processes read the passphrase during the block.

    It is a descriptor of this process. When the block is over, or the process was killed, nothing is there: a daemon that comes too late
    gets an error, where a named pipe would make it wait for ever.
    """
    descriptor = os.memfd_create("passphrase", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, passphrase.encode("utf-8"))
        yield "/proc/{}/fd/{}".format(os.getpid(), descriptor)
    finally:
        os.close(descriptor)
