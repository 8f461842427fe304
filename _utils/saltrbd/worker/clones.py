"""Cloning."""

import rbd
from images import annotate, check_data_pool, mask, order_of


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
    handle = session.with_clone_format(clone_format)
    rbd.RBD().clone(
        session.ioctx(parent["pool"], parent["namespace"], handle),
        parent["image"],
        parent["snapshot"],
        session.ioctx(pool, namespace, handle),
        image,
        features=mask(features),
        order=order_of(object_size),
        stripe_unit=stripe_unit or 0,
        stripe_count=stripe_count or 0,
        data_pool=data_pool or None,
    )
    with session.image(pool, namespace, image, write=bool(metadata or config)) as opened:
        annotate(opened, metadata, config)
        return {"id": opened.id()}


OPERATIONS = {"clone_create": clone_create}
