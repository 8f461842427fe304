"""
The pillar's volumes as a whole: ``salt/rbd`` declares this state where the pillar has mistakes, or declares no volume.

.. code-block:: yaml

    the pillar rbd:
      rbd_volumes.declared: []
"""

import difflib

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
        return dict(result, comment=_nothing(__pillar__))
    return dict(result, comment="The pillar declares {} image{}.".format(count, "" if count == 1 else "s"))


def _nothing(pillar):
    """Say that nothing is declared, and what may have been meant: a misspelt section is nobody's mistake to Salt."""
    if "rbd" in pillar:
        return "The pillar of this node declares no volume: rbd:volumes and rbd:clones are empty."
    said = "The pillar of this node declares no volume: it has no section rbd."
    keys = {key.lower(): key for key in pillar if isinstance(key, str)}
    near = difflib.get_close_matches("rbd", keys, n=1)
    return said + (" Its section {} is read by nobody here; write rbd where rbd is meant.".format(keys[near[0]]) if near else "")
