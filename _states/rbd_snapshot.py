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

import time

from saltrbd import converge, facts, image, limits, retention, rollback, settings, snapshot
from saltrbd import spec as specs
from saltrbd.errors import InvalidArgument

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
        A list of image specs; their snapshots are made at once, with their filesystems frozen together. Where some are there already,
        the others are made, and the comment says that these are of another moment.
    consistency
        ``auto`` freezes the filesystems that this host has mounted from the images; ``filesystem`` fails where that is
        not possible; ``crash`` never freezes. The comment says which it was for each, and why one could not be frozen (somebody
        else has frozen it: only trying can tell that). A snapshot that exists is not made
        again, whatever it was.

    Of many, and of what is frozen, each is made under a name that begins with ``saltrbd_begun.``, and gets its own when all are there and
    the thaw is over. What a run that was killed leaves of such is never taken for the snapshot; it is removed when it is an hour old.

    More than ``rbd:max_snapshots`` snapshots (450) of an image are refused, from ``rbd:warn_snapshots`` (250) on it is told. All
    count, those in Ceph's trash for snapshots too. The kernel maps an image with at most 510.
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
        plan = snapshot.plan_present(wanted, found, protect, consistency, reasons, time.time())
        return converge.merge([plan, limits.snapshots(wanted, found, settings.load(__opts__, __pillar__))])

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


def rolled_back(name, images=None, discard_changes=False):
    """
    Make the image be as it was at the snapshot, byte for byte. What was written since is lost; later snapshots stay.

    name
        ``pool/image@snap``, or a snapshot's name for all of ``images``: they go back together.
    images
        A list of image specs.
    discard_changes
        Must be True where the image has changed since.

    Refused while anybody uses one of the images, on this host or elsewhere, with who it is: unmount and unmap it first. An image
    is back when it has the snapshot's size and its content: what librbd's diff since the snapshot names (the diff itself is not
    empty after a rollback) is read from both and compared. In a highstate it would take away, at each run, what was written since
    the last one: apply it once. librbd tells no progress here: the limit is 10 ms for each object of the image, and
    ``rbd:progress_timeout`` seconds (300) at least.

    .. code-block:: yaml

        the upgrade never happened:
          rbd_snapshot.rolled_back:
            - name: rbd/db@before-upgrade
            - discard_changes: True
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = snapshot.named(name, images, chosen.pool, chosen.namespace)
        image.flag(discard_changes, "discard_changes")
        found = facts.images(__salt__["rbd_image.info"], known, sorted({item.head for item in wanted}), users=True)
        return rollback.plan(wanted, found, _compared(wanted, found), discard_changes)

    same = "{} is as it was at {}.".format("The image" if images is None else "Each of the images", name)
    return converge.converge(name, __opts__["test"], look, _act, known, same)


def _compared(wanted, found):
    """Return {snapshot spec: how its image differs from it}, None for one that is missing or that this dry run would make."""
    items = {item: found[item.head] and snapshot.find(found[item.head], item.snapshot) for item in wanted}
    ask = [item for item, facts_of in items.items() if facts_of and facts_of["id"] is not None]
    ids = {str(item.head): found[item.head]["id"] for item in ask}  # an earlier state of a dry run may bring one back from the trash
    compared = __salt__["rbd_snapshot.compare"]([str(item) for item in ask], image_ids=ids) if ask else {}
    return {item: compared.get(str(item)) for item in wanted}


def retained(
    name,
    images=None,
    pool=None,
    namespace=None,
    prefix=None,
    pattern=None,
    latest=None,
    hourly=None,
    daily=None,
    weekly=None,
    monthly=None,
    yearly=None,
):
    """
    Keep of the images' snapshots what the numbers say, and remove the others.

    name
        ``pool/image``; with ``images`` or ``pool`` any text.
    images
        A list of image specs.
    pool, namespace
        All images of this pool and namespace (``ceph:namespace`` where none is given).
    prefix, pattern
        Which snapshots are governed, by their names: a beginning, or a pattern with ``*``, ``?`` and ``[...]``. One of the two
        must be declared, and no other snapshot is counted or removed. ``pattern: '*'`` governs all.
    latest
        So many of the newest stay.
    hourly, daily, weekly, monthly, yearly
        The newest snapshot of each hour (day, ...) stays, for so many hours that have a snapshot, counted from the newest backwards.

    A snapshot stays when one of the numbers keeps it; each number counts by itself. All times are UTC, weeks begin on Monday (ISO
    8601). How often it runs does not matter: what stays is the same. Never removed: a snapshot that is protected, that has clones
    (those in the trash too) or that this host has mapped; it counts, and the comment says why it stays. Snapshots of groups, of
    mirroring and in Ceph's trash for snapshots do not count.

    .. code-block:: yaml

        a fortnight of nights:
          rbd_snapshot.retained:
            - name: nightly
            - images: [rbd/a, rbd/b]
            - prefix: nightly-
            - daily: 14
            - weekly: 8
            - monthly: 12

        every snapshot of a pool:
          rbd_snapshot.retained:
            - pool: rbd
            - pattern: '*'
            - latest: 24
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        counts = retention.rules(latest=latest, hourly=hourly, daily=daily, weekly=weekly, monthly=monthly, yearly=yearly)
        governed = retention.governs(prefix, pattern)
        found = facts.images(__salt__["rbd_image.info"], known, _of(name, images, pool, namespace, chosen), children=True)
        if pool is not None:  # one that went since they were listed has no snapshots
            found = {head: image_facts for head, image_facts in found.items() if image_facts is not None}
        return retention.plan(found, governed, counts, time.time())

    return converge.converge(name, __opts__["test"], look, _act, known, "No snapshot is beyond what is kept.")


def _of(name, images, pool, namespace, chosen):
    """Return the specs of the images that are declared: a list, a pool, or the one that the name says."""
    if pool is None and namespace is not None:
        raise InvalidArgument("A namespace is declared together with a pool.")
    if images is not None and pool is not None:
        raise InvalidArgument("Declare images or pool, not both.")
    if images is not None:
        return snapshot.heads(images, chosen.pool, chosen.namespace)
    if pool is None:
        return [specs.parse_image(name, chosen.pool, chosen.namespace)]
    place = chosen.namespace if namespace is None else namespace
    return [specs.Spec(pool, place, image_name, "") for image_name in __salt__["rbd_image.list"](pool, place)]


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
