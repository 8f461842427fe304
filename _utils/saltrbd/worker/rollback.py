"""Going back to a snapshot: does the image differ from it, and the rollback itself."""

import rbd
from blank import CHUNK
from features import FEATURES
from images import SECONDS_PER_OBJECT
from session import WorkerError
from users import users_of

# Bytes compared in one step: librbd's usual object.
_PIECE = 4 << 20
_MISSING = "the snapshot does not exist"


def snapshot_compare(session, report, pool, namespace, image, snapshot, image_id=None):
    """Whether the image is as it was at the snapshot: {"size", "snapshot_size", "differs_at": first such byte or None, "compared"}.

    librbd's diff since the snapshot names what may differ. It is not empty after a rollback, which writes too, so what it names
    is read from both and compared; it stops at the first difference. With ``image_id`` an image in the trash can be asked about.
    """
    with session.image(pool, namespace, image, image_id=image_id) as head:
        with session.image(pool, namespace, snapshot=snapshot, image_id=head.id()) as before:
            facts = {"size": head.size(), "snapshot_size": before.size(), "differs_at": None, "compared": 0}
            if head.size() != before.size():
                return dict(facts, differs_at=min(head.size(), before.size()))
            for offset, length in _changed(head, before, snapshot, report):
                facts["compared"] += length
                if head.read(offset, length) != before.read(offset, length):
                    return dict(facts, differs_at=_first(head, before, offset, length))
            return facts


def _changed(head, before, snapshot, report):
    """Yield the pieces (offset, length) in which the image may differ from the snapshot, in order."""
    size = head.size()
    # The maps are trusted only while their flags are 0; else librbd asks for every object.
    trusted = bool(head.features() & before.features() & FEATURES["fast-diff"]) and not head.flags() and not before.flags()
    for start in range(0, size, CHUNK):
        for offset, length in _extents(head, start, min(CHUNK, size - start), snapshot, trusted):
            for at in range(offset, offset + length, _PIECE):
                report(at / size)
                yield at, min(_PIECE, offset + length - at)
        report(start / size)


def _extents(head, offset, length, snapshot, trusted):
    found = []
    head.diff_iterate(offset, length, snapshot, lambda at, size, exists: found.append((at, size)), whole_object=trusted)
    return sorted(found)


def _first(head, before, offset, length):
    one, other = head.read(offset, length), before.read(offset, length)
    return next((offset + at for at, (a, b) in enumerate(zip(one, other)) if a != b), offset)


def snapshot_rollback(session, report, pool, namespace, image, snapshot):
    """Roll the image back. Busy, with the addresses, while anybody else has it open for writing."""
    with session.image(pool, namespace, image, write=True) as handle:
        objects = max(handle.size(), _size_at(handle, snapshot)) / handle.stat()["obj_size"]
        _alone(session, handle, pool, namespace)
        if handle.features() & FEATURES["exclusive-lock"]:
            handle.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)  # who opens it from here on cannot write before this is over
            _alone(session, handle, pool, namespace)
        report(0, within=objects * SECONDS_PER_OBJECT)
        try:
            handle.rollback_to_snap(snapshot)
        except rbd.ImageNotFound:
            raise WorkerError("SnapshotNotFound", _MISSING)


def _size_at(handle, snapshot):
    for item in handle.list_snaps():
        if item["name"] == snapshot and item["namespace"] == 0:
            return item["size"]
    raise WorkerError("SnapshotNotFound", _MISSING)


def _alone(session, handle, pool, namespace):
    others = sorted({item["address"] for item in users_of(session, handle, pool, namespace)["watchers"]})
    if others:
        raise WorkerError("Busy", "the image is in use by {}".format(", ".join(others)))


OPERATIONS = {"snapshot_compare": snapshot_compare, "snapshot_rollback": snapshot_rollback}
