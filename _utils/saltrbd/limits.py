"""How deep a clone may stand, and how many snapshots an image may have: the pillar's ``rbd:`` says, a dry run tells."""

from saltrbd.converge import Plan

# RBD_MAX_PARENT_CHAIN_LEN of the kernel's rbd; a longer chain is EINVAL at map.
KERNEL_DEPTH = 16
# RBD_MAX_SNAP_COUNT of the kernel's rbd; those in Ceph's trash for snapshots count.
KERNEL_SNAPSHOTS = 510


def depth(spec, parents, settings):
    """Return the :class:`Plan`, with refusals and notes alone, for a clone that would stand on ``parents`` (words, nearest first)."""
    chain = ", ".join(parents)
    if len(parents) > settings.max_depth:
        return Plan(
            refusals=[
                "{} would stand on {} parents, and rbd:max_depth is {} (the kernel maps {}): {}. Declare rbd_clone.flattened for one of "
                "them.".format(spec, len(parents), settings.max_depth, KERNEL_DEPTH, chain)
            ]
        )
    if len(parents) >= settings.warn_depth:
        return Plan(notes=["{} stands on {} parents ({}); {} are refused.".format(spec, len(parents), chain, settings.max_depth + 1)])
    return Plan()


def snapshots(wanted, images, settings):
    """Return the :class:`Plan`, with refusals and notes alone, for making those of the snapshots ``wanted`` that are not there.

    ``images``: {image spec: facts or None}. Every snapshot counts: of groups, of mirroring, and those in Ceph's trash.
    """
    plan = Plan()
    for spec in wanted:
        image = images[spec.head]
        if image is None or any(item["name"] == spec.snapshot and item["type"] == "user" for item in image["snapshots"]):
            continue
        count = len(image["snapshots"])
        trashed = sum(item["type"] == "trash" for item in image["snapshots"])
        told = "{} has {} snapshots".format(spec.head, count) + (", {} of them in Ceph's trash".format(trashed) if trashed else "")
        if count >= settings.max_snapshots:
            plan.refusals.append(
                "{}; {} would be one more, and rbd:max_snapshots is {} (the kernel maps {}). Declare rbd_snapshot.retained.".format(
                    told, spec, settings.max_snapshots, KERNEL_SNAPSHOTS
                )
            )
        elif count + 1 >= settings.warn_snapshots:
            plan.notes.append(
                "{}, and {} is one more; {} are refused. rbd_snapshot.retained removes old ones.".format(
                    told, spec, settings.max_snapshots + 1
                )
            )
    return plan
