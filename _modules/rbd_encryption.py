"""
LUKS encryption of Ceph RBD images: the header that librbd writes, which rbd-nbd, qemu-storage-daemon and dm-crypt open.

The passphrase stands in the pillar, encrypted by Salt's GPG renderer or in an external pillar; arguments name its place there, and it
is in no argument list, file, log, change or message. Errors are subclasses of CommandExecutionError (``saltrbd.errors``).
"""

from saltrbd import client, errors, luks, settings, spec
from saltrbd import encryption as core

__virtualname__ = "rbd_encryption"
__func_alias__ = {"format_": "format"}


def __virtual__():
    return __virtualname__


def _ceph():
    return client.get(settings.load(__opts__, __pillar__))


def _image(name, ceph):
    return spec.parse_image(name, ceph.settings.pool, ceph.settings.namespace)


def info(name, image_id=None):
    """
    Return what is known of an image's encryption: format, uuid and offset (bytes, where the data begins) of its LUKS header, mark (of
    a header that this package wrote), signature (what else it carries), not_blank (why it cannot be encrypted), user, mapped, and more.

    name
        ``pool[/namespace]/image``, or a list, which gives {name: facts or None}.
    image_id
        Of an image in the trash.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_encryption.info rbd/secret
    """
    ceph = _ceph()
    if not isinstance(name, list):
        return core.look(ceph, _image(name, ceph), image_id)
    found = {}
    for item in name:
        try:
            found[item] = core.look(ceph, _image(item, ceph), image_id)
        except errors.ImageNotFound:
            found[item] = None
    return found


def format_(name, encryption):
    """
    Write a LUKS header into a blank image that nobody uses, and return its UUID.

    encryption
        A mapping: ``format`` (luks1, luks2; luks2 where none is given) and ``pillar``, the place of the passphrase in the pillar.

    Raises Refused with every reason, NotBlank, Busy. What a format of this function that was killed left is written again.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_encryption.format rbd/secret '{format: luks2, pillar: "keys:secret"}'
    """
    ceph = _ceph()
    return core.format_image(ceph, _image(name, ceph), _key(encryption))


def opens(name, encryption):
    """
    Return True where the passphrase opens the image, False where it does not. It takes a second or two of one processor.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_encryption.opens rbd/secret '{format: luks2, pillar: "keys:secret"}'
    """
    ceph = _ceph()
    try:
        core.opens(ceph, _image(name, ceph), _key(encryption))
    except errors.WrongPassphrase:
        return False
    return True


def _key(wanted):
    found = luks.key(wanted, __pillar__)
    if found is None:
        raise errors.InvalidArgument("Name the place of the passphrase: encryption: {pillar: 'keys:volume'}.")
    return found
