"""LUKS by librbd: writing the header, and reading what lies behind it. The passphrase comes over stdin and stays in memory."""

from contextlib import contextmanager

import rbd
from blank import first_used, pieces
from session import WorkerError
from users import users_of

FORMATS = {"luks1": "RBD_ENCRYPTION_FORMAT_LUKS1", "luks2": "RBD_ENCRYPTION_FORMAT_LUKS2"}


def _number(name):
    if not hasattr(rbd.Image, "encryption_load"):
        raise WorkerError("NotSupported", "librbd of this host has no encryption; it came with Ceph 16")
    return getattr(rbd, FORMATS[name])


@contextmanager
def _opened(session, pool, namespace, image, snapshot, image_id, encryption):
    number = _number(encryption["format"])
    with session.image(pool, namespace, image, snapshot=snapshot, image_id=image_id) as handle:
        try:
            handle.encryption_load(number, encryption["passphrase"])
        except rbd.PermissionError:
            raise WorkerError("WrongPassphrase", "the passphrase does not open its LUKS header")
        except rbd.InvalidArgument:
            raise WorkerError("Refused", "it has no LUKS header of the format {}".format(encryption["format"]))
        yield handle


def image_unlock(session, report, pool, namespace, image, encryption, ends=0, snapshot="", image_id=None):
    """Open the image with its passphrase and return the size of what lies behind the header, the blocks at both ends of it
    (``ends`` bytes each; as :func:`blank.image_read`), and the first byte of the image that is used behind the header (None: blank)."""
    with _opened(session, pool, namespace, image, snapshot, image_id, encryption) as handle:
        size = handle.size()
        length = min(ends, size)
        blocks = []
        for offset in sorted({0, size - length}) if length else ():
            blocks += pieces(offset, handle.read(offset, length))
    if not ends:
        return {"size": size, "blocks": blocks, "first_used": None}
    # librbd's diff by the fast-diff map forgets the header once it is opened (seen in 16.2): the image is walked as it is stored.
    with session.image(pool, namespace, image, snapshot=snapshot, image_id=image_id) as handle:
        return {"size": size, "blocks": blocks, "first_used": first_used(handle, report, handle.size() - size)}


def image_encrypt(session, report, pool, namespace, image, image_id, encryption, behind=0, snapshot=""):
    """Write a LUKS header into the image with this id, which must hold nothing from the byte ``behind`` on and have no other user.

    The proof and the header are one step: where the image has an exclusive lock, this holds it.
    """
    number = _number(encryption["format"])
    with session.image(pool, namespace, image, write=True) as handle:
        if handle.id() != image_id:
            raise WorkerError("ImageReplaced", "the image of that name is another one by now (id {}, not {})".format(handle.id(), image_id))
        if handle.features() & rbd.RBD_FEATURE_EXCLUSIVE_LOCK:
            handle.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
        others = sorted({item["address"] for item in users_of(session, handle, pool, namespace)["watchers"]})
        if others:
            raise WorkerError("Busy", "it is in use by {}".format(", ".join(others)))
        used = first_used(handle, report, behind)
        if used is not None:
            raise WorkerError("NotBlank", "librbd knows of data in it, first at byte {}".format(used))
        handle.encryption_format(number, encryption["passphrase"])
        handle.flush()


OPERATIONS = {"image_unlock": image_unlock, "image_encrypt": image_encrypt}
