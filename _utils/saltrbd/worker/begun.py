"""An image that is being made: noted before, so that what a killed maker leaves is known for what it is, and made again.

librbd makes an image in steps: its name in the pool's directory, its id, its header, its object map; a clone is an image without a parent
then, gets its parent, and the parent gets it as its child. SIGKILL between them leaves a name that can neither be opened nor be
made, or a clone that has no parent, or one that its parent does not know of (all seen in 16.2). So while an image is made, an object
``saltrbd_begun.NAME`` lies beside it in the pool, with the time in it and a lock on it that tells who is at work. It goes when the image
is whole. What is there under a name that has such a note, blank and of that time, was never finished: for whoever asks it is not
there, and whoever makes the image takes it away first.
"""

import json
import os
import time
from contextlib import contextmanager

import rados
import rbd
import trash
from blank import first_used
from locks import MAY_RENEW, break_lock, lock_holder
from session import WorkerError
from users import users_of

PREFIX, LOCK, COOKIE = "saltrbd_begun.", "saltrbd", "making"
# Seconds that a maker's lock lasts beyond rbd:timeout, after which Salt replaces a worker that has not made its image.
SLACK = 10
# How far the clocks of two hosts may be apart. An image that was not made while its note's maker could be at work is another's.
APART = 60
_LONGEST = 4096
_NO_HEADER = "no header"


@contextmanager
def making(session, report, pool, namespace, image):
    """The block makes the image: what a killed maker left of it goes first, and is known for that if this one is killed.

    Raises Busy while somebody else is making it.
    """
    context, note = session.ioctx(pool, namespace), PREFIX + image
    _lock(session, context, note)
    # Where this process is killed the note stays, and the lock ends by itself.
    try:
        if _read(context, note):
            _take_away(session, report, pool, namespace, image)
        elif _is_listed(context, image):
            raise rbd.ImageExists("not ours")
        now = int(time.time())
        context.write_full(note, json.dumps({"from": now, "until": now + _lasts(session)}).encode("ascii"))
        yield
    except rbd.ImageExists:
        context.remove_object(note)  # it is another's
        if _can_open(context, image):
            raise
        words = "its name is taken, but it cannot be opened: its making was cut off, and 'rbd rm {}' takes away what is left"
        raise WorkerError("ImageExists", words.format("/".join(part for part in (pool, namespace, image) if part)))
    except BaseException:
        _let_go(session, report, pool, namespace, image)
        raise
    context.remove_object(note)


def _let_go(session, report, pool, namespace, image):
    """After a failure: the note stays while anything that was begun does."""
    context, note = session.ioctx(pool, namespace), PREFIX + image
    try:
        _renew(session, context, note)  # else the note is another's
        left = _left(session, report, pool, namespace, image)
        context.unlock(note, LOCK, COOKIE) if left else context.remove_object(note)
    except (rbd.Error, rados.Error, WorkerError):
        pass  # the failure that led here says more


def _can_open(context, image):
    try:
        with rbd.Image(context, image, read_only=True):
            return True
    except rbd.ImageNotFound:
        return False


def is_begun(session, report, pool, namespace, image, handle):
    """Whether an open image was never finished; it is not if anything was done with it.

    The look for data at one that has a note may walk over the whole image: ``report`` tells how far it is.
    """
    if any(True for _ in handle.list_snaps()):
        return False
    told = _read(session.ioctx(pool, namespace), PREFIX + image)
    if told is None or any(users_of(session, handle, pool, namespace).values()):
        return False
    made = int(handle.create_timestamp().timestamp())
    if not told["from"] - APART <= made <= told["until"] + APART:
        return False
    return first_used(handle, report, include_parent=False) is None  # what it has itself


def _left(session, report, pool, namespace, image):
    """Return the id of an image that was never finished, _NO_HEADER for a name that cannot be opened, else None."""
    context = session.ioctx(pool, namespace)
    try:
        with rbd.Image(context, image, read_only=True) as handle:
            return handle.id() if is_begun(session, report, pool, namespace, image, handle) else None
    except rbd.ImageNotFound:
        return _NO_HEADER if _is_listed(context, image) else None


def _take_away(session, report, pool, namespace, image):
    context = session.ioctx(pool, namespace)

    def alive(fraction):
        _renew(session, context, PREFIX + image)  # for a large image the lock would not last
        return report(fraction)

    left = _left(session, alive, pool, namespace, image)
    if left == _NO_HEADER:
        rbd.RBD().remove(context, image)  # removes what there is of it
    elif left:
        # librbd calls for progress in a thread of its own, which may not wait for the cluster.
        still = trash.take_back(session, report, pool, namespace, image, left)
        if still:
            raise WorkerError("CephError", "what a killed maker left of it (id {}) is {}".format(left, still))
    _renew(session, context, PREFIX + image)


def _is_listed(context, image):
    key = "name_" + image
    try:
        with rados.ReadOpCtx() as operation:
            found, _ = context.get_omap_vals_by_keys(operation, (key,))
            context.operate_read_op(operation, "rbd_directory")
            return bool(list(found))
    except rados.ObjectNotFound:
        return False  # the pool's first image


def _read(context, note):
    """Return from when until when an image was being made (seconds since 1970), None where nobody has begun."""
    try:
        text = context.read(note, _LONGEST)
    except (rados.ObjectNotFound, rados.PermissionError, rados.PermissionDeniedError):
        return None
    return json.loads(text.decode("ascii")) if text else None


def _lasts(session):
    """Seconds after which a maker is not at work any more."""
    return int(session.settings["timeout"]) + SLACK


def _renew(session, context, note):
    """Hold the lock for its whole time from now on, if it has ended meanwhile too; raises Busy where it is another's by now.

    What another maker did in between is seen by what comes next: librbd makes no image whose name is there.
    """
    try:
        context.lock_exclusive(note, LOCK, COOKIE, desc=_mine(session), duration=_lasts(session), flags=MAY_RENEW)
    except (rados.ObjectBusy, rados.ObjectExists):
        raise WorkerError("Busy", "others are making it at this moment")


def _mine(session):
    return json.dumps(dict(_me(), sessions=session.addresses))


def _lock(session, context, note):
    for last in (False, True):
        try:
            context.lock_exclusive(note, LOCK, COOKIE, desc=_mine(session), duration=_lasts(session))
            return
        except (rados.ObjectBusy, rados.ObjectExists):
            held = lock_holder(context, note, LOCK)
        if held is None:
            continue  # it ended just now
        maker = _parsed(held["description"])
        if last or not _is_dead(maker):
            raise WorkerError("Busy", "it is being made by {} at this moment; one that has died ends by itself".format(held["address"]))
        session.fence((session.fsid, maker["sessions"]))  # nothing that it sent is carried out later
        break_lock(context, note, LOCK, held)
    raise WorkerError("Busy", "others are making it at this moment")


def _me():
    """What tells this process from all others, on this host and elsewhere."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    return {"boot": boot, "pids": os.readlink("/proc/self/ns/pid"), "pid": os.getpid(), "start": _start(os.getpid())}


def _is_dead(maker):
    """Whether a maker was a process of this host that is gone; one elsewhere is not known to be."""
    mine = _me()
    return all(maker.get(key) == mine[key] for key in ("boot", "pids")) and _start(maker["pid"]) != maker["start"]


def _start(pid):
    """When a process began, in clock ticks since the boot; None for one that is gone."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}
