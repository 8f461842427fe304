"""Mounting, unmounting, growing: the steps that a plan names, each with its own last look before it acts."""

import os
from contextlib import contextmanager

from saltrbd import device, device_find, errors, filesystem, fstab, hostlock, launch, mount, proc, xfs_uuid
from saltrbd.mapping import ensure_link, link_path
from saltrbd.mkfs_options import check_label
from saltrbd.run import run


def place(ceph, point, spec=None):
    """Return what is at a mount point (``mount.look``), with ``fstab`` (its entries for it), ``link`` (what fstab calls the device of
    ``spec``), ``image`` (the name of the image that is mounted there, or None) and ``taken`` (None)."""
    facts = mount.look(point)
    facts.update(fstab=fstab.lines_for(fstab.read(), point), link=spec and link_path(ceph.fsid, spec), image=None, taken=None)
    if facts["mounted"]:
        facts["image"] = _image_at(facts["mounted"]["device"])
    return facts


def _image_at(number):
    """Return the name of the image whose device has this number; its daemon may be dead."""
    for mapping in device_find.on_host():
        if mapping.device and os.path.exists(mapping.device) and filesystem.device_number(mapping.device) == number:
            return str(mapping.spec)
    return None


def need(ceph, spec, wait=True):
    """Return the :class:`Mapping` of an image; raises :class:`NotMapped` where it has no device here."""
    mapping = device_find.mapped(ceph, spec, wait)
    if mapping is None:
        raise errors.NotMapped("{} is not mapped on this host; map it first (rbd_device.map).".format(spec))
    return mapping


@contextmanager
def held(ceph, spec):
    """Hold the host's lock on a mapped image, so that its device stays that image's; yield (its :class:`Mapping`, the facts of
    ``filesystem.look``). Raises :class:`NotMapped`, :class:`NotConverged` where another image got that name meanwhile."""
    image_id = ceph.call("image_info", spec.head)["id"]
    with hostlock.hold(ceph, image_id):
        mapping, facts = need(ceph, spec, wait=False), filesystem.look(ceph, spec, check=False, wait=False)
        if image_id != mapping.image_id or image_id != facts["image_id"] or mapping.device != facts["device"]:
            raise errors.NotConverged("{} became another image, or got another device, during the command; run it again.".format(spec))
        yield mapping, facts


def mount_image(ceph, spec, wanted):
    """Mount the filesystem of an image or snapshot as ``wanted`` (``mount.desired``); raises :class:`Refused` with every reason.

    What is mounted there already stays as it is. Makes the mount point where it is missing.
    """
    with held(ceph, spec) as (mapping, facts):
        _mount(ceph, spec, wanted, mapping, facts)


def _mount(ceph, spec, wanted, mapping, facts):
    plan = mount.plan_mounted(spec, facts, place(ceph, wanted.point, spec), wanted._replace(persist=False, grow=False))
    if plan.refusals:
        raise errors.Refused(" ".join(plan.refusals))
    if wanted.point in facts["mounts"]:
        return
    fs_type, words = facts["fs_type"], mount.words_for(facts, wanted)
    made = not os.path.lexists(wanted.point)
    if made:
        _make_point(wanted.point)
    ensure_link(mapping)
    # systemd unmounts what is _netdev before network and daemons end; it reads the word where mount(8) notes it.
    options = ["-o", ",".join(list(words) + ["_netdev"])]
    try:
        run(["mount", "-t", fs_type] + options + [mapping.device, wanted.point], ceph.settings.timeout, device=mapping.device)
    except errors.RbdError:
        if made:
            os.rmdir(wanted.point)
        raise
    if not any(one.point == wanted.point for one in filesystem.mounts_of(mapping.device)):
        raise errors.NotConverged("{} is not mounted on {} after mount said so.".format(spec, wanted.point))


def _make_point(point):
    try:
        os.makedirs(point)
        os.chmod(point, 0o755)  # noqa: S103 -- whatever the umask is; the filesystem's own root takes its place
    except OSError as error:
        raise errors.CommandFailed("The mount point {} cannot be made: {}.".format(point, error.strerror))


def remount(ceph, point, options):
    """Change the options of what is mounted at ``point``; what only a fresh mount can change is an error of mount."""
    facts = mount.look(point)
    if facts["mounted"] is None or _image_at(facts["mounted"]["device"]) is None:
        raise errors.NotMounted("No image is mounted on {}.".format(point))
    words = ["remount"] + list(options) + mount.drift(facts["mounted"], options) + ["_netdev"]
    run(["mount", "-o", ",".join(words), facts["mounted"]["source"], point], ceph.settings.timeout)


def unmount(ceph, point, spec=None):
    """Unmount what is mounted at ``point``, and return whether anything was; raises :class:`Refused` unless it is an image.

    ``spec``: it must be this one. Raises :class:`Busy`, naming the processes that have files of it open.
    """
    facts = place(ceph, point)
    plan = mount.plan_unmounted(point, spec, facts, persist=True)
    if plan.refusals:
        raise errors.Refused(" ".join(plan.refusals))
    if not plan.steps:
        return False
    source = facts["mounted"]["source"]
    result = run(["umount", point], ceph.settings.timeout, ok=None, device=source)
    if result.code == 0:
        return True
    users = users_below(point)
    said = " / ".join(result.err.split("\n")).strip(" /")
    if users:
        raise errors.Busy("{} cannot be unmounted from {}: {}. ({})".format(facts["image"], point, ", ".join(users), said))
    raise errors.CommandFailed("{} cannot be unmounted from {}: {}".format(facts["image"], point, said))


def users_below(point):
    """Return "pid N (NAME)" of the processes with a folder, program or open file at or below a path."""
    found = []
    for pid in proc.pids():
        folder = "/proc/{}/".format(pid)
        try:
            links = [folder + name for name in ("cwd", "root", "exe")] + [folder + "fd/" + name for name in os.listdir(folder + "fd")]
        except OSError:
            continue
        if any(_is_below(link, point) for link in links):
            argv = proc.argv_of(pid)
            found.append("pid {} ({}) uses it".format(pid, os.path.basename(argv[0]) if argv else "?"))
    return found


def _is_below(link, point):
    try:
        path = os.readlink(link)
    except OSError:
        return False
    return path == point or path.startswith(point + "/")


def persist(ceph, spec, wanted):
    """Write our line for the mount into fstab; returns whether it was another one before."""
    fs_type = wanted.fs_type or ceph.settings.fs_type
    entry = fstab.entry_of(link_path(ceph.fsid, spec), wanted.point, fs_type, wanted.options or ())
    return _reload(ceph, fstab.update(wanted.point, entry))


def unpersist(ceph, point):
    """Take our line for the mount point out of fstab; returns whether there was one."""
    return _reload(ceph, fstab.update(point, None))


def _reload(ceph, changed):
    """systemd makes its mount units from fstab when it reloads, and might undo a mount that its old ones do not know."""
    if changed and launch.has_systemd():
        run(["systemctl", "daemon-reload"], ceph.settings.timeout)
    return changed


def new_uuid(ceph, spec):
    """Give the xfs of a mapped image a UUID of its own, and return it; raises :class:`Busy` while it is mounted."""
    with held(ceph, spec) as (mapping, facts):
        if facts["fs_type"] != "xfs" or facts["read_only"]:
            raise errors.NotSupported(
                "{} carries {}, mapped {}; only a writable xfs gets a new UUID.".format(
                    spec, facts["signature"], "read-only" if facts["read_only"] else "writable"
                )
            )
        if facts["mounts"]:
            raise errors.Busy("{} is mounted on {}; its UUID cannot change now.".format(spec, ", ".join(facts["mounts"])))
        return xfs_uuid.renew(ceph, mapping)


def relabel(ceph, spec, label):
    """Set the label of the filesystem of a mapped image, mounted or not; "" removes it."""
    limit = ceph.settings.timeout
    with held(ceph, spec) as (mapping, facts):
        check_label(_known_type(spec, facts), label)
        if facts["fs_type"] == "ext4":
            run(["e2label", mapping.device, label], limit, device=mapping.device)
        elif facts["mounts"]:
            run(["xfs_io", "-c", "label -s {}".format(label) if label else "label -c", facts["mounts"][0]], limit)
        else:
            run(["xfs_admin", "-L", label or "--", mapping.device], limit, device=mapping.device)


def _known_type(spec, facts):
    if facts["fs_type"] not in ("ext4", "xfs"):
        raise errors.NotSupported("{} carries {}; only ext4 and xfs are handled.".format(spec, facts["signature"] or "nothing"))
    return facts["fs_type"]


def grow(ceph, spec):
    """Grow the filesystem of a mapped image to the image's size, an xfs only while it is mounted.

    Raises :class:`NotSupported` for a mounted ext4 where this host lacks the capability.
    """
    with held(ceph, spec) as (mapping, facts):
        _grow(ceph, spec, mapping, facts)


def _grow(ceph, spec, mapping, facts):
    kind, limit = _known_type(spec, facts), ceph.settings.progress_timeout
    if facts["device_size"] < facts["image_size"] // 512 * 512:
        device.refresh(ceph, mapping)
    if kind == "xfs":
        if not facts["mounts"]:
            raise errors.NotMounted("{} carries xfs, which grows only while it is mounted.".format(spec))
        run(["xfs_growfs", "-d", facts["mounts"][0]], limit, device=mapping.device)
        return
    if not facts["mounts"]:
        run(["e2fsck", "-f", "-p", mapping.device], limit, ok=(0, 1), device=mapping.device)
    elif not mount.look(facts["mounts"][0])["can_grow"]:
        raise errors.NotSupported("A mounted ext4 cannot be grown on this host, which lacks the capability CAP_SYS_RESOURCE.")
    run(["resize2fs", mapping.device], limit, device=mapping.device)
