"""Clones: making one, what it stands on, making it stand alone."""

import rbd
from begun import making
from features import mask
from images import check_data_pool, finish, order_of, parent_of
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
    with making(session, report, pool, namespace, image):
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
    return finish(session, report, pool, namespace, image, metadata, config)


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


def clone_parents(session, report, pool, namespace, image, snapshot="", image_id=None):
    """The parents that the image or snapshot stands on, the nearest first, through pools, namespaces and the trash: what ``image_info``
    says of a parent, where ``trash`` is about the snapshot, and ``image_trash``: whether the parent's image lies in the trash.

    With ``image_id`` an image in the trash can be asked about.
    """
    found, where = [], {"pool": pool, "namespace": namespace, "image": image, "image_id": image_id}
    while True:
        with session.image(**where) as handle:
            # A snapshot can still stand on what its image was flattened off. One in Ceph's trash is found by its name there.
            for item in handle.list_snaps() if snapshot else ():
                if item["name"] == snapshot:
                    handle.set_snap_by_id(item["id"])
            parent = parent_of(session, handle)
            if parent is None:
                return found
            snapshot = handle.get_parent_image_spec()["snap_name"]
        where = {"pool": parent["pool"], "namespace": parent["namespace"], "image_id": parent["id"]}
        found.append(dict(parent, image_trash=_in_trash(session, **where)))


def _in_trash(session, pool, namespace, image_id):
    try:
        rbd.RBD().trash_get(session.ioctx(pool, namespace), image_id)
    except rbd.ImageNotFound:
        return False
    return True


def clone_flatten(session, report, pool, namespace, image, snapshot=""):
    """Copy into the image what its parent gives it, and let the parent go; an image without one stays as it is."""
    with session.image(pool, namespace, image, write=True) as handle:
        if parent_of(session, handle) is not None:
            handle.flatten(on_progress=lambda done, total: report(done / max(total, 1)))


OPERATIONS = {"clone_create": clone_create, "clone_parents": clone_parents, "clone_flatten": clone_flatten}
