"""Operations on snapshots."""

import rbd
from session import WorkerError, describe

# What of librbd's flags tells the hooks (rbd-nbd --quiesce) of all clients that have the image open; Ceph 16 is the first with both.
_QUIESCE = {"skip": "RBD_SNAP_CREATE_SKIP_QUIESCE", "try": "RBD_SNAP_CREATE_IGNORE_QUIESCE_ERROR"}


def snapshot_create(session, report, pool, namespace, image, snapshot, protect=False, quiesce="try"):
    """Create a snapshot, and protect it; one that cannot be protected goes again.

    ``quiesce``: ``skip`` calls no client's quiesce hook, ``try`` calls them and makes the snapshot whatever they answer.
    """
    flags = getattr(rbd, _QUIESCE[quiesce], None)
    with session.image(pool, namespace, image, write=True) as handle:
        try:
            handle.create_snap(snapshot, *([] if flags is None else [flags]))
        except rbd.ImageExists:
            raise WorkerError("SnapshotExists", "the snapshot exists already")
        try:
            if protect:
                handle.protect_snap(snapshot)
            return {"id": handle.snap_get_id(snapshot)}
        except rbd.Error as error:
            _take_back(handle, snapshot, error)
            raise


def _take_back(handle, snapshot, error):
    """Nobody is told its id, so nobody could take it back later."""
    try:
        handle.remove_snap(snapshot)
    except rbd.Error:
        name, message, facts = describe(error)
        raise WorkerError(name, "{}; the snapshot was made and is left there, remove it".format(message.rstrip(".")), **facts)


def snapshot_undo(session, report, pool, namespace, image, snapshot, snapshot_id):
    """Remove the snapshot with that id, protected or not; another one of that name, and one with clones, stay."""
    with session.image(pool, namespace, image, write=True) as handle:
        with _named():
            if handle.snap_get_id(snapshot) != snapshot_id:
                raise WorkerError("Refused", "the snapshot of that name is another one by now")
            handle.set_snap(snapshot)
            clones = list(handle.list_children2())
            handle.set_snap(None)
            if clones:
                raise WorkerError("Busy", "clones hang on it")
            if handle.is_protected_snap(snapshot):
                handle.unprotect_snap(snapshot)
            handle.remove_snap(snapshot)


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
    "snapshot_undo": snapshot_undo,
    "snapshot_remove": snapshot_remove,
    "snapshot_protect": snapshot_protect,
    "snapshot_unprotect": snapshot_unprotect,
}
