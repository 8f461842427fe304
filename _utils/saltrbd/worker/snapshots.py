"""Operations on snapshots.

One that must be of a standstill, or of one moment with others, is made under a name that nobody else uses (``saltrbd_begun.TOKEN``), and
gets the name that was asked for when it is known to be so. Whatever dies before, and whoever makes it all the same then (librbd lets the
client that holds the exclusive lock do it: rbd-nbd, qemu), it is never taken for that snapshot. A note beside the image would not be
enough: librbd calls it a success when that client finds the name taken by then, whoever took it (Operations::snap_create lets -EEXIST
pass).
"""

import rbd
from begun import PREFIX
from session import WorkerError, describe
from users import watchers

# What of librbd's flags tells the hooks (rbd-nbd --quiesce) of all clients that have the image open; Ceph 16 is the first with both.
_QUIESCE = {"skip": "RBD_SNAP_CREATE_SKIP_QUIESCE", "try": "RBD_SNAP_CREATE_IGNORE_QUIESCE_ERROR"}
# Seconds for which librbd waits for hooks: it asks 10 times (rbd_quiesce_notification_attempts) and waits 5 s each time
# (Notifier::NOTIFY_TIMEOUT), as when it tells them in the end.
_HOOKS = 55


def snapshot_create(session, report, pool, namespace, image, snapshot, protect=False, quiesce="skip", begun=None):
    """Create a snapshot, and protect it; one that cannot be protected goes again.

    ``quiesce``: ``skip`` calls no client's quiesce hook, ``try`` calls them and makes the snapshot whatever they answer; where anybody has
    the image open that may take as long as librbd waits for hooks. ``begun``: it is not named ``snapshot`` yet, but after this token;
    :func:`snapshot_name` names it.
    """
    flags, name = getattr(rbd, _QUIESCE[quiesce], None), PREFIX + begun if begun else snapshot
    with session.image(pool, namespace, image, write=True) as handle:
        if begun and snapshot in _user_names(handle).values():
            raise WorkerError("SnapshotExists", "the snapshot exists already")
        if quiesce == "try" and watchers(session, handle):
            report(0, within=session.settings["timeout"] + _HOOKS)
        try:
            handle.create_snap(name, *([] if flags is None else [flags]))
        except rbd.ImageExists:
            raise WorkerError("SnapshotExists", "the snapshot exists already")
        try:
            if protect:
                handle.protect_snap(name)
            return {"id": handle.snap_get_id(name)}
        except rbd.Error as error:
            _take_back(handle, name, error)
            raise


def _take_back(handle, snapshot, error):
    """Nobody is told its id, so nobody could take it back later."""
    try:
        handle.remove_snap(snapshot)
    except rbd.Error:
        name, message, facts = describe(error)
        raise WorkerError(name, "{}; it was made as {} and is left there, remove it".format(message.rstrip("."), snapshot), **facts)


def snapshot_name(session, report, pool, namespace, image, snapshot, snapshot_id):
    """Give the snapshot with that id, which was begun, its name."""
    with session.image(pool, namespace, image, write=True) as handle:
        with _named():
            begun = _user_names(handle).get(snapshot_id)
            if begun is None:
                raise WorkerError("SnapshotNotFound", "what was begun of it is there no more")
            try:
                handle.rename_snap(begun, snapshot)
            except rbd.ImageExists:
                pass  # as where librbd does not tell
            if handle.snap_get_id(snapshot) != snapshot_id:
                raise WorkerError("SnapshotExists", "another snapshot of that name exists by now")


def _user_names(handle):
    """Return {id: name} of the snapshots that are neither a group's, nor of mirroring, nor in Ceph's trash for snapshots."""
    return {item["id"]: item["name"] for item in handle.list_snaps() if item["namespace"] == 0}


def snapshot_undo(session, report, pool, namespace, image, snapshot, snapshot_id):
    """Remove the snapshot with that id, named or only begun, protected or not; another one of that name, and one with clones, stay."""
    with session.image(pool, namespace, image, write=True) as handle:
        with _named():
            name = _user_names(handle).get(snapshot_id)
            if name is None or not (name == snapshot or name.startswith(PREFIX)):
                handle.snap_get_id(snapshot)
                raise WorkerError("Refused", "the snapshot of that name is another one by now")
            handle.set_snap(name)
            clones = list(handle.list_children2())
            handle.set_snap(None)
            if clones:
                raise WorkerError("Busy", "clones hang on it")
            if handle.is_protected_snap(name):
                handle.unprotect_snap(name)
            handle.remove_snap(name)


def snapshot_remove(session, report, pool, namespace, image, snapshot):
    """Remove a snapshot. Under a format-2 clone librbd moves it to its trash namespace without a word."""
    with session.image(pool, namespace, image, write=True) as handle:
        with _named():
            handle.remove_snap(snapshot)


def snapshot_protect(session, report, pool, namespace, image, snapshot):
    """Protect a snapshot; one that is protected stays so."""
    with session.image(pool, namespace, image, write=True) as handle:
        with _named():
            if not handle.is_protected_snap(snapshot):
                handle.protect_snap(snapshot)


def snapshot_unprotect(session, report, pool, namespace, image, snapshot):
    """Unprotect a snapshot; one that is not protected stays so. Busy while format-1 clones hang on it."""
    with session.image(pool, namespace, image, write=True) as handle:
        with _named():
            if handle.is_protected_snap(snapshot):
                handle.unprotect_snap(snapshot)


class _named:
    """Inside an open image, what librbd calls a missing image is a missing snapshot, and a busy one a protected or used one."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, rbd.ImageNotFound):
            raise WorkerError("SnapshotNotFound", "the snapshot does not exist")
        if isinstance(error, rbd.ImageBusy):
            raise WorkerError("Busy", "the snapshot is protected, or clones hang on it")


OPERATIONS = {
    "snapshot_create": snapshot_create,
    "snapshot_name": snapshot_name,
    "snapshot_undo": snapshot_undo,
    "snapshot_remove": snapshot_remove,
    "snapshot_protect": snapshot_protect,
    "snapshot_unprotect": snapshot_unprotect,
}
