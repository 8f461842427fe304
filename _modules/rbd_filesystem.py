"""
Filesystems on Ceph RBD images that this host has mapped: make, check, mount, grow, freeze.

An image is named as ``pool[/namespace]/image``, or bare in ``ceph:pool``. No function here makes a filesystem over anything: a
device must be proven blank, and proven to be that image. Errors are subclasses of CommandExecutionError
(``saltrbd.errors``): NotMapped, NotBlank, FilesystemDamaged, Refused, Busy, FreezeFailed, CommandFailed; CommandTimeout where
the storage does not answer within ``rbd:timeout`` seconds (30 by default).
"""

from saltrbd import blank, client, device_find, errors, filesystem, freeze, fscheck, luks, mkfs, mount, mounting, settings, spec
from saltrbd.mkfs_options import desired as _desired

__virtualname__ = "rbd_filesystem"
__func_alias__ = {
    "format_": "format",
    "list_": "list",
    "mount_": "mount",
    "freeze_": "freeze",
}


def __virtual__():
    return __virtualname__


def _ceph():
    return client.get(settings.load(__opts__, __pillar__))


def _spec(name, ceph):
    return spec.parse(name, ceph.settings.pool, ceph.settings.namespace)


def _image(name, ceph):
    return spec.parse_image(name, ceph.settings.pool, ceph.settings.namespace)


def info(name, check=True, image_id=None, encryption=None):
    """
    Return what is in an image or snapshot, mapped here or not; a list of names gives {name: facts or None}.

    name
        ``pool[/namespace]/image[@snapshot]``, or a list.
    check
        False: no check of a filesystem, no proof that a device is blank; both take longer the more is there.
    image_id
        Of an image in the trash, which has no name to be found by.
    encryption
        Of an image that is not mapped: a mapping of ``format`` and ``pillar``, the place of the passphrase in the pillar, shows what lies
        behind its LUKS header.

    The facts: device, mounts, fs_type, label, uuid, size (bytes), state (mounted, clean, unclean, damaged), signature (what else is
    there), not_blank (why no filesystem may be made), mark (of a mkfs that was killed) and more. Raises ImageNotFound
    for one name.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.info rbd/rbd0001
        salt '*' rbd_filesystem.info '[rbd/rbd0001, rbd/rbd0002@snap1]' check=False
    """
    ceph, key = _ceph(), luks.key(encryption, __pillar__)
    if not isinstance(name, list):
        return filesystem.look(ceph, _spec(name, ceph), check, image_id, key=key)
    found = {}
    for item in name:
        try:
            found[item] = filesystem.look(ceph, _spec(item, ceph), check, image_id, key=key)
        except errors.ImageNotFound:
            found[item] = None
    return found


def format_(name, fs_type=None, label=None, mkfs_options=None):
    """
    Make a filesystem on a mapped image that is proven blank, and return its UUID.

    fs_type
        ``ext4`` or ``xfs``; ``ceph:fs_type`` where none is given.
    label
        At most 16 bytes for ext4, 12 for xfs.
    mkfs_options
        A list of words for mkfs, such as ``['-m', '0']``; nothing that forces.

    Raises NotBlank with the reason, NotMapped, InvalidArgument, FilesystemDamaged, CommandFailed. What a mkfs of this
    function that was killed left is made again.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.format rbd/rbd0001 xfs label=data
    """
    ceph = _ceph()
    where = _image(name, ceph)
    wanted = _desired(ceph.settings, fs_type, label, mkfs_options)
    with mounting.held(ceph, where) as (mapping, facts):  # the proof and mkfs are one step: no other run of ours comes between
        again = bool(facts["mark"]) and filesystem.remnant(filesystem.look(ceph, where, wait=False))
        if facts["signature"] and not again:
            raise errors.NotBlank("{} at {} gets no filesystem: it carries {}.".format(where, mapping.device, facts["signature"]))
        return mkfs.make(ceph, mapping, wanted, again)


def settle(name):
    """
    Take the mark of a mkfs that was not seen to end away, after a check of the filesystem. Raises FilesystemDamaged.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.settle rbd/rbd0001
    """
    ceph = _ceph()
    facts = filesystem.look(ceph, _image(name, ceph))
    if facts["state"] not in ("mounted", "clean", "unclean"):
        raise errors.FilesystemDamaged("{} holds no filesystem that passes its check. {}".format(name, facts["damage"]))
    mkfs.settle(ceph, _image(name, ceph))
    return True


def blank_proof(name):
    """
    Return None if a mapped image is proven blank, else the reason why it is not. Nothing is written.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.blank_proof rbd/rbd0001
    """
    ceph = _ceph()
    try:
        blank.prove(ceph, mounting.need(ceph, _image(name, ceph)))
    except errors.NotBlank as error:
        return str(error)
    return None


def check(name):
    """
    Check the filesystem of a mapped image that is not mounted, read-only and thoroughly: {"state", "text"}.

    state is ``clean``, ``unclean`` (a journal waits to be replayed by the next mount) or ``damaged``. Raises NotMapped, NotMounted
    where there is no filesystem, Busy while it is mounted.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.check rbd/rbd0001
    """
    ceph = _ceph()
    where = _spec(name, ceph)
    mapping, facts = mounting.need(ceph, where), filesystem.look(ceph, where, check=False)
    if facts["mounts"]:
        raise errors.Busy("{} is mounted on {}: the kernel checks it.".format(where, ", ".join(facts["mounts"])))
    if facts["fs_type"] not in ("ext4", "xfs"):
        raise errors.NotSupported("{} carries {}, which is not checked.".format(where, facts["signature"] or "no filesystem"))
    result = fscheck.check(mapping.device, facts["fs_type"], ceph.settings.progress_timeout, full=True)
    return dict(result._asdict())


def relabel(name, label):
    """
    Set the label of the filesystem of a mapped image; an empty one removes it.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.relabel rbd/rbd0001 data
    """
    ceph = _ceph()
    mounting.relabel(ceph, _image(name, ceph), label)
    return True


def grow(name):
    """
    Grow the filesystem of a mapped image to the image's size: a mounted one where the host can, an ext4 also unmounted.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.grow rbd/rbd0001
    """
    ceph = _ceph()
    mounting.grow(ceph, _image(name, ceph))
    return True


def new_uuid(name):
    """
    Give the xfs of a mapped image that is not mounted a UUID of its own, and return it. A clone has its parent's, and
    the kernel does not mount both.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.new_uuid rbd/rbd0002
    """
    ceph = _ceph()
    return mounting.new_uuid(ceph, _image(name, ceph))


def mount_point(name, image=None, users=False):
    """
    Return what is at a mount point: real, exists, folder, empty, mounted, image, link (of ``image``), fstab (its lines for it), can_grow;
    with ``users`` also which processes use an image that is mounted there.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.mount_point /mnt/test0001
    """
    ceph = _ceph()
    place = mounting.place(ceph, mount.check_point(name), _spec(image, ceph) if image else None)
    return dict(place, users=mounting.users_below(name) if place["image"] else []) if users else place


def list_():
    """
    Return what this host has mounted from images: {mount point: {"image", "device", "fs_type", "options"}}.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.list
    """
    found = {}
    for mapping in device_find.mapped_list(_ceph()):
        for one in filesystem.mounts_of(mapping.device) if mapping.device else ():
            options = one.options.split(",")
            found[one.point] = {"image": str(mapping.spec), "device": mapping.device, "fs_type": one.fs_type, "options": options}
    return found


def mount_(name, image, fs_type=None, mount_options=None):
    """
    Mount the filesystem of a mapped image or snapshot; what is mounted there already stays as it is.

    name
        The mount point, made where it is missing.
    image
        ``pool[/namespace]/image[@snapshot]``; a snapshot is mounted read-only, without replay of its journal.
    fs_type
        What must be there; anything else is refused.
    mount_options
        A list of words, or text with commas.

    Raises NotMapped, Refused with every reason, CommandFailed. fstab is not touched (see ``persist``).

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.mount /mnt/test0001 rbd/rbd0001 mount_options=noatime
    """
    ceph = _ceph()
    mounting.mount_image(ceph, _spec(image, ceph), mount.desired(name, fs_type, mount_options))
    return True


def remount(name, mount_options):
    """
    Change the options of a mounted image's filesystem.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.remount /mnt/test0001 noatime,nodev
    """
    mounting.remount(_ceph(), mount.check_point(name), mount.check_options(mount_options))
    return True


def umount(name, image=None):
    """
    Unmount an image's filesystem; True if anything was mounted. Raises Refused where it is no image or another one than ``image``,
    and Busy with the processes that use it.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.umount /mnt/test0001
    """
    ceph = _ceph()
    return mounting.unmount(ceph, mount.check_point(name), _spec(image, ceph) if image else None)


def persist(name, image, fs_type=None, mount_options=None):
    """
    Write the mount into fstab, with _netdev and nofail. Raises Refused where a line that is not this package's has the mount point.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.persist /mnt/test0001 rbd/rbd0001 ext4 noatime
    """
    ceph = _ceph()
    return mounting.persist(ceph, _spec(image, ceph), mount.desired(name, fs_type, mount_options))


def unpersist(name):
    """
    Take this package's line for a mount point out of fstab; True if there was one.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.unpersist /mnt/test0001
    """
    return mounting.unpersist(_ceph(), mount.check_point(name))


def _targets(image):
    ceph = _ceph()
    wanted = [_image(item, ceph) for item in (image if isinstance(image, list) else [image])]
    found = freeze.targets(ceph, wanted, __opts__)
    wrong = ["{} cannot be frozen: {}.".format(item, reason) for item, reason in found.items() if isinstance(reason, str)]
    if wrong:
        raise errors.FreezeFailed(" ".join(sorted(wrong)))
    return found, ceph.settings


def freeze_(image, seconds=None):
    """
    Freeze the filesystems of an image, or of a list of images, all or none, for at most ``seconds``; then they thaw by themselves.

    seconds
        ``rbd:freeze_timeout`` (15) where none is given, at most 3600.

    Returns {image: mount point}. Raises FreezeFailed where one is not mounted here, holds Salt's own files, or is frozen
    already.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.freeze rbd/rbd0001 60
        salt '*' rbd_filesystem.freeze '[rbd/rbd0001, rbd/rbd0002]'
    """
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600):
        raise errors.InvalidArgument("seconds must be a number, more than 0 and at most 3600, not {!r}.".format(seconds))
    found, chosen = _targets(image)
    freeze.freeze(found, chosen, seconds)
    return {str(item): target.mount_point for item, target in found.items()}


def thaw(image):
    """
    End what ``freeze`` began, and return the images that are thawed. What somebody else froze is not touched: FreezeFailed.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_filesystem.thaw rbd/rbd0001
    """
    return freeze.thaw(*_targets(image))
