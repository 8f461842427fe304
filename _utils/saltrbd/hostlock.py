"""Locks between the processes of this host: one at work on the device of an image at a time, one writer of a file."""

import fcntl
import os
import time
from contextlib import contextmanager

from saltrbd import errors
from saltrbd.mapping import RUN


@contextmanager
def hold(ceph, image_id):
    """Hold the image for the block; raises :class:`Busy` when another process has it for longer than ``rbd:timeout``."""
    limit = ceph.settings.timeout
    busy = "Another process of this host has been at work on the image's device for {:g} s; run this again when that is done.".format(limit)
    with named("{}.{}".format(ceph.fsid, image_id), limit, busy):
        yield


@contextmanager
def named(name, limit, busy):
    """Hold the lock with this name for the block; raises :class:`Busy` with the text ``busy`` after ``limit`` seconds."""
    folder = os.path.join(RUN, ".locks")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(RUN, 0o700)
    path = os.path.join(folder, name)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as file:
        until = time.monotonic() + limit
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise errors.Busy(busy)
                time.sleep(0.05)
        yield
