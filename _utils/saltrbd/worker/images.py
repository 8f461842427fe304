"""Operations on whole images."""

import re

import begun
import rados
import rbd
import trash
from features import FEATURES, FLAGS, mask, names
from session import WorkerError, describe
from users import users_of

_SNAPSHOT_TYPES = {0: "user", 1: "group", 2: "trash", 3: "mirror"}
# librbd keeps an image's own configuration among its metadata, under this prefix, and all of it in the header's omap.
_CONFIG, _METADATA = "conf_", "metadata_"
# An OSD hands out no more entries at once (osd_max_omap_entries_per_request).
_OMAP_CHUNK = 1000
# Bytes that a shrink takes off in one step, and the most steps; librbd removes thousands of objects a second.
_SHRINK_STEP, _SHRINK_STEPS = 64 << 30, 100
# How long librbd may take for one object while it rebuilds an object map or rolls an image back; it works on ten at once.
SECONDS_PER_OBJECT = 0.01
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def order_of(object_size):
    """Return the order (power of two) of an object size in bytes, None for None."""
    return object_size.bit_length() - 1 if object_size else None


def image_list(session, report, pool, namespace="", image="", snapshot=""):
    """Names of the images of a pool and namespace, with their ids."""
    found = rbd.RBD().list2(session.ioctx(pool, namespace))
    return sorted(({"name": item["name"], "id": item["id"]} for item in found), key=lambda item: item["name"])


def image_info(session, report, pool, namespace, image, snapshot="", children=False, users=False, image_id=None):
    """Everything that opening the image tells; ``children`` adds each snapshot's clones ("formats": with their clone
    formats), ``users`` who uses it. With ``image_id`` an image in the trash can be read."""
    with session.image(pool, namespace, image, image_id=image_id) as handle:
        context = session.ioctx(pool, namespace)
        if not image_id and begun.is_begun(session, report, pool, namespace, image, handle):
            raise rbd.ImageNotFound("a killed maker left it")
        try:
            facts = _read(session, context, handle, children)
            return dict(facts, **users_of(session, handle, pool, namespace)) if users else facts
        except (rbd.ImageNotFound, rados.ObjectNotFound) as error:
            # The image itself is there, so this must not pass for "the image does not exist".
            raise WorkerError("CephError", "a part of it went while it was read ({})".format(error))


def _read(session, context, handle, children):
    metadata = _metadata(context, handle.id())
    features, op_features = handle.features(), handle.op_features()
    facts = {
        "id": handle.id(),
        "size": handle.size(),
        "features": names(features, FEATURES),
        "flags": names(handle.flags(), FLAGS),
        "object_size": handle.stat()["obj_size"],
        "stripe_unit": handle.stripe_unit(),
        "stripe_count": handle.stripe_count(),
        "data_pool": session.pool_name(handle.data_pool_id()) if features & FEATURES["data-pool"] else "",
        "parent": parent_of(session, handle),
        "metadata": {key: value for key, value in metadata.items() if not key.startswith(_CONFIG)},
        "config": {key[len(_CONFIG) :]: value for key, value in metadata.items() if key.startswith(_CONFIG)},
        "created": int(handle.create_timestamp().timestamp()),
        # librbd keeps it to the minute (rbd_mtime_update_interval); krbd does not keep it.
        "modified": int(handle.modify_timestamp().timestamp()),
    }
    facts["clone_format"] = None
    if facts["parent"]:
        facts["clone_format"] = 2 if op_features & rbd.RBD_OPERATION_FEATURE_CLONE_CHILD else 1
    facts["snapshots"] = [_snapshot(handle, item) for item in handle.list_snaps()]
    if children:
        for item in facts["snapshots"]:
            handle.set_snap_by_id(item["id"])
            found = [_child(session, child, children == "formats") for child in handle.list_children2()]
            item["children"] = [child for child in found if child is not None]
    return facts


def _metadata(context, image_id):
    """Return the image's metadata from its header. ``Image.metadata_list`` of the bindings (seen in 16.2) leaves empty values out
    and then gives every later key its neighbour's value."""
    found, last, more = {}, "", True
    while more:
        with rados.ReadOpCtx() as operation:
            chunk, _ = context.get_omap_vals(operation, last, _METADATA, _OMAP_CHUNK)
            context.operate_read_op(operation, "rbd_header." + image_id)
            chunk = list(chunk)
        for key, value in chunk:
            found[key[len(_METADATA) :]] = (value or b"").decode("utf-8", "replace")
            last = key
        more = len(chunk) == _OMAP_CHUNK
    return found


def parent_of(session, handle):
    """Return the facts of an open image's parent, None where it has none."""
    try:
        spec = handle.get_parent_image_spec()
    except rbd.ImageNotFound:
        return None
    facts = {
        "pool": spec["pool_name"],
        "namespace": spec["pool_namespace"],
        "image": spec["image_name"],
        "snapshot": spec["snap_name"],
        "id": handle.parent_id(),
        "overlap": handle.overlap(),
        "trash": False,
    }
    if _UUID.match(facts["snapshot"]):
        original = _original_name(session, facts)
        facts.update({"snapshot": original, "trash": True} if original else {})
    return facts


def _original_name(session, parent):
    """Return what a snapshot was called before it went to Ceph's trash for snapshots (its name there is a UUID), or None."""
    try:
        with session.image(parent["pool"], parent["namespace"], image_id=parent["id"]) as handle:
            for item in handle.list_snaps():
                if item["name"] == parent["snapshot"] and "trash" in item:
                    return item["trash"]["original_name"]
    except (rbd.ImageNotFound, rados.PermissionError, rbd.PermissionError):
        pass  # the parent's pool may be closed to this user
    return None


def _snapshot(handle, item):
    kind = _SNAPSHOT_TYPES.get(item["namespace"], "other")
    return {
        "name": item["name"],
        "id": item["id"],
        "size": item["size"],
        "type": "unfinished" if kind == "user" and item["name"].startswith(begun.PREFIX) else kind,
        "protected": kind == "user" and handle.is_protected_snap(item["name"]),
        "created": int(handle.get_snap_timestamp(item["id"]).timestamp()),
        "original_name": item["trash"]["original_name"] if kind == "trash" and "trash" in item else None,
    }


def _child(session, child, with_format):
    """Return the facts of a clone; None for one that went by now."""
    facts = {
        "pool": child["pool"],
        "namespace": child["pool_namespace"],
        "image": child["image"],
        "id": child["id"],
        "trash": child["trash"],
    }
    if with_format:
        try:
            with session.image(facts["pool"], facts["namespace"], image_id=facts["id"]) as handle:
                facts["clone_format"] = 2 if handle.op_features() & rbd.RBD_OPERATION_FEATURE_CLONE_CHILD else 1
        except rbd.ImageNotFound:
            return None
    return facts


def image_create(
    session,
    report,
    pool,
    namespace,
    image,
    size,
    features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    metadata=None,
    config=None,
    snapshot="",
):
    """Create the image, with its metadata and configuration; returns its id."""
    check_data_pool(session, data_pool)
    with begun.making(session, report, pool, namespace, image):
        rbd.RBD().create(
            session.ioctx(pool, namespace),
            image,
            size,
            order=order_of(object_size),
            old_format=False,
            features=mask(features),
            stripe_unit=stripe_unit or 0,
            stripe_count=stripe_count or 0,
            data_pool=data_pool or None,
        )
    return finish(session, report, pool, namespace, image, metadata, config)


def finish(session, report, pool, namespace, image, metadata, config):
    """Annotate the image that was just made and return its id; where Ceph refuses that, the new image goes again."""
    with session.image(pool, namespace, image, write=bool(metadata or config)) as handle:
        made = handle.id()
        try:
            annotate(handle, metadata, config)
            return {"id": made}
        except (rbd.Error, WorkerError) as error:
            failure = error
    left = trash.take_back(session, report, pool, namespace, image, made)
    if left:
        name, message, facts = describe(failure)
        raise WorkerError(name, "{}; the new image (id {}) is left {}".format(message.rstrip("."), made, left), **facts)
    raise failure


def check_data_pool(session, data_pool):
    """Raise PoolNotFound for a data pool that does not exist."""
    if data_pool and not session.rados.pool_exists(data_pool):
        raise WorkerError("PoolNotFound", "the data pool {} does not exist".format(data_pool))


def annotate(handle, metadata, config):
    """Set metadata and configuration overrides of an open image."""
    for key, value in sorted((metadata or {}).items()):
        handle.metadata_set(key, value)
    for key, value in sorted((config or {}).items()):
        try:
            handle.config_set(key, value)
        except rbd.InvalidArgument:
            raise WorkerError("InvalidArgument", "Ceph takes no config {} = {!r}".format(key, value))


def image_resize(session, report, pool, namespace, image, size, allow_shrink=False, snapshot=""):
    """Resize to ``size`` bytes. librbd shrinks unless it is told not to.

    Its call has no progress for Python, so what shrinks much does so in steps, and each is a sign of life.
    """
    with session.image(pool, namespace, image, write=True) as handle:
        before = handle.size()
        step = max(_SHRINK_STEP, (before - size) // _SHRINK_STEPS)
        for target in [*range(before - step, size, -step), size] if size != before else ():
            handle.resize(target, allow_shrink)
            report((before - target) / (before - size))


def image_metadata(session, report, pool, namespace, image, put=None, remove=(), snapshot=""):
    """Set and remove metadata keys."""
    with session.image(pool, namespace, image, write=True) as handle:
        annotate(handle, put, None)
        for key in remove:
            _forget(handle.metadata_remove, key)


def image_config(session, report, pool, namespace, image, put=None, remove=(), snapshot=""):
    """Set and remove configuration overrides of the image."""
    with session.image(pool, namespace, image, write=True) as handle:
        annotate(handle, None, put)
        for key in remove:
            _forget(handle.config_remove, key)


def config_keys(session, report, pool):
    """The names of Ceph's options that an image can override."""
    return sorted(item["name"] for item in rbd.RBD().config_list(session.ioctx(pool)))


def _forget(remove, key):
    try:
        remove(key)
    except (KeyError, rbd.ImageNotFound):
        pass  # already gone


def image_rebuild_object_map(session, report, pool, namespace, image, snapshot=""):
    """Rebuild the object map, of the snapshots too: their flags become invalid with the image's."""
    with session.image(pool, namespace, image, write=True) as handle:
        _rebuild(handle, report, 0)
        snapshots = [item["name"] for item in handle.list_snaps() if item["namespace"] == 0]
    for done, name in enumerate(snapshots, 1):
        with session.image(pool, namespace, image, snapshot=name, write=True) as handle:
            _rebuild(handle, report, done / (len(snapshots) + 1))


def _rebuild(handle, report, fraction):
    """librbd looks for each object, and has no progress for Python: the time without a sign of life grows with the size."""
    report(fraction, within=handle.size() / handle.stat()["obj_size"] * SECONDS_PER_OBJECT)
    handle.rebuild_object_map()


def image_rename(session, report, pool, namespace, image, image_id, new, snapshot=""):
    """Give the image with this id another name in its pool and namespace."""
    context = session.ioctx(pool, namespace)
    with session.image(pool, namespace, image) as handle:
        if handle.id() != image_id:
            raise WorkerError("ImageReplaced", "another image has that name by now (id {})".format(handle.id()))
    try:
        rbd.RBD().rename(context, image, new)
    except rbd.ImageExists:
        raise WorkerError("ImageExists", "an image {} exists already".format(new))


OPERATIONS = {
    "image_list": image_list,
    "image_info": image_info,
    "image_create": image_create,
    "image_resize": image_resize,
    "image_metadata": image_metadata,
    "image_config": image_config,
    "config_keys": config_keys,
    "image_rebuild_object_map": image_rebuild_object_map,
    "image_rename": image_rename,
}
