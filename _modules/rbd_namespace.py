"""
Namespaces of Ceph pools: list, read, create, remove.

A namespace is named as ``pool/namespace``; a bare name is one of ``ceph:pool``. Errors are subclasses of CommandExecutionError
(``saltrbd.errors``): PoolNotFound, NamespaceNotFound, NamespaceExists, Refused, PermissionDenied, CephTimeout (after
``rbd:timeout`` seconds, 30 by default).
"""

from saltrbd import client, errors, namespace, settings, spec

__virtualname__ = "rbd_namespace"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def _place(name):
    chosen = settings.load(__opts__, __pillar__)
    return client.get(chosen), spec.parse_namespace(name, chosen.pool)


def list_(pool=None):
    """
    Return the names of the namespaces of a pool (``ceph:pool`` where none is given).

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_namespace.list
    """
    return __salt__["rbd_image.namespaces"](pool)


def info(name):
    """
    Return what is in a namespace: ``images`` (names), ``trash`` (its entries, with name and id), ``groups`` (names). None where there is no
    such namespace.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_namespace.info rbd/volumes
    """
    ceph, place = _place(name)
    return ceph.call("namespace_info", pool=place.pool, namespace=place.namespace)


def create(name):
    """
    Make a namespace. Raises NamespaceExists.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_namespace.create rbd/volumes
    """
    ceph, place = _place(name)
    ceph.call("namespace_create", pool=place.pool, namespace=place.namespace)
    return True


def remove(name):
    """
    Remove an empty namespace. Raises Refused with everything that is in it: images, also in the trash, and groups; NamespaceNotFound.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_namespace.remove rbd/volumes
    """
    ceph, place = _place(name)
    refusals = namespace.plan_absent(place, info(name)).refusals
    if refusals:
        raise errors.Refused(" ".join(refusals))
    ceph.call("namespace_remove", pool=place.pool, namespace=place.namespace)
    return True
