"""
Ceph RBD images: list, read, create, resize, remove, trash, restore.

Names are specs, ``pool[/namespace]/image``; a bare image name lies in ``ceph:pool``. Sizes are bytes or text such as
``10G`` (binary units). Errors are subclasses of CommandExecutionError (``saltrbd.errors``): ImageNotFound, ImageExists,
Busy, PermissionDenied, CephTimeout (after ``rbd:timeout`` seconds, 30 by default), ClusterUnreachable, WrongCluster and
more.
"""

import salt.utils.yaml
from saltrbd import (
    client,
    device,
    device_find,
    duration,
    errors,
    export,
    features,
    hostlock,
    image,
    lineage,
    luks,
    owner,
    settings,
    shrink,
    spec,
)
from saltrbd import purge as purges
from saltrbd import rename as renames
from saltrbd.errors import ImageNotFound, InvalidArgument

__virtualname__ = "rbd_image"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def _settings():
    return settings.load(__opts__, __pillar__)


def _ceph():
    return client.get(_settings())


def _spec(name):
    chosen = _settings()
    return spec.parse_image(name, chosen.pool, chosen.namespace)


def _where(pool, namespace):
    """Return the pool and namespace that are asked for, the configured ones where none are."""
    chosen = _settings()
    pool = chosen.pool if pool is None else pool
    namespace = chosen.namespace if namespace is None else namespace
    return {
        "pool": spec.check_name(pool, "pool"),
        "namespace": "" if namespace == "" else spec.check_name(namespace, "namespace"),
    }


def _new(size, features, object_size, stripe_unit, stripe_count, data_pool, metadata, config):
    """Return the checked arguments of an image or clone that is made; what shall not be there needs no removal."""
    want = image.desired(size, features, object_size, stripe_unit, stripe_count, data_pool, metadata, config)
    for key in ("metadata", "config"):
        want[key] = {name: value for name, value in (want[key] or {}).items() if value is not None}
    return want


def list_(pool=None, namespace=None):
    """
    Return the names of the images of a pool (``ceph:pool`` where none is given) and namespace.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.list
        salt '*' rbd_image.list tenx-k8s namespace=volumes
    """
    return [item["name"] for item in _ceph().call("image_list", **_where(pool, namespace))]


def info(name, children=False, users=False, usage=False):
    """
    Return the facts of one image, or of a list of images at once.

    One name: its facts; raises ImageNotFound. A list: ``{name: facts}``, with None for an image that does not exist.
    The facts: id, size (bytes), features, flags, object_size, stripe_unit, stripe_count, data_pool, parent,
    clone_format, snapshots, metadata, config, created. ``children`` adds the clones of each snapshot ("formats":
    with their clone formats); ``users`` adds watchers and locks by address, those of this
    host's own exclusive mapping marked ``here``; ``usage`` adds bytes used and provisioned, which may walk
    every object.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.info rbd0001
        salt '*' rbd_image.info rbd/rbd0001 children=True users=True usage=True
        salt '*' rbd_image.info '[rbd/rbd0001, rbd/rbd0002]'
    """
    wanted = name if isinstance(name, list) else [name]
    found = _ceph().batch([("image_info", dict(_spec(item).where(), children=children, users=users)) for item in wanted])
    facts = {}
    for item, outcome in zip(wanted, found):
        if isinstance(outcome.error, ImageNotFound) and isinstance(name, list):
            facts[item] = None
            continue
        facts[item] = outcome.get()
    there = [item for item in wanted if facts[item]]
    if users or children:
        mappings = device_find.on_host()
        for item in there:
            owner.annotate_devices(facts[item], mappings)
    if users:
        for item in there:
            owner.annotate(_ceph(), _spec(item), facts[item])
    if usage:
        measured = _ceph().batch([("image_usage", _spec(item).where()) for item in there])
        for item, outcome in zip(there, measured):
            facts[item]["usage"] = outcome.get()
    return facts if isinstance(name, list) else facts[name]


def cluster():
    """
    Return what new images get by default: fsid, require_min_compat_client, default_features, default_order, pools.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.cluster
    """
    return _ceph().call("cluster_info")


def namespaces(pool=None):
    """
    Return the names of the namespaces of a pool.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.namespaces rbd
    """
    return _ceph().call("namespace_list", pool=_where(pool, None)["pool"])


def config_keys(pool=None):
    """
    Return the names of Ceph's options that an image can override: what ``config`` of a state may hold.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.config_keys
    """
    return _ceph().call("config_keys", pool=_where(pool, None)["pool"])


def create(
    name,
    size,
    features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    metadata=None,
    config=None,
):
    """
    Create an image and return its id, or a list of images at once: ``{name: id}``.

    Raises ImageExists, PoolNotFound, InvalidArgument, InvalidSize; of a list the others are made all the same.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.create rbd/db 10G features='[layering, exclusive-lock]'
        salt '*' rbd_image.create '[rbd/rbd0001, rbd/rbd0002]' 10G
    """
    if size is None:
        raise InvalidArgument("An image is made with a size, such as 10G.")
    want = _new(size, features, object_size, stripe_unit, stripe_count, data_pool, metadata, config)
    names = name if isinstance(name, list) else [name]
    made = _ceph().all([("image_create", dict(_spec(item).where(), **want)) for item in names])
    ids = {item: facts["id"] for item, facts in zip(names, made)}
    return ids if isinstance(name, list) else ids[name]


def resize(name, size, allow_shrink=False, encryption=None):
    """
    Resize an image. Raises InvalidArgument when that would shrink it and ``allow_shrink`` is not True, and Refused while
    anybody uses an image that would shrink, or the filesystem in it needs more, or it carries anything else of which this cannot tell.
    Busy where another host takes the image at that moment.

    encryption
        Of an encrypted image that shall shrink: a mapping of ``format`` and ``pillar``, the place of the passphrase in the pillar.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.resize rbd/db 20G
    """
    image.flag(allow_shrink, "allow_shrink")
    ceph, wanted, number, key = _ceph(), _spec(name), image.size.parse(size), luks.key(encryption, __pillar__)
    with hostlock.hold(ceph, info(name)["id"]):
        there = info(name, users=True)
        if allow_shrink and number < there["size"]:
            shrink.carry_out(ceph, wanted, number, there, key)
        else:
            ceph.call("image_resize", wanted, size=number, allow_shrink=False)
    return True


def set_features(name, enable=(), disable=()):
    """
    Disable, then enable features, in the order given. Raises InvalidArgument for what Ceph cannot change.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.set_features rbd/db disable='[journaling]'
    """
    moves = {key: features.check_names(image.names(value, key)) for key, value in (("enable", enable), ("disable", disable))}
    _ceph().call("image_features", _spec(name), **moves)
    return True


def rebuild_object_map(name):
    """
    Rebuild the object map of an image and its snapshots, so that their flags read 0 again.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.rebuild_object_map rbd/db
    """
    _ceph().call("image_rebuild_object_map", _spec(name))
    return True


def set_metadata(name, put=None, remove=()):
    """
    Set and remove metadata keys of an image.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.set_metadata rbd/db put='{owner: platform}' remove='[old]'
    """
    put, remove = _put_and_remove(image.desired(metadata=put)["metadata"], remove)
    _ceph().call("image_metadata", _spec(name), put=put, remove=remove)
    return True


def set_config(name, put=None, remove=()):
    """
    Set and remove configuration overrides of an image.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.set_config rbd/db put='{rbd_qos_iops_limit: 1000}'
    """
    put, remove = _put_and_remove(image.desired(config=put)["config"], remove)
    _ceph().call("image_config", _spec(name), put=put, remove=remove)
    return True


def _put_and_remove(values, remove):
    """Return what to set and what to remove; a value of None is a removal too."""
    values = values or {}
    gone = image.names(remove, "remove") + [key for key, value in values.items() if value is None]
    return {key: value for key, value in values.items() if value is not None}, gone


def remove(name, image_id=None):
    """
    Remove an image at once. The data is gone. Raises Refused while it has clones, users, locks or snapshots.

    ``image_id`` is the id of the image that is meant; ImageReplaced when another one has the name, before or in between,
    and nothing is removed. The removal goes by way of the trash: an error that stops it midway says that the rest lies there.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.remove rbd/db
    """
    _ceph().call("image_remove", _spec(name), image_id=_checked(name, image_id, trash=False))
    return True


def _checked(name, image_id, **how):
    """Return the id of the image that may go, so that none goes that took its name since. Raises :class:`Refused` with everything
    that stands in the way of a removal: librbd itself guards less."""
    facts = info(name, children=True, users=True)
    if image_id is not None and facts["id"] != str(image_id):
        raise errors.ImageReplaced(
            "{} is not removed: the image of that name is another one by now (id {}, and {} was meant).".format(
                _spec(name), facts["id"], image_id
            )
        )
    refusals = image.plan_absent(_spec(name), facts, **how).refusals
    if refusals:
        raise errors.Refused(" ".join(refusals))
    return facts["id"]


def trash(name, delay=0, image_id=None):
    """
    Move an image to the trash, where it cannot be purged for ``delay``: seconds, or text such as ``12h`` or ``7d``. Raises Refused while
    it has clones, users or locks, and ImageReplaced where the image of that name has another id than ``image_id``.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.trash rbd/db delay=7d
    """
    seconds = duration.parse(delay)
    _ceph().call("trash_move", _spec(name), image_id=_checked(name, image_id, trash=True), delay=seconds)
    return True


def trash_list(pool=None, namespace=None, facts=False):
    """
    Return what lies in the trash of a pool and namespace: name, id, source (who put it there: USER, MIRRORING, MIGRATION, or REMOVING for a
    removal that was cut off), deleted and kept_until (seconds since 1970).

    ``facts`` adds those of each image, with children and users; None for one of which a removal has begun.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.trash_list
        salt '*' rbd_image.trash_list tenx-k8s facts=True
    """
    where = _where(pool, namespace)
    return purges.read(_ceph(), where) if facts else _ceph().call("trash_list", **where)


def purge(name, ids=None, early=None):
    """
    Remove what lies in the trash past its time, and return it: ``{id: name}``. The data is gone then.

    name
        ``pool`` or ``pool/namespace``.
    ids
        Only these; all of it where none are given.
    early
        List of ids that go although the trash is to keep them still.

    Raises Refused with everything that is in the way of any of them: snapshots, clones, users, locks. Then nothing was removed.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.purge tenx-k8s
        salt '*' rbd_image.purge tenx-k8s early='[10379aa3159c]'
    """
    return purges.carry_out(_ceph(), spec.parse_place(name), purges.desired(None, early, False, ids))


def trashed(name):
    """
    Return the trash's entries of one image's name, each with the facts of its image, with children and users.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.trashed rbd/db
    """
    where = _spec(name)
    entries = [item for item in trash_list(where.pool, where.namespace) if item["name"] == where.image]
    # What a removal has begun with cannot be brought back; rbd_image.purge ends it.
    return [entry for entry in purges.with_facts(_ceph(), where.where(), entries) if entry["facts"]]


def restore(name, image_id):
    """
    Bring the image with this id back from the trash, under this name. Raises ImageNotFound, ImageExists.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.restore rbd/db 10379aa3159c
    """
    _ceph().call("trash_restore", _spec(name), image_id=str(image_id))
    return True


def rename(name, new):
    """
    Give an image another name in its pool and namespace. Its lines in ``/etc/fstab`` and its unit for the boot follow, on this host;
    where the image has the new name already, only these do. Clones and snapshots know it by its id.

    Raises Refused while anybody uses it, this host's own device included, and where both names exist, or none of them.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_image.rename rbd/rbd0001 rbd/rbd0002
    """
    old, wanted = _spec(name), _spec(new)
    renames.check(old, wanted)
    found = info([str(old), str(wanted)], users=True)
    was, now = found[str(old)], found[str(wanted)]
    renames.carry_out(_ceph(), old, wanted, was, now, () if was or now else trashed(name))
    return True


def export_pillar(pool=None, namespace=None, path=None):
    """
    Return the pillar for what a pool has already, made by whomever: ``{"rbd": {namespaces, volumes, clones}, "warnings": [...]}``.
    Applying it by ``salt/rbd`` changes nothing.

    pool
        ``ceph:pool`` where none is given.
    namespace
        Only this one, ``''`` for the unnamed one; all of the pool where none is given.
    path
        A file on the minion that does not exist yet: the pillar is written into it as an SLS, the warnings as its comments.

    The warnings say what a pillar cannot express: the trash, groups, names with white space, a parent that was removed. Mounts are not
    part of it: which host mounts an image, no cluster knows.

    CLI Example:

    .. code-block:: bash

        salt-call --local rbd_image.export_pillar tenx-k8s
        salt '*' rbd_image.export_pillar tenx-k8s namespace=volumes
    """
    where = _where(pool, None)["pool"]
    chosen = None if namespace is None else _where(where, namespace)["namespace"]
    section, told = export.pillar(export.read(_ceph(), where, chosen))
    if path is not None:
        export.write(path, salt.utils.yaml.safe_dump({"rbd": section}, default_flow_style=False), told)
    return {"rbd": section, "warnings": told}


def tree(pool=None):
    """
    Return a text for people: every image with its snapshots and clones, across pools and namespaces, and what is mapped
    and mounted on this host.

    ``pool`` limits it to one pool. The trash is shown too. What the Ceph user may not read is named below the tree;
    PermissionDenied where that is everything.

    CLI Example:

    .. code-block:: bash

        salt-call --local rbd_image.tree
    """
    ceph = _ceph()
    pools = None if pool is None else [spec.check_name(pool, "pool")]
    return lineage.draw(*lineage.read(ceph, pools), device.mapped_list(ceph))
