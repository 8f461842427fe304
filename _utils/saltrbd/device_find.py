"""Which images are mapped on this host: told by the kernel and the daemons, compared with the cluster by image id."""

from saltrbd import device_fuse, device_krbd, device_nbd, errors, hostlock

DRIVERS = {module.NAME: module for module in (device_krbd, device_nbd, device_fuse)}


def choose_driver(name):
    """Return (driver, None), or (None, why none can be taken). ``auto`` takes krbd, else nbd, else fuse; nothing is loaded yet."""
    reasons = []
    for driver in DRIVERS if name == "auto" else (name,):
        lacking = DRIVERS[driver].lacking()
        if lacking is None:
            return driver, None
        reasons.append("{}: {}".format(driver, lacking))
    return None, "no driver can map it on this host ({}).".format("; ".join(reasons))


def on_host():
    """Return every :class:`Mapping` that this host's kernel and daemons tell of, of any cluster."""
    return [mapping for module in DRIVERS.values() for mapping in module.mapped_list()]


def mapped(ceph, spec, wait=True):
    """Return the :class:`Mapping` of an image or snapshot on this host, or None; ``wait`` as in :func:`find`.

    Raises :class:`StaleMapping` when the device of that name is of no use: its daemon is dead, or it belongs to an image of that
    name that was removed since.
    """
    mapping = find(ceph, spec, wait=wait)
    if mapping and mapping.fault:
        raise stale(mapping)
    return mapping


def is_there(mapping):
    """Tell whether the device of a mapping still serves that image, from the kernel and the daemons as they are now."""
    return any(_identity(now) == _identity(mapping) and not now.fault for now in on_host())


def _identity(mapping):
    """What is opened otherwise is not the same: a write at byte 0 of an image as it is stored would be over its LUKS header."""
    return (mapping.device, mapping.fsid, mapping.image_id, mapping.snapshot_id, mapping.read_only, mapping.encryption)


def stale(mapping):
    """Return the error that says why a mapping is of no use, with the mapping itself as ``mapping``."""
    error = errors.StaleMapping(
        "{} is mapped{}, but {}; unmap it and map it again.".format(
            mapping.spec, " at " + mapping.device if mapping.device else "", mapping.fault
        )
    )
    error.mapping = mapping
    return error


def mapped_list(ceph):
    """Return the :class:`Mapping` of all that this host has mapped of the cluster; ``fault`` tells which are of no use.

    An image that another Ceph user mapped may be closed to ours: its ``fault`` says so, and it is no error of the others.
    """
    local = [mapping for mapping in on_host() if mapping.fsid in (ceph.fsid, "")]
    infos = ceph.batch([("image_info", mapping.spec.head.where()) for mapping in local])
    return [_seen(ceph, mapping, info) for mapping, info in zip(local, infos)]


def _seen(ceph, mapping, outcome):
    if isinstance(outcome.error, errors.PermissionDenied):
        unknown = "whether it is of use is not known: client.{} may not read the image".format(ceph.settings.user)
        return mapping._replace(fault=mapping.fault or unknown)
    return _checked(mapping, facts_of(outcome))


def facts_of(outcome):
    """Return the image's facts from an outcome, None for an image that does not exist."""
    return None if isinstance(outcome.error, (errors.ImageNotFound, errors.PoolNotFound)) else outcome.get()


def find(ceph, spec, image=None, wait=True):
    """Return the :class:`Mapping` of ``spec`` whatever its fault, or None; ``image`` are the image's facts where known.

    One that is in the middle of being made is waited for, unless the caller holds the host's lock on the image (``wait`` False).
    """
    local = _nearby(ceph, spec)
    if not local:
        return None
    if image is None:
        image = facts_of(ceph.batch([("image_info", spec.head.where())])[0])
    found = _match(local, spec, image)
    if found and found.fault and wait and image:
        with hostlock.hold(ceph, image["id"]):
            found = _match(_nearby(ceph, spec), spec, image)
    return found


def _nearby(ceph, spec):
    place = (spec.pool, spec.namespace)
    return [mapping for mapping in on_host() if (mapping.spec.pool, mapping.spec.namespace) == place and mapping.fsid in (ceph.fsid, "")]


def _match(local, spec, image):
    by_id = [mapping for mapping in local if image and mapping.image_id == image["id"] and _same_snapshot(mapping, spec, image)]
    by_name = [mapping for mapping in local if mapping.spec == spec]
    for mapping in by_id:
        return mapping._replace(spec=spec)  # it may have been renamed
    for mapping in by_name:
        return _checked(mapping, image)
    return None


def _same_snapshot(mapping, spec, image):
    if not spec.snapshot or not mapping.spec.snapshot:
        return not spec.snapshot and not mapping.spec.snapshot
    if mapping.snapshot_id is None:
        return mapping.spec.snapshot == spec.snapshot
    return mapping.snapshot_id == snapshot_id(image, spec)


def _checked(mapping, image):
    """Return the mapping with its fault, seen from the image that has the name now."""
    if mapping.fault:
        return mapping
    if image is None:
        return mapping._replace(fault="the image was removed, renamed or moved to the trash since")
    if image["id"] != mapping.image_id:
        return mapping._replace(fault="the image of that name is another one by now (id {})".format(image["id"]))
    if mapping.spec.snapshot and not _same_snapshot(mapping, mapping.spec, image):
        return mapping._replace(fault="the snapshot was removed since")
    return mapping


def snapshot_id(image, spec):
    """Return the id of the snapshot that ``spec`` names in the image's facts, None for an image without one."""
    for item in image["snapshots"]:
        if spec.snapshot and item["name"] == spec.snapshot and item["type"] == "user":
            return item["id"]
    return None
