"""
Ceph RBD clones: make one from a snapshot, read its parent, list an image's children.
"""

from saltrbd import client, clone, image, settings, spec

__virtualname__ = "rbd_clone"


def __virtual__():
    return __virtualname__


def _settings():
    return settings.load(__opts__, __pillar__)


def create(
    name,
    parent,
    clone_format="auto",
    features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    metadata=None,
    config=None,
):
    """
    Clone the snapshot ``parent`` to the image ``name`` and return the clone's id, or to a list of images at once: ``{name: id}``.

    ``clone_format``: 1, 2, or auto: 2 where the cluster's require_min_compat_client is mimic or newer, else 1. Format 1
    needs a protected parent. Raises ImageExists, ImageNotFound, InvalidArgument; of a list the others are made all the same.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_clone.create rbd/rbd0002 rbd/rbd0001@snap1
        salt '*' rbd_clone.create '[rbd/rbd0002, rbd/rbd0003]' rbd/rbd0001@snap1
    """
    chosen = _settings()
    ceph = client.get(chosen)
    number = clone.check_format(clone_format)
    if number == "auto":
        number = clone.choose_format(number, ceph.call("cluster_info"))
    want = image.desired(None, features, object_size, stripe_unit, stripe_count, data_pool, metadata, config)
    del want["size"]
    for key in ("metadata", "config"):
        want[key] = {item: value for item, value in (want[key] or {}).items() if value is not None}
    source = spec.parse_snapshot(parent, chosen.pool, chosen.namespace)
    names = name if isinstance(name, list) else [name]
    targets = [spec.parse_image(item, chosen.pool, chosen.namespace) for item in names]
    made = ceph.all([("clone_create", dict(item.where(), parent=source.where(), clone_format=number, **want)) for item in targets])
    ids = {item: facts["id"] for item, facts in zip(names, made)}
    return ids if isinstance(name, list) else ids[name]


def info(name):
    """
    Return a clone's parent and clone_format: {"parent": "pool/image@snap" or None, "clone_format": 1, 2 or None}.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_clone.info rbd/rbd0002
    """
    facts = __salt__["rbd_image.info"](name)
    parent = clone.parent_of(facts)
    return {"parent": str(parent) if parent else None, "clone_format": facts["clone_format"]}


def children(name):
    """
    Return the clones of an image or of one snapshot: {"pool/image@snap": ["pool/clone", ...]}, those in the trash marked.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_clone.children rbd/rbd0001
        salt '*' rbd_clone.children rbd/rbd0001@snap1
    """
    chosen = _settings()
    wanted = spec.parse(name, chosen.pool, chosen.namespace)
    facts = client.get(chosen).call("image_info", wanted.head, children=True)
    return {
        "{}@{}".format(wanted.head, item["name"]): [image.child_name(child) for child in item["children"]]
        for item in facts["snapshots"]
        if item["children"] and wanted.snapshot in ("", item["name"])
    }


def parents(name, image_id=None):
    """
    Return what an image or a snapshot stands on, the nearest first, through pools, namespaces and the trash; its depth is their number.

    Each has pool, namespace, image, snapshot, id, overlap (bytes), trash (the snapshot lies in Ceph's trash for snapshots) and
    image_trash (the image lies in the trash). With ``image_id`` an image in the trash can be asked about. Raises ImageNotFound.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_clone.parents rbd/rbd0002
    """
    chosen = _settings()
    wanted = spec.parse(name, chosen.pool, chosen.namespace)
    return client.get(chosen).call("clone_parents", wanted, image_id=image_id)


def flatten(name):
    """
    Copy into a clone, or into a list of clones at once, what the parent gives it, so that it stands alone. An image without a
    parent stays as it is.

    Takes as long as copying does; raises CephTimeout after ``rbd:progress_timeout`` seconds (300) without progress, which the
    minion's log tells at the level info. An image that librbd has open somewhere can be flattened; one that krbd has mapped
    exclusively raises ReadOnly.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_clone.flatten rbd/rbd0002
    """
    chosen = _settings()
    names = name if isinstance(name, list) else [name]
    targets = [spec.parse_image(item, chosen.pool, chosen.namespace) for item in names]
    client.get(chosen).all([("clone_flatten", item.where()) for item in targets])
    return True
