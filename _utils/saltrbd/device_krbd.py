"""Mapping by the kernel's own rbd. What is mapped is read from sysfs, which names cluster, pool, namespace, image id and snapshot.

The kernel's own map option ``exclusive`` is not used: it never lets the image's lock go, so that nobody can take a snapshot of the
image or let it grow while it is mapped. Other hosts are kept out by the lock of ``owner``. Who wants it names it in ``options``.

A LUKS header is opened after the image was mapped, and closed before it is unmapped. A run that is killed in between leaves the image as it
is stored; a file of our own, ``/run/rbd-volumes/.krbd/FSID.IMAGE_ID.SNAPSHOT_ID``, which is there in the meantime, tells it from one that
was mapped so on purpose.
"""

import os
import time

from saltrbd import dmcrypt, errors, kernel
from saltrbd.loop import size_of
from saltrbd.mapping import RUN, Mapping, keep
from saltrbd.run import run, which
from saltrbd.settings import command_args
from saltrbd.spec import Spec

NAME = "krbd"
SYSFS = "/sys/bus/rbd"
BEGUN = os.path.join(RUN, ".krbd")
# The fault of what a killed run left of a mapping behind a LUKS header.
UNOPENED = "a run that was cut off left it without its LUKS header opened"
# Options that belong to arguments of ours, or carry a secret.
_OURS = ("ro", "rw", "read_only", "read_write", "secret", "key", "name", "fsid", "noudev")


def lacking():
    """Return what this host lacks for the driver as a sentence, or None."""
    if which("rbd") is None:
        return "the command rbd is not installed (Debian: ceph-common)"
    missing = kernel.lacks_module("rbd", SYSFS)
    if missing:
        return missing
    if os.path.isdir(SYSFS) and not os.access(SYSFS + "/add_single_major", os.W_OK):
        return "{} cannot be written (a container, or not root)".format(SYSFS)
    return None


def mapped_list(sysfs=SYSFS):
    """Return the :class:`Mapping` of every mapped image of this host, of any cluster and by whomever."""
    try:
        numbers = sorted(os.listdir(sysfs + "/devices"), key=lambda name: (len(name), name))
    except FileNotFoundError:
        return []
    found = [_read(os.path.join(sysfs, "devices", number), number) for number in numbers]
    return [mapping for mapping in found if mapping]


def _read(folder, number):
    pool, image = _attribute(folder, "pool"), _attribute(folder, "name")
    if not pool or not image:
        return None  # just being removed
    snapshot = _attribute(folder, "current_snap")
    snapshot = "" if snapshot == "-" else snapshot
    snapshot_id = _attribute(folder, "snap_id") if snapshot else ""
    read_only = bool(snapshot) or _attribute("/sys/block/rbd" + number, "ro") == "1"
    layer = dmcrypt.above("/dev/rbd" + number)
    found = Mapping(
        Spec(pool, _attribute(folder, "pool_ns"), image, snapshot),
        layer.device if layer else "/dev/rbd" + number,
        NAME,
        read_only,
        None,
        _attribute(folder, "cluster_fsid"),
        _attribute(folder, "image_id"),
        int(snapshot_id) if snapshot_id.isdigit() else None,
        None,
        layer.format if layer else "",
    )
    return found._replace(fault=UNOPENED) if layer is None and os.path.exists(_begun(found)) else found


def _begun(mapping):
    return os.path.join(BEGUN, "{}.{}.{}".format(mapping.fsid, mapping.image_id, mapping.snapshot_id or 0))


def _begin(mapping):
    os.makedirs(BEGUN, mode=0o700, exist_ok=True)
    keep(_begun(mapping), "")


def _end(mapping):
    try:
        os.unlink(_begun(mapping))
    except FileNotFoundError:
        pass  # it has no LUKS header to be opened


def _attribute(folder, name):
    try:
        with open(os.path.join(folder, name)) as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def attach(wanted):
    """Map the image and return the :class:`Mapping` as sysfs shows it."""
    kernel.load_module("rbd", SYSFS)
    words = [key if value is None else "{}={}".format(key, value) for key, value in wanted.options]
    if not os.path.exists("/run/udev/control"):
        words.append("noudev")  # nobody would tell that the node is there
    argv = ["rbd", "device", "map", "-t", "krbd"] + ["--read-only"] * wanted.read_only
    argv += ["-o", ",".join(words)] if words else []
    settings = wanted.ceph.settings
    _begin(wanted) if wanted.key else _end(wanted)
    try:
        device = run(argv + [str(wanted.spec)] + command_args(settings), settings.timeout).out.strip()
    except errors.CommandFailed:
        _end(wanted)
        raise
    if not any(mapping.device == device for mapping in mapped_list()):
        raise errors.NotConverged("'rbd device map' says {} for {}, but the kernel lists no such device.".format(device, wanted.spec))
    kernel.node(device)
    if wanted.key:
        # Where this fails, the caller detaches what is mapped.
        slow = max(settings.timeout, settings.progress_timeout)
        device = dmcrypt.open_(device, wanted.key, dmcrypt.name_of(wanted), wanted.read_only, slow).device
        kernel.node(device)
        _end(wanted)
    return next(mapping for mapping in mapped_list() if mapping.device == device)


def check(options):
    """Raise :class:`InvalidArgument` for an option that the driver does not take."""
    for key, _ in options:
        if key in _OURS:
            raise errors.InvalidArgument("The option {} of krbd is set by an argument of its own, or by the pillar.".format(key))


def detach(mapping, limit):
    """Unmap the device; the kernel writes back first. What dm-crypt has on top of it goes before."""
    raw = _raw(mapping)
    if mapping.encryption:
        _begin(mapping)
        dmcrypt.close(raw, limit)
    words = [] if os.path.exists("/run/udev/control") else ["-o", "noudev"]
    run(["rbd", "device", "unmap", "-t", "krbd"] + words + [raw], limit)
    _end(mapping)


def refresh(mapping, size, limit, offset=0):
    """The kernel hears of a new size by itself; one that has not yet is told to look. dm-crypt takes it when it is told."""
    raw, until = _raw(mapping), time.monotonic() + limit
    while size_of(raw) < size // 512 * 512:
        if time.monotonic() > until:
            raise errors.NotConverged("{} has {} bytes, not the image's {}.".format(raw, size_of(raw), size))
        with open("{}/devices/{}/refresh".format(SYSFS, raw[len("/dev/rbd") :]), "w") as file:
            file.write("1")
        time.sleep(0.1)
    if mapping.encryption and size_of(mapping.device) < (size - offset) // 512 * 512:
        dmcrypt.resize(raw, limit)


def _raw(mapping):
    """Return the kernel's rbd of a mapping: the device itself, or what lies below its dm-crypt."""
    if not mapping.encryption:
        return mapping.device
    for number in os.listdir(SYSFS + "/devices"):
        layer = dmcrypt.above("/dev/rbd" + number)
        if layer and layer.device == mapping.device:
            return "/dev/rbd" + number
    raise errors.NotMapped("{} lies on no device of the kernel's rbd any more.".format(mapping.device))
