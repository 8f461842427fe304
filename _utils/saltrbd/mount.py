"""Mounts as desired state: what is at a mount point, and the plan that mounts an image's filesystem there or takes it away."""

import os
import posixpath
from collections import namedtuple

from saltrbd import errors, fstab, proc
from saltrbd.converge import Plan, change
from saltrbd.filesystem import remnant
from saltrbd.mkfs_options import FS_TYPES, check_type
from saltrbd.size import show

# A filesystem leaves a rest at the end of its device that is too small for one more group; growing by less than this is none.
GROW_SLACK = 8 << 20
CAP_SYS_RESOURCE = 24
# A snapshot, and an image that is mapped read-only: the journal cannot be replayed, and the UUID is the image's too.
_READ_ONLY = {"ext4": ("ro", "noload"), "xfs": ("ro", "norecovery", "nouuid")}
_FORBIDDEN = ("remount", "bind", "rbind", "move", "loop", "offset", "sizelimit", "make-private", "make-shared")
# What /proc shows of every mount, with the word for the opposite.
_FLAGS = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec", "nodiratime": "diratime"}
_ATIMES = ("relatime", "noatime", "strictatime")

Wanted = namedtuple("Wanted", "point fs_type options persist grow")


def desired(point, fs_type=None, mount_options=None, persist=True, grow=True):
    """Return the checked :class:`Wanted`; raises :class:`InvalidArgument`."""
    for name, value in (("persist", persist), ("grow", grow)):
        if not isinstance(value, bool):
            raise errors.InvalidArgument("{} must be True or False, not {!r}.".format(name, value))
    options = None if mount_options is None else check_options(mount_options)
    return Wanted(check_point(point), fs_type and check_type(fs_type), options, persist, grow)


def check_point(point):
    """Return the mount point if it is an absolute path in its plain form, else raise :class:`InvalidArgument`."""
    plain = isinstance(point, str) and point.startswith("/") and not point.startswith("//") and posixpath.normpath(point) == point
    if not plain or point == "/" or any(char.isspace() or not char.isprintable() for char in point):
        raise errors.InvalidArgument(
            "The mount point must be an absolute path in its plain form, below / and without white space, not {!r}.".format(point)
        )
    return point


def check_options(options):
    """Return mount options, given as a list or a comma-separated text, as a tuple of words."""
    words = options.split(",") if isinstance(options, str) and options else () if options in (None, "") else options
    if not isinstance(words, (list, tuple)):
        raise errors.InvalidArgument("mount_options must be a list of words or text with commas, not {!r}.".format(options))
    for word in words:
        if not isinstance(word, str) or not word or any(char.isspace() or char in ",\\" or not char.isprintable() for char in word):
            raise errors.InvalidArgument("mount_options: {!r} is not one option.".format(word))
        if word.partition("=")[0] in _FORBIDDEN:
            raise errors.InvalidArgument("mount_options: {} is not for a filesystem in an image.".format(word))
    return tuple(words)


def look(point):
    """Return what is at a mount point: real (its path without symbolic links), exists, folder, empty, mounted (the mount on top, or
    None), can_grow (whether a mounted ext4 may be grown by this host)."""
    top = [mount for mount in proc.mounts() if mount.point == point][-1:]
    facts = {"real": os.path.realpath(point), "exists": os.path.lexists(point), "folder": True, "empty": True}
    if not facts["exists"]:
        facts["folder"] = os.path.isdir(_ancestor(point))
    elif not top:
        facts["folder"] = os.path.isdir(point)
        facts["empty"] = not facts["folder"] or not os.listdir(point)
    facts["mounted"] = {key: getattr(top[0], key) for key in ("device", "source", "fs_type", "options", "super_options")} if top else None
    facts["can_grow"] = _capable(CAP_SYS_RESOURCE)
    return facts


def _ancestor(point):
    """Return the nearest folder above that exists."""
    while not os.path.lexists(point):
        point = os.path.dirname(point)
    return point


def _capable(number):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def expected(point, known, place):
    """Return the facts of a mount point as they will be when a state runs; ``known`` is from ``converge.known``."""
    planned = known.get(("mount", point), False)
    if planned is None:
        place.update(mounted=None, image=None)
    elif planned:
        place.update(mounted=None, image=planned["image"], taken=planned["image"])
    if ("fstab", point) in known:
        line = known["fstab", point]
        others = [entry for entry in place["fstab"] if not fstab.is_ours(entry)]
        place["fstab"] = others + ([fstab.Entry(*line)] if line else [])
    return place


def check_persist(value):
    """Return ``value`` if it is True or False, else raise :class:`InvalidArgument`."""
    if not isinstance(value, bool):
        raise errors.InvalidArgument("persist must be True or False, not {!r}.".format(value))
    return value


def words_for(facts, wanted):
    """Return the mount options for a filesystem with these facts (``filesystem.look``): the declared, and what it needs."""
    words = list(wanted.options or ())
    if facts["read_only"]:
        words += [word for word in _READ_ONLY.get(facts["fs_type"], ("ro",)) if word not in words]
    elif facts["fs_type"] == "xfs" and _inherited(facts) and "ro" in words and "nouuid" not in words:
        words.append("nouuid")  # what is only read is not changed
    return tuple(words)


def _inherited(facts):
    """A clone's xfs has its parent's UUID until it gets its own."""
    return bool(facts["parent"]) and not facts["renewed"]


def plan_mounted(spec, facts, place, wanted):
    """Return the :class:`Plan` that mounts the filesystem of ``spec`` at ``wanted.point``; pure.

    ``facts`` are from ``filesystem.expected``; ``place`` from :func:`look`, with ``link`` (the device's path for fstab), ``fstab``
    (its entries for the mount point) and ``taken`` (an image that an earlier state of a dry run would mount there, or None).
    """
    fs_type = wanted.fs_type or facts["fs_type"]
    here = _is_here(facts, place, wanted)
    refused = _refusals(spec, facts, place, wanted, here)
    if refused:
        return Plan(refusals=refused)
    words, steps, fields = words_for(facts, wanted), [], {}
    name, point = str(spec), wanted.point
    grows = _grows(facts, wanted)
    growth = ("rbd_filesystem.grow", {"name": name})
    if not here:
        if _needs_uuid(facts, words):
            fields["uuid"] = change("its parent's", "a new one")
            steps.append(("rbd_filesystem.new_uuid", {"name": name}))
        if grows and fs_type == "ext4":
            steps.append(growth)
        fields["mounted"] = change(None, name)
        fields["options"] = change(None, ",".join(words) or "defaults")
        steps.append(("rbd_filesystem.mount", {"name": point, "image": name, "fs_type": fs_type, "mount_options": list(words)}))
    elif place["mounted"] and wanted.options is not None and drift(place["mounted"], words):
        fields["options"] = change(place["mounted"]["options"], ",".join(words) or "defaults")
        steps.append(("rbd_filesystem.remount", {"name": point, "mount_options": list(words)}))
    if grows:
        fields["size"] = change(show(facts["size"]), show(facts["image_size"]))
        if growth not in steps:
            steps.append(growth)
    entry = fstab.entry_of(place["link"], point, fs_type, words) if wanted.persist else None
    _plan_fstab(place, wanted, entry, name, steps, fields)
    planned = {("mount", point): {"image": name, "fs_type": fs_type}}
    if "fstab" in fields:
        planned["fstab", point] = entry and list(entry)
    return Plan(steps, {point: fields} if fields else {}, planned=planned)


def _is_here(facts, place, wanted):
    if place["taken"]:
        return place["taken"] == facts["image"]
    return bool(place["mounted"]) and place["mounted"]["device"] == facts["device_number"] and wanted.point in facts["mounts"]


def _refusals(spec, facts, place, wanted, here):
    point = wanted.point
    if not facts["device"]:
        return ["{} is not mapped on this host; declare rbd_device.mapped before its mount.".format(spec)]
    if place["real"] != point:
        return ["The mount point {} lies under a symbolic link; declare its real path {}.".format(point, place["real"])]
    refused = []
    if not here:
        refused += _occupied(spec, place, point)
        elsewhere = [other for other in facts["mounts"] if other != point]
        if elsewhere:
            refused.append("{} is mounted on {}; unmount it there before it is mounted on {}.".format(spec, ", ".join(elsewhere), point))
    refused += _unfit(spec, facts, wanted, here)
    if wanted.persist and facts["encryption"]:
        refused.append(
            "{} is encrypted, and its passphrase is not kept on this node, so that nothing mounts it at boot: declare "
            "persist: False.".format(spec)
        )
    foreign = [entry for entry in place["fstab"] if not fstab.is_ours(entry)]
    if wanted.persist and foreign:
        refused.append(fstab.foreign_line(fstab.PATH, point, foreign[0]))
    if here and facts["fs_type"] == "ext4" and not place["can_grow"] and _grows(facts, wanted):
        refused.append(
            "{} is of {}, more than its ext4 on {}, which cannot be grown while it is mounted, because this host lacks the capability "
            "CAP_SYS_RESOURCE. Unmount it (rbd_filesystem.unmounted): the next mount grows it. Or declare grow: False.".format(
                spec, show(facts["image_size"]), point
            )
        )
    return refused


def _grows(facts, wanted):
    return bool(wanted.grow and not facts["read_only"] and facts["size"] and facts["image_size"] - facts["size"] > GROW_SLACK)


def _occupied(spec, place, point):
    if place["taken"]:
        return ["An earlier state of this run mounts {} on {}, where {} is declared.".format(place["taken"], point, spec)]
    if place["mounted"]:
        return [
            "{source} ({fs_type}) is mounted on {point}, not {spec}; unmount it first.".format(point=point, spec=spec, **place["mounted"])
        ]
    if not place["folder"]:
        return ["The mount point {} is not a folder.".format(point)]
    if not place["empty"]:
        return ["The folder {} is not empty: a mount would hide what is in it. Move it away, or declare another mount point.".format(point)]
    return []


def _unfit(spec, facts, wanted, here):
    if remnant(facts) or not facts["signature"]:
        return [
            "{} carries no filesystem{}; declare rbd_filesystem.formatted before its mount.".format(
                spec, ": its mkfs was killed" if facts["mark"] else ""
            )
        ]
    if facts["fs_type"] not in FS_TYPES:
        return ["{} carries {}, which is not mounted: this package mounts {}.".format(spec, facts["signature"], " and ".join(FS_TYPES))]
    if wanted.fs_type and facts["fs_type"] != wanted.fs_type:
        return ["{} carries {}, not {} as declared.".format(spec, facts["fs_type"], wanted.fs_type)]
    if facts["size"] and facts["size"] > facts["image_size"]:
        return [
            "{} has {}, but its {} needs {}: the image was shrunk under it. Resize it back.".format(
                spec, show(facts["image_size"]), facts["fs_type"], show(facts["size"])
            )
        ]
    words = words_for(facts, wanted)
    if not here and facts["twin"] and "nouuid" not in words and not _needs_uuid(facts, words):
        return [
            "{} has the UUID of the filesystem that is mounted on {}. Give it another one (xfs_admin -U generate {}), or declare "
            "the mount option nouuid.".format(spec, facts["twin"], facts["device"])
        ]
    return []


def _needs_uuid(facts, words):
    return facts["fs_type"] == "xfs" and _inherited(facts) and not facts["read_only"] and "nouuid" not in words


def _plan_fstab(place, wanted, entry, image, steps, fields):
    ours = [one for one in place["fstab"] if fstab.is_ours(one)]
    if ours == ([entry] if entry else []):
        return
    fields["fstab"] = change(_show(ours), entry and _show([entry]))
    if entry is None:
        steps.append(("rbd_filesystem.unpersist", {"name": wanted.point}))
        return
    arguments = {"name": wanted.point, "image": image, "fs_type": entry.fs_type, "mount_options": entry.options.split(",")}
    steps.append(("rbd_filesystem.persist", arguments))


def _show(entries):
    return "; ".join(" ".join(entry) for entry in entries) or None


def drift(mounted, words):
    """Return the options that a remount must name for ``words`` to hold, empty where they do; pure.

    Flags that the kernel shows of every mount are compared, and ``discard``. Of other options it does not show those that
    are its default, so that nothing can be told of them.
    """
    have = mounted["options"].split(",")
    filesystem = mounted["super_options"].split(",")
    found = []
    for flag, opposite in _FLAGS.items():
        wanted = _last(words, (flag, opposite)) == flag
        has = flag in have or (flag == "ro" and "ro" in filesystem)
        if wanted != has:
            found.append(flag if wanted else opposite)
    atime = _last(words, _ATIMES) or "relatime"
    if atime != (_last(have, _ATIMES) or "strictatime"):
        found.append(atime)
    discard = _last(words, ("discard", "nodiscard")) == "discard"
    if discard != ("discard" in filesystem):
        found.append("discard" if discard else "nodiscard")
    return found


def _last(words, choices):
    chosen = [word for word in words if word in choices]
    return chosen[-1] if chosen else None


def plan_unmounted(point, spec, place, persist=False):
    """Return the :class:`Plan` that leaves nothing mounted at ``point``; pure.

    ``spec`` is the image that must be what is mounted there (None: any image); ``place`` is from :func:`look`, with ``image`` (the
    name of the image whose device is mounted there, or None), ``fstab`` (its entries for the mount point), and in a dry run ``users``: who
    has files of it open now may have ended when it comes to it, by an earlier state of the run for instance.
    """
    steps, fields, planned, notes = [], {}, {("mount", point): None}, []
    if place["mounted"] and place["image"] is None:
        text = "{source} ({fs_type}) is mounted on {point}, which is no image's device.".format(point=point, **place["mounted"])
        return Plan(refusals=[text])
    if place["image"]:
        if spec and str(spec) != place["image"]:
            return Plan(refusals=["{} is mounted on {}, not {}.".format(place["image"], point, spec)])
        fields["mounted"] = change(place["image"], None)
        steps.append(("rbd_filesystem.umount", {"name": point, "image": place["image"]}))
        if place.get("users"):
            notes.append("{} cannot be unmounted from {} while it is so: {}.".format(place["image"], point, ", ".join(place["users"])))
    ours = [one for one in place["fstab"] if fstab.is_ours(one)]
    if ours and not persist:
        fields["fstab"] = change(_show(ours), None)
        steps.append(("rbd_filesystem.unpersist", {"name": point}))
        planned["fstab", point] = None
    return Plan(steps, {point: fields} if fields else {}, planned=planned, notes=notes)
