"""Images as block devices of this host: which are mapped, what stands in the way, mapping, unmapping.

Drivers: krbd (the kernel's own), nbd (rbd-nbd and the kernel's nbd), fuse (qemu-storage-daemon and a loop device, for
kernels and containers without both). Each driver is a module ``device_krbd``, ``device_nbd``, ``device_fuse`` with the same
functions: ``lacking``, ``mapped_list``, ``attach``, ``detach``, ``refresh``.
"""

import fcntl
import os
import re
import time
import uuid
from collections import namedtuple
from contextlib import contextmanager

from saltrbd import device_fuse, device_krbd, device_nbd, device_users, errors, kernel, owner
from saltrbd.mapping import RUN, Mapping, ensure_link, link_path, remove_link

__all__ = ["Mapping", "ensure_link", "link_path", "map_image", "mapped", "mapped_list", "refresh", "unmap"]

DRIVERS = {module.NAME: module for module in (device_krbd, device_nbd, device_fuse)}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]*")

Desired = namedtuple("Desired", "driver read_only exclusive options")
# What a mapping could be: facts of the image (None: there is none), the mapping, the owner.Verdict on a writable one (None where
# nothing is to be held), the driver's name and what all drivers that may be taken lack, who uses a faulty device.
Current = namedtuple("Current", "image mapping verdict driver lacking users", defaults=(None, None, None, None, None, ()))
# What a driver's ``attach`` gets.
Wanted = namedtuple("Wanted", "ceph spec fsid image_id snapshot_id features read_only exclusive options")


def desired(settings, spec, driver=None, read_only=False, exclusive=True, options=None):
    """Return the checked :class:`Desired`; raises :class:`InvalidArgument`. A snapshot is always read-only."""
    driver = driver or settings.driver
    if driver not in ("auto",) + tuple(DRIVERS):
        raise errors.InvalidArgument("The driver must be auto, krbd, nbd or fuse, not {!r}.".format(driver))
    for name, value in (("read_only", read_only), ("exclusive", exclusive)):
        if not isinstance(value, bool):
            raise errors.InvalidArgument("{} must be True or False, not {!r}.".format(name, value))
    chosen = _options(options)
    if chosen and driver == "auto":
        raise errors.InvalidArgument("Options belong to one driver; name it: driver: krbd, nbd or fuse.")
    return Desired(driver, read_only or bool(spec.snapshot), exclusive, chosen)


def _options(options):
    """Return options (a mapping, or a list of words) as [(key, value or None)] of plain words."""
    if options is None:
        return []
    if hasattr(options, "items"):
        pairs = [(key, None if value is None or value is True else value) for key, value in options.items()]
    elif isinstance(options, (list, tuple)):
        pairs = [(key, value if mark else None) for key, mark, value in (str(item).partition("=") for item in options)]
    else:
        raise errors.InvalidArgument("options must be a mapping or a list of words, not {!r}.".format(options))
    chosen = []
    for key, value in pairs:
        value = value if value is None else str(value)
        if not all(word is None or _WORD.fullmatch(word) for word in (str(key), value)):
            raise errors.InvalidArgument("The option {}={} is not made of plain words (letters, digits, . _ : / + -).".format(key, value))
        chosen.append((str(key), value))
    return chosen


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


def mapped(ceph, spec):
    """Return the :class:`Mapping` of an image or snapshot on this host, or None.

    Raises :class:`StaleMapping` when the device of that name is of no use: its daemon is dead, or it belongs to an image of that
    name that was removed since.
    """
    mapping = find(ceph, spec)
    if mapping and mapping.fault:
        raise _stale(mapping)
    return mapping


def _stale(mapping):
    error = errors.StaleMapping(
        "{} is mapped{}, but {}; unmap it and map it again.".format(
            mapping.spec, " at " + mapping.device if mapping.device else "", mapping.fault
        )
    )
    error.mapping = mapping
    return error


def mapped_list(ceph):
    """Return the :class:`Mapping` of all that this host has mapped of the cluster; ``fault`` tells which are of no use."""
    local = [mapping for mapping in on_host() if mapping.fsid in (ceph.fsid, "")]
    infos = ceph.batch([("image_info", mapping.spec.head.where()) for mapping in local])
    return [_checked(mapping, _facts(info)) for mapping, info in zip(local, infos)]


def _facts(outcome):
    return None if isinstance(outcome.error, (errors.ImageNotFound, errors.PoolNotFound)) else outcome.get()


def find(ceph, spec, image=None):
    """Return the :class:`Mapping` of ``spec`` whatever its fault, or None; ``image`` are the image's facts where known."""
    local = _nearby(ceph, spec)
    if not local:
        return None
    if image is None:
        image = _facts(ceph.batch([("image_info", spec.head.where())])[0])
    found = _match(local, spec, image)
    if found and found.fault and image:
        with _host_lock(ceph, image["id"]):  # it may be in the middle of being made
            found = _match(_nearby(ceph, spec), spec, image)
    return found


def _nearby(ceph, spec):
    place = (spec.pool, spec.namespace)
    return [
        mapping for mapping in on_host() if (mapping.spec.pool, mapping.spec.namespace) == place and mapping.fsid in (ceph.fsid, "")
    ]


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


def look(ceph, spec, want, image):
    """Return the :class:`Current` of ``spec`` for a mapping as wanted; ``image`` are its facts, None where there is no image.

    An image that a dry run only plans has no id; then nothing is mapped and nobody holds it.
    """
    driver, lacking = choose_driver(want.driver)
    if image is None or image.get("id") is None:
        return Current(image, None, None, driver, lacking)
    mapping = find(ceph, spec, image)
    users = device_users.users(mapping.device) if mapping and mapping.fault and mapping.device else ()
    served = bool(mapping and not _recoverable(mapping, image))
    verdict = None
    if want.exclusive and not want.read_only:
        verdict = owner.look(ceph, spec, image["id"], served)
    elif served and not want.read_only and owner.holder(ceph, spec, image["id"]):
        verdict = owner.Verdict("{} is mapped exclusively, not with exclusive: False as declared; unmap it first.".format(spec))
    return Current(image, mapping, verdict, driver, lacking, tuple(users))


def _recoverable(mapping, image):
    """A daemon of ours that died, or got no device: what is left of it is cleared away and the image mapped again."""
    return bool(mapping.fault) and mapping.driver == device_fuse.NAME and mapping.image_id == image["id"]


def obstacles(spec, current, want, supported):
    """Return the errors that stand in the way of ``spec`` mapped as wanted, in a dry run and a real run; pure.

    ``supported`` are the features that the kernel maps.
    """
    image, mapping = current.image, current.mapping
    if image is None:
        return [errors.ImageNotFound("{} does not exist.".format(spec.head))]
    if spec.snapshot and not any(item["name"] == spec.snapshot for item in image["snapshots"]):
        return [errors.SnapshotNotFound("{} does not exist.".format(spec))]
    if mapping and mapping.fault and not _recoverable(mapping, image):
        return [_stale(mapping)]
    if mapping and mapping.fault and current.users:
        return [errors.Busy("{}; but {}.".format(str(_stale(mapping)).rstrip("."), " and ".join(current.users)))]
    found = []
    if current.verdict and current.verdict.refusal:
        found.append(errors.Busy(current.verdict.refusal))
    if mapping and not mapping.fault:
        return _differences(spec, mapping, want) + found
    if current.lacking:
        return [errors.NotSupported("{}: {}".format(spec, current.lacking))] + found
    refusal = kernel.features_refusal(spec, image["features"], supported) if current.driver == "krbd" else None
    return ([errors.NotSupported(refusal)] if refusal else []) + found


def _differences(spec, mapping, want):
    wrong = []
    if want.driver not in ("auto", mapping.driver):
        wrong.append("by {}, not by {}".format(mapping.driver, want.driver))
    if mapping.read_only != want.read_only:
        words = {True: "read-only", False: "writable"}
        wrong.append("{}, not {}".format(words[mapping.read_only], words[want.read_only]))
    if not wrong:
        return []
    return [errors.Refused("{} is mapped at {} {} as declared; unmap it first.".format(spec, mapping.device, " and ".join(wrong)))]


def map_image(ceph, spec, driver=None, read_only=False, exclusive=True, options=None):
    """Map an image or snapshot and return its :class:`Mapping`; one that is mapped as wanted stays as it is.

    ``driver`` auto, krbd, nbd or fuse (None: ``rbd:driver``). A writable mapping is ``exclusive``: no other host can map the image
    meanwhile; with False several can, which destroys every filesystem but a cluster filesystem. Raises the errors of
    :func:`obstacles`, and :class:`Busy` when another host was quicker.
    """
    want = desired(ceph.settings, spec, driver, read_only, exclusive, options)
    image = ceph.call("image_info", spec.head)
    with _host_lock(ceph, image["id"]):
        current = look(ceph, spec, want, image)
        for error in obstacles(spec, current, want, kernel.supported_features()):
            raise error
        if current.mapping and not current.mapping.fault:
            ensure_link(current.mapping)
            return current.mapping
        if current.mapping:
            _module(current.mapping).detach(current.mapping, ceph.settings.timeout)
        return _attach(ceph, spec, want, current)


def _module(mapping):
    return DRIVERS[mapping.driver]


def _attach(ceph, spec, want, current):
    image, module, cookie = current.image, DRIVERS[current.driver], uuid.uuid4().hex
    hold = want.exclusive and not want.read_only
    wanted = Wanted(
        *(ceph, spec, ceph.fsid, image["id"], snapshot_id(image, spec), image["features"]), want.read_only, hold, want.options
    )
    if hold:
        owner.take(ceph, spec, image["id"], current.verdict, cookie, current.driver)
    try:
        mapping = module.attach(wanted)
        if ceph.call("image_info", spec.head)["id"] != image["id"] or mapping.image_id != image["id"]:
            raise errors.NotConverged("{} was replaced by another image of that name while it was mapped.".format(spec))
        if hold:
            owner.note(ceph, spec, image["id"], cookie, current.driver, _only_watcher(ceph, spec), mapping.pid)
        ensure_link(mapping)
    except BaseException as error:
        _undo(ceph, wanted, module, cookie, hold)
        if isinstance(error, _NotAlone):
            raise errors.Busy(_others(ceph, spec))
        raise
    return mapping


class _NotAlone(errors.Busy):
    """Others watch the image as well; who they are shows when our own daemon is gone."""


def _only_watcher(ceph, spec):
    until = time.monotonic() + owner.PASSING
    while True:
        watchers = ceph.call("image_users", spec.head)["watchers"]
        if len(watchers) == 1:
            return watchers[0]
        if time.monotonic() > until:
            raise _NotAlone("{} is watched by {} clients.".format(spec, len(watchers)))
        time.sleep(0.1)


def _others(ceph, spec):
    watchers = ceph.call("image_users", spec.head)["watchers"]
    return "{} came into use by {} while this host mapped it; it is unmapped here again.".format(
        spec, ", ".join("{address} (client.{client})".format(**watcher) for watcher in watchers) or "another client"
    )


def _undo(ceph, wanted, module, cookie, hold):
    """Take a half-made mapping back: the device first, the lock only when no device of it is left."""
    limit = ceph.settings.timeout
    for mapping in module.mapped_list():
        if (mapping.fsid, mapping.image_id, mapping.snapshot_id) == (wanted.fsid, wanted.image_id, wanted.snapshot_id):
            module.detach(mapping, limit)
            remove_link(mapping)
    held = owner.holder(ceph, wanted.spec, wanted.image_id) if hold else None
    if held and held.cookie == cookie:
        owner.release(ceph, wanted.spec, wanted.image_id, held)


def unmap(ceph, spec):
    """Unmap an image or snapshot, and give its lock back; works as well on what a dead daemon left.

    Returns True if anything was there. Raises :class:`Busy`, naming every user of the device on this host.
    """
    mapping = find(ceph, spec)
    image = _facts(ceph.batch([("image_info", spec.head.where())])[0])
    image_id = mapping.image_id if mapping else image["id"] if image else ""
    with _host_lock(ceph, image_id or str(spec).replace("/", "%")):
        mapping = find(ceph, spec) if mapping is None else mapping
        if mapping:
            refuse_used(mapping)
            _module(mapping).detach(mapping, ceph.settings.timeout)
            remove_link(mapping)
        left = left_lock(ceph, spec, image_id)
        if left:
            owner.release(ceph, spec, image_id, left)
    return bool(mapping or left)


def refuse_used(mapping):
    """Raise :class:`Busy` when the device of a mapping is used on this host."""
    used = device_users.users(mapping.device) if mapping.device else []
    if used:
        raise errors.Busy("{} at {} cannot be unmapped: {}.".format(mapping.spec, mapping.device, " and ".join(used)))


def left_lock(ceph, spec, image_id):
    """Return the lock that this host holds on an image of which it has no writable device, or None."""
    if not image_id or spec.snapshot:
        return None
    if any(one.image_id == image_id and not one.read_only and one.fsid == ceph.fsid for one in on_host() if one.pid or not one.fault):
        return None
    held = owner.holder(ceph, spec, image_id)
    mine = owner.me(ceph.settings)
    return held if held and all(held.facts.get(key) == mine[key] for key in mine) else None


def refresh(ceph, mapping):
    """Let the device of a mapping have the image's size of now, after the image has grown."""
    size = ceph.call("image_info", mapping.spec.head)["size"]
    _module(mapping).refresh(mapping, size, ceph.settings.timeout)


@contextmanager
def _host_lock(ceph, image_id):
    """One mapping or unmapping of an image at a time on this host."""
    folder = os.path.join(RUN, ".locks")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(RUN, 0o700)
    limit = ceph.settings.timeout
    with open(os.path.join(folder, "{}.{}".format(ceph.fsid, image_id)), "w") as file:
        until = time.monotonic() + limit
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise errors.Busy("Another process of this host has been mapping or unmapping the image for {:g} s.".format(limit))
                time.sleep(0.05)
        yield
