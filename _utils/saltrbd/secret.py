"""Handing a passphrase to a daemon: by a named pipe, so that it is in no argument, no environment and no file's content."""

import errno
import os
import threading
import uuid
from contextlib import contextmanager

# Seconds between two looks whether the reader is there.
_PAUSE = 0.02


@contextmanager
def pipe(folder, passphrase):
    """Yield the path of a pipe in ``folder`` (of root alone) out of which the first reader gets the passphrase, once.

    The name is gone after the block; whoever waits on it still then finds the end of it.
    """
    path = os.path.join(folder, ".secret.{}.{}".format(os.getpid(), uuid.uuid4().hex[:8]))
    os.mkfifo(path, 0o600)
    over = threading.Event()
    thread = threading.Thread(target=_hand, args=(path, passphrase.encode("utf-8"), over), daemon=True)
    thread.start()
    try:
        yield path
    finally:
        over.set()
        thread.join()
        os.unlink(path)


def _hand(path, data, over):
    while not over.is_set():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return
            over.wait(_PAUSE)  # nobody reads yet
            continue
        try:
            os.write(descriptor, data)  # less than PIPE_BUF, so whole
        except OSError:
            pass  # the reader is gone again
        finally:
            os.close(descriptor)
        return
