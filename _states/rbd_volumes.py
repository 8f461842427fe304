"""
The pillar's volumes as a whole: ``salt/rbd`` declares this state where the pillar has mistakes, or declares no volume.

.. code-block:: yaml

    the pillar rbd:
      rbd_volumes.declared: []
"""

__virtualname__ = "rbd_volumes"


def __virtual__():
    if "rbd_volumes.layout" not in __salt__:
        return False, "The execution module rbd_volumes is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def declared(name):
    """
    Fail with every mistake of the pillar's ``rbd:``, in a dry run too; say how many volumes it declares. Nothing is changed.

    name
        Any text.
    """
    layout = __salt__["rbd_volumes.layout"]()
    result = {"name": name, "changes": {}, "result": not layout["mistakes"], "comment": layout["mistakes"]}
    if layout["mistakes"]:
        return result
    count = len(layout["images"]) + len(layout["clones"])
    if not count:
        return dict(result, comment="The pillar of this node declares no volume: rbd:volumes and rbd:clones are empty.")
    return dict(result, comment="The pillar declares {} image{}.".format(count, "" if count == 1 else "s"))
