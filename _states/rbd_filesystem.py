"""
Filesystems on Ceph RBD images, and their mounts, as desired state.

.. code-block:: yaml

    the filesystem of the volume:
      rbd_filesystem.formatted:
        - name: rbd/rbd0001
        - fs_type: ext4
        - require:
            - rbd_device: rbd/rbd0001

    /mnt/test0001:
      rbd_filesystem.mounted:
        - image: rbd/rbd0001
        - mount_options: [noatime]

    /mnt/old:
      rbd_filesystem.unmounted
"""

from saltrbd import converge, filesystem, mount, settings, spec
from saltrbd.mkfs_options import desired as _desired

__virtualname__ = "rbd_filesystem"


def __virtual__():
    if "rbd_filesystem.info" not in __salt__:
        return False, "The execution module rbd_filesystem is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def formatted(name, fs_type=None, label=None, mkfs_options=None):
    """
    Make the mapped image carry a filesystem. It is made only where the device is proven to be that image and proven blank.

    name
        ``pool[/namespace]/image``, mapped on this host for writing (``rbd_device.mapped``).
    fs_type
        ``ext4`` or ``xfs``; ``ceph:fs_type`` where none is given.
    label
        At most 16 bytes for ext4, 12 for xfs; "" for none. Without it the label is left alone.
    mkfs_options
        A list of words for mkfs, such as ``['-m', '0', '-E', 'stride=16']``. They count only when the filesystem is made. What
        forces, or names another device, is refused.

    A filesystem of that type that passes a read-only check stays; a mounted one was checked by the kernel. Everything else
    that is there (another filesystem, a partition table, LVM, LUKS, data of any kind, the data of a clone's parent, written zeros) is
    refused. An image that was discarded everywhere counts as blank. What a killed mkfs of this state left is made again.

    What only trying can tell: of an image that is not mapped yet, whether its filesystem passes the check and whether only this host
    uses it; and whether mkfs takes the values of its options.

    .. code-block:: yaml

        the data:
          rbd_filesystem.formatted:
            - name: rbd/data
            - fs_type: xfs
            - label: data
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse_image(name, chosen.pool, chosen.namespace)
        want = _desired(chosen, fs_type, label, mkfs_options)
        return filesystem.plan(wanted, filesystem.expected(wanted, known, _ask(True)), want)

    return _state(name, look, known, "{} carries its filesystem.".format(name))


def mounted(name, image, fs_type=None, mount_options=None, persist=True, grow=True):
    """
    Make the filesystem of a mapped image or snapshot be mounted.

    name
        The mount point: an absolute path without symbolic links, made where it is missing. A folder that is not empty is refused.
    image
        ``pool[/namespace]/image[@snapshot]``. A snapshot is mounted read-only, without replay of its journal.
    fs_type
        What must be there; where none is given, what is there: ext4 or xfs.
    mount_options
        A list of words, or text with commas. Where it is given, drift of ro, nosuid, nodev, noexec, noatime and its kind and discard
        is mended by a remount. Of other options the kernel does not show whether they hold.
    persist
        False for an encrypted image, whose passphrase is not kept on the host. True: a line in fstab, which names a link of
        this package's own under /run, with _netdev and nofail. False: no line.
    grow
        True: a filesystem that is smaller than its image is grown. A mounted ext4 grows only where the host has the
        capability CAP_SYS_RESOURCE.

    A clone's xfs gets a UUID of its own before its first mount, as the kernel does not mount two with one UUID; with the
    option ``nouuid`` or ``ro`` it keeps its parent's. A journal that waits to be replayed is replayed by the mount.

    What only trying can tell: whether the kernel takes the options, and whether a filesystem that no check has seen can be mounted.

    .. code-block:: yaml

        /mnt/data:
          rbd_filesystem.mounted:
            - image: rbd/data
            - fs_type: xfs
            - mount_options: [noatime, nodev]
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse(image, chosen.pool, chosen.namespace)
        want = mount.desired(name, fs_type, mount_options, persist, grow)
        facts = filesystem.expected(wanted, known, _ask(False))
        place = mount.expected(name, known, __salt__["rbd_filesystem.mount_point"](name, str(wanted)))
        return mount.plan_mounted(wanted, facts, place, want)

    return _state(name, look, known, "{} is mounted on {}.".format(image, name))


def unmounted(name, image=None, persist=False):
    """
    Make no image be mounted there. Refused where something else than an image is mounted, and while somebody uses it; a dry run names who
    does now.

    name
        The mount point.
    image
        The image that it must be; another one is refused.
    persist
        True leaves the line in fstab, so that it is mounted again at the next boot.

    .. code-block:: yaml

        /mnt/old:
          rbd_filesystem.unmounted:
            - image: rbd/old
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse(image, chosen.pool, chosen.namespace) if image else None
        mount.check_persist(persist)
        place = mount.expected(name, known, __salt__["rbd_filesystem.mount_point"](name, users=__opts__["test"]))
        return mount.plan_unmounted(name, wanted, place, persist)

    return _state(name, look, known, "No image is mounted on {}.".format(name))


def _ask(check):
    """What is in an image now; None for one that does not exist."""

    def ask(wanted, image_id, encryption):
        more = {"encryption": encryption} if encryption else {}
        return __salt__["rbd_filesystem.info"]([str(wanted)], check=check, image_id=image_id, **more)[str(wanted)]

    return ask


def _state(name, look, known, same):
    return converge.converge(name, __opts__["test"], look, _act, known, same)


def _act(function, arguments):
    __salt__[function](**arguments)
