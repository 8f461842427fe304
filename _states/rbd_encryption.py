"""
LUKS encryption of Ceph RBD images as desired state.

.. code-block:: yaml

    the volume is encrypted:
      rbd_encryption.formatted:
        - name: rbd/secret
        - encryption: {format: luks2, pillar: 'keys:secret'}

    its device shows what lies behind the header:
      rbd_device.mapped:
        - name: rbd/secret
        - encryption: {format: luks2, pillar: 'keys:secret'}
        - persist: False
        - require:
            - rbd_encryption: rbd/secret
"""

from saltrbd import converge, luks, settings, spec
from saltrbd import encryption as core

__virtualname__ = "rbd_encryption"


def __virtual__():
    if "rbd_encryption.info" not in __salt__:
        return False, "The execution module rbd_encryption is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def formatted(name, encryption):
    """
    Make the image carry a LUKS header. It is written only into an image that is proven blank, and that nobody uses.

    name
        ``pool[/namespace]/image``, not mapped yet.
    encryption
        A mapping: ``format`` (luks1, luks2; luks2 where none is given) and ``pillar``, where the passphrase stands in the pillar: text
        with colons, or a list of keys. The passphrase itself is never an argument.

    A header of that format stays, whoever wrote it; whether the passphrase opens it shows ``rbd_device.mapped``. An image with data of
    any kind, and a clone, is refused: a clone has its parent's header and passphrase. The header takes 16 MiB of the image (luks1: 4 MiB),
    whole objects. What a killed format of this state left is written again.

    .. code-block:: yaml

        the secret volume:
          rbd_encryption.formatted:
            - name: rbd/secret
            - encryption: {pillar: [keys, secret]}
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse_image(name, chosen.pool, chosen.namespace)
        key = luks.key(encryption, __pillar__)
        return core.plan(wanted, core.expected(wanted, known, _ask), key)

    return converge.converge(name, __opts__["test"], look, _act, known, "{} is encrypted.".format(name))


def _ask(wanted, image_id):
    return __salt__["rbd_encryption.info"]([str(wanted)], image_id=image_id)[str(wanted)]


def _act(function, arguments):
    __salt__[function](**arguments)
