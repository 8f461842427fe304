"""
The Ceph cluster that the pillar ``ceph`` names: whether it answers this host.

.. code-block:: yaml

    the cluster answers:
      rbd_cluster.answers:
        - require:
            - file: /etc/ceph/ceph.conf
"""

from saltrbd import client, converge, settings

__virtualname__ = "rbd_cluster"


def __virtual__():
    if "rbd_image.cluster" not in __salt__:
        return False, "The execution module rbd_image is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def answers(name):
    """
    Fail unless the cluster lets the Ceph user in and has the declared fsid. Nothing is changed, by a dry run or a real one.

    name
        Any text.

    In a dry run that would first install Ceph's client or write its configuration or keyring, the answer is not known yet.
    """
    known = converge.known(globals())

    def look():
        ceph = client.get(settings.load(__opts__, __pillar__))
        ceph.call("cluster_info")
        return converge.Plan(notes=["The cluster {} answers.".format(ceph.fsid)])

    result = converge.converge(name, __opts__["test"], look, None, known, "")
    # A look changes nothing, whatever comes of it.
    return dict(result, result=result["result"] is not False)
