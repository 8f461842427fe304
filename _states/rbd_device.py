"""
Ceph RBD images and snapshots as block devices of this host, as desired state.

.. code-block:: yaml

    the volume is a device:
      rbd_device.mapped:
        - name: rbd/rbd0001

    its snapshot can be read:
      rbd_device.mapped:
        - name: rbd/rbd0001@snap1

The device number may change from boot to boot. fstab and others name the link
``/run/rbd-volumes/FSID/POOL/[NAMESPACE@/]IMAGE[@SNAPSHOT]``, which is there while the image is mapped.
"""

from saltrbd import client, converge, device_plan, facts, fence, kernel, luks, settings, spec, users
from saltrbd.device_find import facts_of

__virtualname__ = "rbd_device"


def __virtual__():
    if "rbd_device.map" not in __salt__:
        return False, "The execution module rbd_device is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def mapped(name, driver=None, read_only=False, exclusive=True, options=None, persist=True, encryption=None):
    """
    Make the image or snapshot be a block device of this host.

    name
        ``pool[/namespace]/image[@snapshot]``. A snapshot is mapped read-only.
    driver
        ``krbd``, ``nbd``, ``fuse``, or ``auto``: the first of them that this host can. Where none is given: ``rbd:driver`` (auto).
    read_only
        True maps the image read-only; then no lock is taken.
    exclusive
        False lets other hosts map and write the image at the same time. Only for filesystems made for it (GFS2,
        OCFS2): any other one is destroyed.
    options
        Of the driver; see ``rbd_device.map``. They count when the image is mapped, a mapped one is not mapped again for them.
    persist
        True: systemd maps it again at every boot, before and without Salt, by the unit ``rbd-volume@POOL:IMAGE:HASH.service``, which
        waits up to five minutes for the cluster. False: only Salt maps it. Where systemd is not process 1 nothing does.
    encryption
        A mapping of ``format`` (luks1, luks2; luks2 where none is given) and ``pillar``, the place of the passphrase in the pillar (text
        with colons, or a list of keys): the device shows what lies behind the image's LUKS header (``rbd_encryption.formatted``; a clone
        has its parent's). The passphrase is not kept on this host, so that nothing maps it at boot: ``persist`` must be False.

    An image that is mapped by another driver, read-only instead of writable, or not exclusively is refused: declare ``unmapped`` first. An
    image that another host has mapped, or that anybody uses, is refused with host and address. A device whose daemon died
    is mapped again. A wrong passphrase is found by the dry run too. Ceph's features that the kernel cannot map are refused
    for krbd, with the command that helps.

    .. code-block:: yaml

        the database's volume:
          rbd_device.mapped:
            - name: rbd/db
            - driver: krbd
            - options: {queue_depth: 256}
    """

    def look(known):
        ceph, wanted = _where(name)
        key = luks.key(encryption, __pillar__)
        want = device_plan.desired(ceph.settings, wanted, driver, read_only, exclusive, options, persist, key)
        now = facts_of(ceph.batch([("image_info", wanted.head.where())])[0])
        image = facts.images(lambda names, **more: {names[0]: now}, known, [wanted.head])[wanted.head]
        if image and not now:
            image = dict(image, id=None)  # it is only planned: created, or brought back from the trash
        return device_plan.plan(wanted, device_plan.look(ceph, wanted, want, image, known), want, kernel.supported_features())

    return _state(name, look, "{} is mapped.".format(name))


def unmapped(name):
    """
    Make the image or snapshot not be a block device of this host. Refused while the device is mounted or open.

    .. code-block:: yaml

        the old volume:
          rbd_device.unmapped:
            - name: rbd/old
    """

    def look(known):
        ceph, wanted = _where(name)
        return device_plan.plan_unmapped(wanted, *device_plan.look_unmapped(ceph, wanted, known))

    return _state(name, look, "{} is not mapped.".format(name))


def fenced(name, who=None, seconds=31536000):
    """
    Make a dead client be locked out of the cluster, so that it can never come back with its writes. Its watch and librbd's lock go at
    once, and its image can be mapped elsewhere without a wait. This package's lock, by which a host has an image mapped, goes where the
    image is named. The Ceph user needs the capability mon ``profile rbd``.

    name
        The client's address, ``IP:PORT/NONCE`` (without a port: every client of that host), or an image.
    who
        With an image, and only then: which of its users is meant, by its host's name, its address or ``client.NUMBER``.
    seconds
        How long it stays out (a year). An address that is locked out already stays as it is.

    An address of this host is refused. Where nobody of the image's users is called so, nothing is to be done, and the comment says so.

    .. code-block:: yaml

        the host that burnt down:
          rbd_device.fenced:
            - name: rbd/db
            - who: db1.example.org
    """

    def look(known):
        ceph = client.get(settings.load(__opts__, __pillar__))
        return fence.plan(fence.look(ceph, name, who, known), own=users.own_addresses(), seconds=fence.seconds_of(seconds))

    return _state(name, look, "{} is locked out of the cluster.".format(who or name))


def unfenced(name, who=None):
    """
    Make a client not be locked out of the cluster. If it still lives and has writes to send, they come. One that is locked out is
    seldom a user of an image any more: name its address. The Ceph user needs the capability mon ``allow command "osd blocklist"`` beside
    ``profile rbd``.

    .. code-block:: yaml

        the host that was repaired:
          rbd_device.unfenced:
            - name: 192.0.2.7:0/123456
    """

    def look(known):
        ceph = client.get(settings.load(__opts__, __pillar__))
        return fence.plan_undone(fence.look(ceph, name, who, known))

    return _state(name, look, "{} is not locked out of the cluster.".format(who or name))


def _where(name):
    ceph = client.get(settings.load(__opts__, __pillar__))
    return ceph, spec.parse(name, ceph.settings.pool, ceph.settings.namespace)


def _state(name, look, same):
    known = converge.known(globals())
    return converge.converge(name, __opts__["test"], lambda: look(known), _act, known, same)


def _act(function, arguments):
    result = __salt__[function](**arguments)
    return "The device is {}, its link {}.".format(result["device"], result["link"]) if function == "rbd_device.map" else None
