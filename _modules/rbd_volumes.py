"""
The pillar's volumes: checked, and laid out for the state tree ``salt/rbd``.
"""

from saltrbd import client, settings, snapshot, tree, volumes
from saltrbd.errors import ImageNotFound, PoolNotFound, RbdError

__virtualname__ = "rbd_volumes"


def __virtual__():
    return __virtualname__


def layout():
    """
    Return what the pillar's ``rbd:volumes`` and ``rbd:clones`` declare, as states with their requisites.

    The keys are namespaces, images, clones, encryption, devices, filesystems, mounts, snapshots and ``mistakes``: a text with every
    mistake of the pillar, or None. With a mistake the other keys are empty.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_volumes.layout
    """
    try:
        chosen = settings.load(__opts__, __pillar__)
        section = settings.plain(__pillar__.get("rbd") or {})
        entries = volumes.read(section, chosen, _existing, settings.unknown_keys(__pillar__))
    except RbdError as error:
        return dict(tree.layout([]), mistakes=str(error))
    return dict(tree.layout(entries, volumes.namespaces(section, chosen)), mistakes=None)


def names():
    """
    Return the names of what the pillar's ``rbd:volumes`` and ``rbd:clones`` declare, without asking the cluster.

    The keys are volumes: a list of ``pool[/namespace]/image``, and ``mistakes`` as of :py:func:`rbd_volumes.layout`.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_volumes.names
    """
    try:
        entries = volumes.read(settings.plain(__pillar__.get("rbd") or {}), settings.load(__opts__, __pillar__), set)
    except RbdError as error:
        return {"volumes": [], "mistakes": str(error)}
    return {"volumes": sorted(str(entry["spec"]) for entry in entries), "mistakes": None}


def _existing(wanted):
    """Return those of the snapshots that the cluster has."""
    outcomes = client.get(settings.load(__opts__, __pillar__)).batch([("image_info", item.head.where()) for item in wanted])
    there = set()
    for item, outcome in zip(wanted, outcomes):
        if not isinstance(outcome.error, (ImageNotFound, PoolNotFound)) and snapshot.find(outcome.get(), item.snapshot):
            there.add(item)
    return there
