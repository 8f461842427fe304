"""
Ceph RBD images as block devices of this host: map, unmap, list, who uses them.

Three drivers: ``krbd`` (the kernel's own rbd), ``nbd`` (rbd-nbd), ``fuse`` (qemu-storage-daemon and a loop device, for containers
and kernels without the other two). ``auto`` takes the first that this host can; ``rbd:driver`` in the pillar sets another default.

A writable mapping is exclusive: a lock on the image names the host that has it, and every other host is refused. It is given
back by ``unmap``. After a crash the lock is taken over when that is safe: by the same host after its next boot, by
another host once the dead one's watch is gone (30 s) and its address is blocklisted.
"""

from saltrbd import client, device, device_find, device_users, luks, owner, settings, spec
from saltrbd import fence as fencing
from saltrbd import users as using
from saltrbd.errors import NotMapped, Refused

__virtualname__ = "rbd_device"
__func_alias__ = {"map_": "map", "list_": "list"}


def __virtual__():
    return __virtualname__


def _ceph():
    return client.get(settings.load(__opts__, __pillar__))


def _spec(name, ceph):
    return spec.parse(name, ceph.settings.pool, ceph.settings.namespace)


def _shown(mapping):
    return {
        "device": mapping.device,
        "driver": mapping.driver,
        "read_only": mapping.read_only,
        "encryption": mapping.encryption,
        "quiesce": mapping.quiesce,
        "link": device.link_path(mapping.fsid, mapping.spec),
        "pid": mapping.pid,
        "fault": mapping.fault,
    }


def map_(name, driver=None, read_only=False, exclusive=True, options=None, persist=None, encryption=None):
    """
    Map an image or snapshot and return its device, driver, read_only and link. One that is mapped already stays as it is.

    name
        ``pool[/namespace]/image[@snapshot]``; a snapshot is mapped read-only.
    driver
        auto, krbd, nbd or fuse; ``rbd:driver`` (auto) where none is given.
    read_only
        True: the device cannot be written, and no lock is taken.
    exclusive
        False: other hosts may map and write the image at the same time, which destroys every filesystem that is not
        made for it (GFS2, OCFS2).
    options
        Of the driver, as a mapping or a list of words: krbd's map options (``queue_depth: 256``), rbd-nbd's (``io-timeout: 60``;
        ``quiesce: False`` maps without Ceph's quiesce hook), fuse's ``discard`` (unmap, ignore) and ``detect-zeroes`` (off, on, unmap). The
        driver must be named then.
    persist
        True: systemd maps it at boot, before and without Salt, by the unit ``rbd-volume@POOL:IMAGE:HASH.service``. False: it does not any
        more. None leaves that as it is.
    encryption
        A mapping of ``format`` (luks1, luks2) and ``pillar``, the place of the passphrase in the pillar: the device shows what lies
        behind the image's LUKS header. The passphrase is not kept on this host, so ``persist`` cannot be True.

    Raises ImageNotFound, SnapshotNotFound; Busy, naming who has the image by host and address; NotSupported where no driver can map it;
    Refused where it is mapped otherwise, or carries no such LUKS header; WrongPassphrase; StaleMapping;
    CommandFailed; CommandTimeout after ``rbd:timeout`` seconds.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.map rbd/rbd0001
        salt '*' rbd_device.map rbd/rbd0001@snap1 driver=fuse
    """
    ceph = _ceph()
    return _shown(
        device.map_image(ceph, _spec(name, ceph), driver, read_only, exclusive, options, persist, key=luks.key(encryption, __pillar__))
    )


def unmap(name):
    """
    Unmap an image or snapshot and give its lock back, and do not map it at boot any more; returns False if nothing was there. What a
    dead daemon left is cleared away too.

    Raises Busy, naming mount points (of every mount namespace), swap, devices on top and processes.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.unmap rbd/rbd0001
    """
    ceph = _ceph()
    return device.unmap(ceph, _spec(name, ceph))


def list_():
    """
    Return what this host has mapped of the cluster: {"pool/image@snap": {"device", "driver", "read_only", "encryption", "quiesce",
    "link", "pid", "fault"}}.

    ``quiesce`` is the path of the hook that freezes the filesystem for snapshots that others make, empty for a writable device of nbd
    without one, None where there can be none (krbd, fuse, read-only). ``fault`` is None, or why a device is of no use: its daemon is dead,
    or its image was removed since, or a run that was cut off left it without its LUKS header opened, or that the Ceph user may not
    read the image, so that nothing more is known of it.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.list
    """
    return {str(mapping.spec): _shown(mapping) for mapping in device.mapped_list(_ceph())}


def info(name):
    """
    Return one mapping as ``list`` shows it, with ``size`` in bytes. Raises NotMapped.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.info rbd/rbd0001
    """
    ceph = _ceph()
    wanted = _spec(name, ceph)
    mapping = device_find.find(ceph, wanted)
    if mapping is None:
        raise NotMapped("{} is not mapped on this host.".format(wanted))
    return dict(_shown(mapping), size=device.size_of(mapping.device) if mapping.device else None)


def users(name):
    """
    Return who uses an image: ``device``, sentences about this host's device of it; ``watchers`` and ``locks`` on any host, by address, and
    by ``host`` where its name is known (from the image's lock, this host's own addresses or /etc/hosts); ``mirrors``, the rbd-mirror
    daemons that watch it; ``owner``, the host, address and time (seconds since 1970) of the exclusive mapping, or None.

    A client that has died is a watcher for about 30 s more.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.users rbd/rbd0001
    """
    ceph = _ceph()
    wanted = _spec(name, ceph)
    image = ceph.call("image_info", wanted.head, users=True)
    mapping = device_find.find(ceph, wanted, image)
    held = owner.holder(ceph, wanted, image["id"])
    using.named(image, ceph.settings.host, held)
    return {
        "device": device_users.users(mapping) if mapping else [],
        "watchers": image["watchers"],
        "mirrors": image["mirrors"],
        "locks": image["locks"],
        "owner": {key: held.facts.get(key) for key in ("host", "address", "driver", "time")} if held else None,
    }


def refresh(name):
    """
    Let the device have the size of its image, after the image has grown, and return that size in bytes. Raises NotMapped.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.refresh rbd/rbd0001
    """
    ceph = _ceph()
    wanted = _spec(name, ceph)
    mapping = device.mapped(ceph, wanted)
    if mapping is None:
        raise NotMapped("{} is not mapped on this host.".format(wanted))
    device.refresh(ceph, mapping)
    return device.size_of(mapping.device)


def fence(name, who=None, seconds=31536000):
    """
    Lock a dead client out of the cluster, and return the addresses that were locked out now.

    name
        The client's address (``192.0.2.7:0/123456``; without a port, every client of that host), or an image whose user ``who`` is meant.
    who
        A host's name, an address or ``client.NUMBER``, as ``rbd_device.users`` shows them; needed with an image, and only then.
    seconds
        How long it stays out (a year).

    Its watch and librbd's lock go at once, and where the image is named this package's lock on it, by which ``who`` has it mapped. Raises
    Refused for an address of this host, PermissionDenied without the capability mon ``profile rbd``.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.fence 192.0.2.7:0/123456
        salt '*' rbd_device.fence rbd/rbd0001 who=db1
    """
    ceph = _ceph()
    found = fencing.look(ceph, name, who)
    plan = fencing.plan(found, own=using.own_addresses(), seconds=fencing.seconds_of(seconds))
    if plan.refusals:
        raise Refused(" ".join(plan.refusals))
    out = [address for address in found.addresses if address in plan.changes]
    for address in out:
        ceph.call("blocklist_add", address=address, seconds=seconds)
    if str(found.image) in plan.changes:
        owner.release(ceph, found.image, found.held)
    return out


def unfence(name, who=None):
    """
    Let a client into the cluster again; ``name`` and ``who`` as in ``fence``. Returns the addresses that were let in. If it lives and has
    writes to send, they come: make sure that it does not, or that nobody else has written since.

    Raises PermissionDenied without the capability mon ``allow command "osd blocklist"``; ``profile rbd`` lets only add.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.unfence 192.0.2.7:0/123456
    """
    ceph = _ceph()
    plan = fencing.plan_undone(fencing.look(ceph, name, who))
    if plan.refusals:
        raise Refused(" ".join(plan.refusals))
    for _, arguments in plan.steps:
        ceph.call("blocklist_remove", address=arguments["name"])
    return sorted(plan.changes)


def fenced():
    """
    Return {address: until when} of all clients that are locked out of the cluster.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_device.fenced
    """
    return _ceph().call("blocklist_list")
