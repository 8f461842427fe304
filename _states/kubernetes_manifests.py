"""
Kubernetes manifests for the volumes of the pillar, as files in a folder: Secret, classes, for each volume a PersistentVolume and its claim,
and Pods.

.. code-block:: yaml

    /etc/kubernetes/rbd:
      kubernetes_manifests.present: []

What stands in the files says the pillar: ``kubernetes:``, with the volumes of ``rbd:`` and the cluster of ``ceph:``. Nothing is sent to
Kubernetes: ``kubectl apply -f`` takes the folder.
"""

from saltrbd import converge

__virtualname__ = "kubernetes_manifests"


def __virtual__():
    if "kubernetes_manifests.diff" not in __salt__:
        return False, (
            "The execution module kubernetes_manifests is not loaded. Sync it with saltutil.sync_all; it needs kubernetes-validate in"
            " Salt's own Python (salt_environment:packages, salt-pip, or that Python's pip)."
        )
    return __virtualname__


def present(name):
    """
    Make the folder hold a file for each object that the pillar declares. Files of ours that are not declared any more are removed; those of
    others are never touched.

    name
        Path of the folder, of its own: only root can read it (0700), and the files with a secret in it (0600).

    Refused, in the dry run too, with every reason: mistakes of the pillar, a volume that the driver cannot serve, objects that do not fit
    the published schemas; a file of somebody else's where one of ours belongs; a file of ours that is not declared any more and was changed
    since. A declared one that was changed is written anew.

    Changes are by file and field. Values of the Secret and of environments are not shown.

    .. code-block:: yaml

        /srv/manifests/rbd:
          kubernetes_manifests.present: []
    """
    known = converge.known(globals())

    def look():
        return _plan(__salt__["kubernetes_manifests.diff"](name), "write", name)

    return converge.converge(name, __opts__["test"], look, _act, known, "The manifests in {} are as declared.".format(name))


def absent(name):
    """
    Make the manifests that Salt wrote into a folder be gone, and the folder where nothing else is in it. What Kubernetes has of them stays
    there.

    name
        Path of the folder.

    .. code-block:: yaml

        /srv/manifests/rbd:
          kubernetes_manifests.absent: []
    """
    known = converge.known(globals())

    def look():
        return _plan(__salt__["kubernetes_manifests.diff_absent"](name), "remove", name)

    return converge.converge(name, __opts__["test"], look, _act, known, "No manifests of Salt's are in {}.".format(name))


def _plan(changes, function, folder):
    if not changes:
        return converge.Plan()
    return converge.Plan(steps=[("kubernetes_manifests." + function, {"folder": folder})], changes=changes)


def _act(function, arguments):
    __salt__[function](**arguments)
