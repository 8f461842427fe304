"""Cloning."""

import rbd
from images import check_data_pool, finish, mask, order_of
from session import WorkerError


def clone_create(
    session,
    report,
    pool,
    namespace,
    image,
    parent,
    clone_format,
    features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    metadata=None,
    config=None,
    snapshot="",
):
    """Clone ``parent`` ({"pool", "namespace", "image", "snapshot"}) to the image, in clone format 1 or 2."""
    check_data_pool(session, data_pool)
    if object_size and stripe_unit is None and not _striped(session, parent):
        stripe_unit = stripe_count = 0  # else librbd takes the parent's object size for the stripe unit
    handle = session.with_clone_format(clone_format)
    try:
        rbd.RBD().clone(
            session.ioctx(parent["pool"], parent["namespace"], handle),
            parent["image"],
            parent["snapshot"],
            session.ioctx(pool, namespace, handle),
            image,
            features=mask(features),
            order=order_of(object_size),
            stripe_unit=stripe_unit,
            stripe_count=stripe_count,
            data_pool=data_pool or None,
        )
    except (rbd.ImageNotFound, rbd.InvalidArgument):
        _check_parent(session, parent, clone_format)
        raise
    return finish(session, pool, namespace, image, metadata, config)


def _striped(session, parent):
    with session.image(parent["pool"], parent["namespace"], parent["image"]) as handle:
        return handle.stripe_unit() != handle.stat()["obj_size"]


def _check_parent(session, parent, clone_format):
    """Say what librbd does not: whether it is the parent that is missing, or not protected."""
    try:
        with session.image(**parent) as handle:
            protected = handle.is_protected_snap(parent["snapshot"])
    except rbd.ImageNotFound:
        raise WorkerError("ImageNotFound", "the parent's image does not exist")
    except WorkerError as error:
        raise WorkerError(error.name, "the parent's snapshot does not exist")
    if clone_format == 1 and not protected:
        raise WorkerError("NotProtected", "a clone of format 1 needs a protected parent snapshot")


OPERATIONS = {"clone_create": clone_create}
