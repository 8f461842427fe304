"""
Ceph RBD snapshots as desired state, of one image or of many at once.

.. code-block:: yaml

    the moment before the upgrade:
      rbd_snapshot.protected:
        - name: rbd/db@before-upgrade
        - consistency: filesystem

    one snapshot on each of them, in one step:
      rbd_snapshot.present:
        - name: nightly
        - images: [rbd/a, rbd/b, rbd/c]
"""

from saltrbd import converge, facts, image, settings, snapshot

__virtualname__ = "rbd_snapshot"


def __virtual__():
    if "rbd_snapshot.create" not in __salt__:
        return False, "The execution module rbd_snapshot is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def present(name, images=None, consistency="auto"):
    """
    Make the snapshots exist. A protected one stays protected.

    name
        ``pool/image@snap``, or a snapshot's name for all of ``images``.
    images
        A list of image specs; their snapshots are made at once, with their filesystems frozen together.
    consistency
        ``auto`` freezes the filesystems that this host has mounted from the images; ``filesystem`` fails where that is
        not possible; ``crash`` never freezes. The comment says which it was for each, and why one could not be frozen (somebody
        else has frozen it: only trying can tell that). A snapshot that exists is not made
        again, whatever it was.
    """
    return _present(name, images, consistency, False)


def protected(name, images=None, consistency="auto"):
    """
    Make the snapshots exist and be protected; the arguments are those of ``present``.

    .. code-block:: yaml

        the parent of the clones:
          rbd_snapshot.protected:
            - name: rbd/golden@v1
    """
    return _present(name, images, consistency, True)


def _present(name, images, consistency, protect):
    def plan(wanted, found, known):
        reasons = {}
        if snapshot.check_consistency(consistency) == "filesystem":
            reasons = _reasons([item.head for item in wanted if found[item.head]], known)
        return snapshot.plan_present(wanted, found, protect, consistency, reasons)

    return _state(name, images, plan, "{} exists{}.".format(_what(name, images), " and is protected" if protect else ""))


def _reasons(heads, known):
    """Why each image's filesystem cannot be frozen here; what this dry run would have mounted can be."""
    planned = facts.mounted(known)
    ask = [head for head in heads if str(head) not in planned]
    reasons = __salt__["rbd_snapshot.freezable"]([str(head) for head in ask]) if ask else {}
    return {head: reasons.get(str(head)) for head in heads}


def unprotected(name, images=None):
    """
    Make the snapshots be unprotected. One that does not exist is unprotected. Refused while clones of format 1 hang on it.

    .. code-block:: yaml

        no longer a parent:
          rbd_snapshot.unprotected:
            - name: rbd/golden@v1
    """
    return _state(
        name,
        images,
        lambda wanted, found, known: snapshot.plan_unprotected(wanted, found),
        "{} is not protected.".format(_what(name, images)),
        children="formats",
    )


def absent(name, images=None, with_clones=False):
    """
    Make the snapshots be gone. Refused while one is protected, or while a clone of either format hangs on it.

    with_clones
        True: a snapshot under clones of format 2 goes to Ceph's trash for snapshots, and is gone with its last clone.

    .. code-block:: yaml

        the old moment:
          rbd_snapshot.absent:
            - name: rbd/db@before-upgrade
    """

    def plan(wanted, found, known):
        return snapshot.plan_absent(wanted, found, image.flag(with_clones, "with_clones"))

    return _state(name, images, plan, "{} is absent.".format(_what(name, images)), children=True)


def _what(name, images):
    return name if images is None else "The snapshot {} of all the images".format(name)


def _state(name, images, plan, same, **more):
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = snapshot.named(name, images, chosen.pool, chosen.namespace)
        heads = sorted({item.head for item in wanted})
        return plan(wanted, facts.images(__salt__["rbd_image.info"], known, heads, **more), known)

    return converge.converge(name, __opts__["test"], look, _act, known, same)


def _act(function, arguments):
    result = __salt__[function](**arguments)
    return snapshot.describe(result) if function == "rbd_snapshot.create" else None
