"""Images as block devices of this host: mapping, unmapping, growing.

Drivers: krbd (the kernel's own), nbd (rbd-nbd and the kernel's nbd), fuse (qemu-storage-daemon and a loop device, for
kernels and containers without both). Each driver is a module ``device_krbd``, ``device_nbd``, ``device_fuse`` with the same
functions: ``lacking``, ``check``, ``mapped_list``, ``attach``, ``detach``, ``refresh``.
"""

import time
import uuid
from collections import namedtuple

from saltrbd import boot, device_users, encryption, errors, hostlock, kernel, luks, owner, users
from saltrbd.device_find import DRIVERS, facts_of, find, mapped, mapped_list, snapshot_id
from saltrbd.device_plan import desired, left_lock, look, obstacles, used
from saltrbd.loop import size_of
from saltrbd.mapping import Mapping, clear_begun, ensure_link, link_path, remove_link
from saltrbd.settings import monitors_for_people

__all__ = ["Mapping", "ensure_link", "link_path", "map_image", "mapped", "mapped_list", "refresh", "size_of", "unmap"]

# What a driver's ``attach`` gets.
Wanted = namedtuple("Wanted", "ceph spec fsid image_id snapshot_id features read_only exclusive options key", defaults=(None,))


def map_image(ceph, spec, driver=None, read_only=False, exclusive=True, options=None, persist=None, guard=None, key=None):
    """Map an image or snapshot and return its :class:`Mapping`; one that is mapped as wanted stays as it is.

    ``driver`` auto, krbd, nbd or fuse (None: ``rbd:driver``). A writable mapping is ``exclusive``: no other host can map the image
    meanwhile; with False several can, which destroys every filesystem but a cluster filesystem. ``persist`` True maps it at boot too,
    False does not any more, None leaves that as it is. ``key`` (``luks.Key``) opens its LUKS header: the device shows what lies behind.
    ``guard(device_plan.Current)`` may raise before anything is done. Raises the
    errors of :func:`obstacles`, and :class:`Busy` when another host was quicker.
    """
    want = desired(ceph.settings, spec, driver, read_only, exclusive, options, persist, key)
    image = ceph.call("image_info", spec.head)
    with hostlock.hold(ceph, image["id"]):
        current = _current(ceph, spec, want, image)
        if guard:
            guard(current)
        mapping = current.mapping
        if mapping and mapping.fault:
            DRIVERS[mapping.driver].detach(mapping, ceph.settings.timeout)
            current, mapping = _current(ceph, spec, want, image), None
        made = mapping is None
        mapping = _attach(ceph, spec, want, current) if made else _mended(ceph, spec, current)
    _at_boot(ceph, spec, want, current, made)
    return mapping


def _at_boot(ceph, spec, want, current, made):
    limit, image = ceph.settings.timeout, current.image
    if current.boot and current.unit:
        boot.enable(ceph.fsid, spec, boot.record(ceph.settings, ceph.fsid, spec, want, image["id"], snapshot_id(image, spec)), limit)
    elif current.boot:
        boot.forget(ceph.fsid, spec)
        boot.settle(ceph.fsid, spec, limit, stop=False)
    elif made and current.unit and want.persist and boot.possible():
        boot.start(ceph.fsid, spec, limit)


def _current(ceph, spec, want, image):
    current = look(ceph, spec, want, image, wait=False)
    for error in obstacles(spec, current, want, kernel.supported_features()):
        raise error
    return current


def _mended(ceph, spec, current):
    mapping, image_id, cookie = current.mapping, current.image["id"], uuid.uuid4().hex
    if "lock" in current.mend:
        watcher = _only_watcher(ceph, spec)
        owner.take(ceph, spec, image_id, current.verdict, cookie, mapping.driver)
        owner.note(ceph, spec, image_id, cookie, mapping.driver, watcher, mapping.pid)
    ensure_link(mapping)
    return mapping


def _attach(ceph, spec, want, current):
    image, module, cookie = current.image, DRIVERS[current.driver], uuid.uuid4().hex
    clear_begun()
    hold = want.exclusive and not want.read_only
    wanted = Wanted(
        *(ceph, spec, ceph.fsid, image["id"], snapshot_id(image, spec), image["features"]), want.read_only, hold, want.options, want.key
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
        if wanted.key and isinstance(error, errors.CommandFailed):
            encryption.opens(ceph, spec, wanted.key)  # raises where it was the passphrase: each tool says that in words of its own
        if isinstance(error, _NotAlone):
            raise errors.Busy(_others(ceph, spec))
        if isinstance(error, errors.CommandTimeout):
            words = "{} could not be mapped. {} Look whether the monitors run, and whether this host reaches them ({})."
            raise errors.CommandTimeout(words.format(spec, error, monitors_for_people(ceph.settings)))
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
            raise _NotAlone("{} is watched by {} clients, where only its device of this host should be.".format(spec, len(watchers)))
        time.sleep(0.1)


def _others(ceph, spec):
    watchers = users.named(ceph.call("image_users", spec.head), ceph.settings.host)["watchers"]
    return "{} came into use by {} while this host mapped it; it is unmapped here again.".format(
        spec, ", ".join(map(users.words, watchers)) or "another client"
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
        owner.release(ceph, wanted.spec, held)


def unmap(ceph, spec, keep_boot=False):
    """Unmap an image or snapshot, and give its lock back; works as well on what a dead daemon left.

    It is not mapped at boot any more either, unless ``keep_boot`` (the node only stops). Returns True if anything was
    there. Raises :class:`Busy`, naming every user of the device on this host.
    """
    image = facts_of(ceph.batch([("image_info", spec.head.where())])[0])
    mapping = find(ceph, spec, image)
    image_id = mapping.image_id if mapping else image["id"] if image else ""
    with hostlock.hold(ceph, image_id or str(spec).replace("/", "%")):
        mapping = find(ceph, spec, image, wait=False)
        if mapping:
            using = device_users.users(mapping)
            if using:
                raise used(mapping, using)
            DRIVERS[mapping.driver].detach(mapping, ceph.settings.timeout)
            remove_link(mapping)
        unit = None if keep_boot else boot.unit_of(ceph.fsid, spec)
        if unit:  # under the lock, so that a unit that is about to map the image sees it
            boot.forget(ceph.fsid, spec)
        left = left_lock(ceph, spec, image_id)
        if left:
            owner.release(ceph, spec, left)
    if unit:
        boot.settle(ceph.fsid, spec, ceph.settings.timeout, stop=True)
    return bool(mapping or left or unit)


def refresh(ceph, mapping):
    """Let the device of a mapping have the image's size of now, after the image has grown."""
    size = ceph.call("image_info", mapping.spec.head)["size"]
    DRIVERS[mapping.driver].refresh(mapping, size, ceph.settings.timeout, luks.offset_of(ceph, mapping, size))
