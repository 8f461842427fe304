"""Ceph's quiesce hook for images mapped by rbd-nbd, so that a snapshot that anybody makes anywhere finds the filesystem standing still.

rbd-nbd runs ``hook DEVICE quiesce`` before any snapshot of its image and waits for it, and ``hook DEVICE unquiesce`` after it. When the
first one fails, librbd makes no snapshot, unless its maker wants it all the same. What is frozen is held by ``freeze_helper``, which thaws
it when the second one says so, after ``rbd:freeze_timeout`` seconds, and when rbd-nbd is gone: nobody else would say so then.
"""

import errno
import json
import os
import sys
import syslog
import time

from saltrbd import errors, freeze, mapping, proc
from saltrbd import settings as settings_
from saltrbd.quiesce_program import ENV

# Which devices are quiesced now, and since when.
QUIESCED = os.path.join(mapping.RUN, ".quiesced")


def main(argv):
    """``DEVICE quiesce`` or ``DEVICE unquiesce``; the exit code goes to whoever makes the snapshot, as an errno."""
    while os.open(os.devnull, os.O_RDWR) < 2:
        pass  # rbd-nbd starts it with stdin closed
    syslog.openlog("rbd-quiesce", syslog.LOG_PID, syslog.LOG_DAEMON)
    device, action = argv
    try:
        chosen = settings_.restored(json.loads(os.environ.get(ENV) or "{}"))
        {"quiesce": quiesce, "unquiesce": unquiesce}[action](device, chosen)
    except (errors.RbdError, OSError, ValueError) as error:
        _say(device, "{} failed, so there is no filesystem-consistent snapshot: {}".format(action, error), syslog.LOG_ERR)
        sys.exit(errno.EBUSY)


def quiesce(device, chosen):
    """Freeze the filesystem on the device. Where none can be, what was written to the device itself goes to the image.

    One that stands still already is left as it is: whoever froze it answers for it. What Salt froze for a snapshot of its own is kept so
    until ours is made.
    """
    rbd_nbd = os.getppid()
    _noted(device)  # of an rbd-nbd that was killed before its unquiesce
    target = freeze.on_device(device, device, freeze.own_devices(chosen, {}, ("self", rbd_nbd)))
    if isinstance(target, str):
        _flush(device)
        _say(device, "nothing is frozen for a snapshot: {}.".format(target), syslog.LOG_INFO)
        return
    found = {device: target}
    try:
        kept = freeze.patiently(lambda: _freeze(found, chosen, [rbd_nbd, proc.start_of(rbd_nbd)]), found, chosen)
    except errors.FreezeFailed as error:
        if device not in error.busy:
            raise
        _say(device, "its filesystem on {} is frozen already, by somebody else, and left so.".format(target.mount_point), syslog.LOG_INFO)
        return
    try:
        _note(device, kept)
    except OSError:
        freeze.unkeep(kept) if kept else freeze.thaw_passing(device, chosen)  # unquiesce would not know of it
        raise


def _freeze(found, chosen, watch):
    """Freeze, or keep frozen; return the number of the filesystem's device where it is kept, else an empty text."""
    (target,) = found.values()
    if freeze.keep(target.number):
        return target.number
    freeze.freeze(found, chosen, marks=freeze.PASSING, watch=watch)
    return ""


def unquiesce(device, chosen):
    """Thaw what ``quiesce`` froze; tell when it was thawed too early."""
    noted = _noted(device)
    if noted is None:
        return
    began, kept = noted
    if not (freeze.unkeep(kept) if kept else freeze.thaw_passing(device, chosen)):
        _say(
            device,
            "its filesystem, frozen {:.1f} s ago, was thawed before the snapshot was made; do not take that one for filesystem-consistent "
            "(rbd:freeze_timeout is {:g} s).".format(time.monotonic() - began, chosen.freeze_timeout),
            syslog.LOG_WARNING,
        )


def _flush(device):
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _path(device):
    return os.path.join(QUIESCED, os.path.basename(device))


def _note(device, kept):
    os.makedirs(QUIESCED, mode=0o700, exist_ok=True)
    mapping.keep(_path(device), json.dumps([time.monotonic(), kept]))


def _noted(device):
    """Return (since when the device is quiesced, what is only kept frozen), None where nothing of it was frozen, and forget it."""
    try:
        with open(_path(device)) as file:
            text = file.read()
        os.unlink(_path(device))
    except FileNotFoundError:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None  # damaged; what is frozen thaws when its time is up


def _say(device, text, level):
    """For the journal, and for rbd-nbd's own log."""
    syslog.syslog(level, "{}: {}".format(device, text))
    print("{}: {}".format(device, text), file=sys.stderr)
