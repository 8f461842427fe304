"""
Namespaces of Ceph pools as desired state.

.. code-block:: yaml

    the volumes of one tenant:
      rbd_namespace.present:
        - name: rbd/tenant

    a tenant who left:
      rbd_namespace.absent:
        - name: rbd/gone
"""

from saltrbd import converge, namespace, settings, spec

__virtualname__ = "rbd_namespace"


def __virtual__():
    if "rbd_namespace.create" not in __salt__:
        return False, "The execution module rbd_namespace is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def present(name):
    """
    Make the namespace be there.

    name
        ``pool/namespace``, or a bare name in ``ceph:pool``.
    """
    return _state(name, namespace.plan_present, "The namespace {} is there.".format(name))


def absent(name):
    """
    Make the namespace be gone. Refused, with the whole list, while anything is in it: images, what lies in its trash, groups of images.

    name
        ``pool/namespace``, or a bare name in ``ceph:pool``.
    """
    return _state(name, namespace.plan_absent, "The namespace {} is absent.".format(name))


def _state(name, plan, same):
    known = converge.known(globals())

    def look():
        place = spec.parse_namespace(name, settings.load(__opts__, __pillar__).pool)
        return plan(place, namespace.expected(__salt__["rbd_namespace.info"](str(place)), known, place))

    return converge.converge(name, __opts__["test"], look, _act, known, same)


def _act(function, arguments):
    __salt__[function](**arguments)
