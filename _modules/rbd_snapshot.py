"""
Ceph RBD snapshots: list, read, create, remove, protect, unprotect; one, or many images at once.

The monitor hands out snapshot ids once per ``paxos_propose_interval`` (1 s), so 200 snapshots one after the other take
200 s, and 200 at once take 2 s. Wherever a name is taken, a list is too.
"""

import uuid

from saltrbd import client, errors, freeze, image, settings, snapshot, spec
from saltrbd import rollback as rolling
from saltrbd.errors import FreezeFailed, ImageNotFound, Refused, SnapshotExists, SnapshotNotFound

__virtualname__ = "rbd_snapshot"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def _settings():
    return settings.load(__opts__, __pillar__)


def _specs(name, images=None):
    chosen = _settings()
    if isinstance(name, list):
        return [spec.parse_snapshot(item, chosen.pool, chosen.namespace) for item in name]
    return snapshot.named(name, images, chosen.pool, chosen.namespace)


def _all(op, wanted, **args):
    """Carry out the operation on every snapshot at once."""
    return client.get(_settings()).all([(op, dict(item.where(), **args)) for item in wanted])


def list_(image):
    """
    Return the names of an image's snapshots, oldest first.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.list rbd/rbd0001
    """
    return [item["name"] for item in __salt__["rbd_image.info"](image)["snapshots"] if item["type"] == "user"]


def info(name):
    """
    Return the facts of a snapshot: name, id, size (bytes), protected, created, children. Raises SnapshotNotFound.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.info rbd/rbd0001@snap1
    """
    wanted = _specs(name)[0]
    facts = client.get(_settings()).call("image_info", wanted.head, children=True)
    found = snapshot.find(facts, wanted.snapshot)
    if found is None:
        raise SnapshotNotFound("The snapshot {} does not exist.".format(wanted))
    return found


def create(name, images=None, protect=False, consistency="auto"):
    """
    Create snapshots, all at once and all or none, and return {spec: {"consistency", "seconds", "reason"}}. Where one fails, those
    that were made are removed again. Of many, and of what stands still, each is made under another name (``saltrbd_begun.TOKEN``), and
    gets its own when all are there, and known to be of the standstill.

    name
        ``pool/image@snap``, a list of these, or a snapshot's name for all of ``images``.
    protect
        Protect them in the same step.
    consistency
        ``filesystem``: the filesystem that this host has mounted from the image is frozen during the snapshot; raises
        FreezeFailed where that is not possible. ``auto``: freezes where it can; where somebody else has frozen the filesystem already,
        that freeze is left alone and the snapshot counts as crash-consistent. ``crash``: never freezes.

    The result says for each which it was, how many seconds its filesystem stood still, and the reason where one that is mounted
    here could not be frozen. It says ``filesystem`` only when the thaw came after the snapshot was on the image. Where the thaw came
    earlier, FreezeFailed is raised and none is left, but for a single one by ``auto``: that one counts as crash-consistent.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.create rbd/rbd0001@snap1 consistency=filesystem
        salt '*' rbd_snapshot.create snap1 images='[rbd/rbd0001, rbd/rbd0002]' protect=True
    """
    snapshot.check_consistency(consistency)
    image.flag(protect, "protect")
    wanted = _specs(name, images)
    targets, reasons = ({}, {}) if consistency == "crash" else _targets([item.head for item in wanted])
    blocked = ["{} cannot be frozen: {}.".format(head, reason) for head, reason in sorted(reasons.items()) if reason]
    if consistency == "filesystem" and blocked:
        raise FreezeFailed(" ".join(blocked))
    not_frozen = {}
    while True:
        try:
            made = _create(wanted, targets, protect, consistency)
            break
        except FreezeFailed as error:
            why = {head: error.blocked[str(head)] for head in targets if str(head) in error.blocked}
            if consistency == "filesystem" or not why:
                raise
            # Nothing was made yet, and the others can be frozen without these.
            for head, text in why.items():
                not_frozen[head] = "its filesystem on {} could not be frozen ({})".format(targets.pop(head).mount_point, text)
    for item in wanted:
        if item.head in not_frozen:
            made[str(item)]["reason"] = not_frozen[item.head]
    return made


def _create(wanted, targets, protect, consistency):
    """Create the snapshots with the ``targets`` frozen, all or none; raises FreezeFailed before anything is made."""
    staged = bool(targets) or len(wanted) > 1
    begun = [uuid.uuid4().hex[:12] if staged else None for _ in wanted]
    more = {"protect": protect, "quiesce": snapshot.quiesce(targets, consistency)}
    requests = [("snapshot_create", dict(item.where(), begun=token, **more)) for item, token in zip(wanted, begun)]
    hold, outcomes = freeze.Hold(), None
    try:
        if targets:
            with freeze.held(targets, _settings()) as hold:
                outcomes = client.get(_settings()).batch(requests)
        else:
            outcomes = client.get(_settings()).batch(requests)
    except errors.RbdError as error:
        if outcomes is None:
            raise
        raise _undone(wanted, outcomes, staged, [error])
    early = bool(targets) and not hold.intact
    if any(outcome.error is not None for outcome in outcomes) or (early and (consistency == "filesystem" or len(wanted) > 1)):
        # What was made is not of one moment with the rest, and the next run would take it for what was declared.
        raise _undone(wanted, outcomes, staged)
    if staged:
        _name(wanted, outcomes)
    return {
        str(item): {
            "consistency": "filesystem" if hold.intact and item.head in targets else "crash",
            "seconds": hold.seconds.get(item.head),
            "reason": snapshot.too_early(hold.seconds.get(item.head)) if early and item.head in targets else None,
        }
        for item in wanted
    }


def _name(wanted, outcomes):
    """Give what was begun its names, all or none."""
    requests = [("snapshot_name", dict(item.where(), snapshot_id=one.result["id"])) for item, one in zip(wanted, outcomes)]
    named = client.get(_settings()).batch(requests)
    if any(outcome.error is not None for outcome in named):
        raise _undone(wanted, outcomes, True, named=named)


def freezable(images):
    """
    Return {image: None or the reason}: which images' filesystems a freeze on this host can hold (None), and why not.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.freezable '[rbd/rbd0001]'
    """
    chosen = _settings()
    wanted = [spec.parse_image(item, chosen.pool, chosen.namespace) for item in images]
    return {str(head): reason for head, reason in _targets(wanted)[1].items()}


def _targets(images):
    """Return ({spec: target}, {spec: None or reason})."""
    found = freeze.targets(client.get(_settings()), images, __opts__)
    targets = {head: target for head, target in found.items() if not isinstance(target, str)}
    return targets, {head: target if isinstance(target, str) else None for head, target in found.items()}


def _undone(wanted, outcomes, begun, failed=(), named=()):
    """Remove the snapshots that this run has made, by their ids, and return the error to raise, with what became of each.

    One that another process has made meanwhile, or whose making had no answer, is not known to be ours: it stays. ``begun``: they were made
    under other names; ``named``: what became of the names.
    """
    failed = list(failed) + [outcome.error for outcome in [*outcomes, *named] if outcome.error is not None]
    why = (
        errors.together(failed)
        if failed
        else FreezeFailed(
            "The filesystems were thawed before every snapshot was on its image (rbd:freeze_timeout is {:g} s).".format(
                _settings().freeze_timeout
            )
        )
    )
    text = [str(why)]
    text += ["{} {}".format(item, snapshot.left(begun)) for item, one in zip(wanted, outcomes) if snapshot.may_be(item, one, begun)]
    made = sorted((item, outcome.result["id"]) for item, outcome in zip(wanted, outcomes) if outcome.error is None)
    undone = client.get(_settings()).batch([("snapshot_undo", dict(item.where(), snapshot_id=number)) for item, number in made])
    theirs = {item for item, outcome in zip(wanted, named) if isinstance(outcome.error, SnapshotExists)}
    gone = [str(item) for (item, _), outcome in zip(made, undone) if outcome.error is None and item not in theirs]
    if gone:
        text.append("These snapshots were removed again: {}.".format(", ".join(gone)))
    for (item, _), outcome in zip(made, undone):
        if outcome.error is not None and not isinstance(outcome.error, (SnapshotNotFound, ImageNotFound)):
            text.append("{} {} {}".format(item, snapshot.left(begun and not named), outcome.error))
    return type(why)(" ".join(text))


def remove(name, images=None, with_clones=False):
    """
    Remove snapshots, all at once. Raises Busy while one is protected.

    librbd itself removes a snapshot under a clone of format 2 without a word (it goes to Ceph's trash for snapshots), so
    this raises Refused, with the clones' names, unless ``with_clones`` is True.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.remove rbd/rbd0001@snap1
    """
    wanted = _specs(name, images)
    if not image.flag(with_clones, "with_clones"):
        _refuse_clones(wanted)
    _all("snapshot_remove", wanted)
    return True


def _refuse_clones(wanted):
    facts = client.get(_settings()).batch([("image_info", dict(item.head.where(), children=True)) for item in wanted])
    blocked = []
    for item, outcome in zip(wanted, facts):
        found = snapshot.find(outcome.get(), item.snapshot)
        names = sorted(image.child_name(child) for child in (found or {}).get("children", ()))
        if names:
            blocked.append("{} is not removed, because these clones hang on it: {}.".format(item, ", ".join(names)))
    if blocked:
        raise Refused(" ".join(blocked))


def protect(name, images=None):
    """
    Protect snapshots, all at once. Raises SnapshotNotFound.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.protect rbd/rbd0001@snap1
    """
    _all("snapshot_protect", _specs(name, images))
    return True


def unprotect(name, images=None):
    """
    Take the protection from snapshots, all at once. Raises Busy while clones of format 1 hang on one.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.unprotect rbd/rbd0001@snap1
    """
    _all("snapshot_unprotect", _specs(name, images))
    return True


def compare(name, images=None, image_ids=None):
    """
    Return whether images are as they were at their snapshots: {spec: {"size", "snapshot_size", "differs_at", "compared"}}.

    Sizes are in bytes; differs_at is the first byte that differs, None where none does; compared is how many bytes were read from both,
    which is what librbd's diff names. What a client that has the image open has not written out yet is not seen.
    ``image_ids`` ({"pool/image": id}) finds images in the trash. Raises SnapshotNotFound.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.compare rbd/rbd0001@snap1
    """
    wanted = _specs(name, images)
    ids = image_ids or {}
    asked = [("snapshot_compare", dict(item.where(), image_id=ids.get(str(item.head)))) for item in wanted]
    return {str(item): facts for item, facts in zip(wanted, client.get(_settings()).all(asked))}


def rollback(name, images=None):
    """
    Roll images back to their snapshots, all at once: what was written since is lost. Later snapshots stay.

    Raises Refused while anybody uses one of the images, with who it is, and Busy when somebody opens one at that moment;
    SnapshotNotFound. librbd tells no progress here: CephTimeout comes after 10 ms for each object of the image, and after
    ``rbd:progress_timeout`` seconds (300) at the soonest.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_snapshot.rollback rbd/rbd0001@snap1
    """
    wanted = _specs(name, images)
    facts = __salt__["rbd_image.info"]([str(item.head) for item in wanted], users=True)
    refused = [text for item in wanted if facts[str(item.head)] for text in rolling.in_the_way(item, facts[str(item.head)])]
    if refused:
        raise Refused(" ".join(refused))
    _all("snapshot_rollback", wanted)
    return True
