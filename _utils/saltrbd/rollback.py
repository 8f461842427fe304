"""Going back to a snapshot as desired state: the image is as it was then, byte for byte."""

from saltrbd import image as images
from saltrbd import size, snapshot, users
from saltrbd.converge import Plan, change


def plan(wanted, facts, compared, discard=False):
    """Return the :class:`Plan` that rolls the images back to the snapshots ``wanted``.

    ``facts``: {image spec: facts with users, or None}; ``compared``: {snapshot spec: what ``rbd_snapshot.compare`` says, None for a
    snapshot that this dry run would make}; ``discard``: what was written since may go.
    """
    found, names = Plan(), []
    for spec in wanted:
        image = facts[spec.head]
        missing = _missing(spec, image)
        if missing:
            found.refusals.append(missing)
            continue
        differs = compared[spec]
        if differs is None or differs["differs_at"] is None:
            continue
        found.changes[str(spec.head)] = fields = {"content": change("changed since", "as at {}".format(spec))}
        if differs["size"] != differs["snapshot_size"]:
            fields["size"] = change(size.show(differs["size"]), size.show(differs["snapshot_size"]))
        found.refusals.extend(_refusals(spec, image, differs, discard))
        found.planned[("image", str(spec.head))] = dict(image, size=differs["snapshot_size"])
        names.append(str(spec))
    if found.refusals:
        return Plan(changes=found.changes, refusals=found.refusals)
    if names:
        found.steps.append(("rbd_snapshot.rollback", {"name": names}))
    return found


def _missing(spec, image):
    if image is None:
        return "{} does not exist, so it cannot be rolled back to {}.".format(spec.head, spec.snapshot)
    if snapshot.find(image, spec.snapshot) is None:
        return "{} does not exist, so its image cannot be rolled back to it.".format(spec)
    return None


def _refusals(spec, image, differs, discard):
    refused = []
    if not discard:
        refused.append(
            "{} has changed since {}, first at byte {}. Rolling it back loses what was written since: declare discard_changes: True "
            "for that.".format(spec.head, spec, differs["differs_at"])
        )
    return refused + in_the_way(spec, image)


def in_the_way(spec, image):
    """Return why the image cannot be rolled back now, as sentences: somebody uses it, or it is not its own master."""
    blocked = images.users(image) + images.bound(image)
    if not blocked:
        return []
    told = "{} is not rolled back to {}. In the way are: {}.{}"
    return [told.format(spec.head, spec.snapshot, "; ".join(sorted(set(blocked))), users.hints(image))]
