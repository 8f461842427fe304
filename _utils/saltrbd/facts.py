"""Facts as a state sees them: what earlier states of the same dry run planned comes before what the cluster says."""

from saltrbd import spec as specs


def images(info, known, wanted, **more):
    """Return {image spec: facts or None} for the image specs ``wanted``.

    ``info`` is the execution function ``rbd_image.info``; ``known`` is from ``converge.planned``; ``more`` are its
    further arguments (children, users).
    """
    ask = [spec for spec in wanted if ("image", str(spec)) not in known]
    found = info([str(spec) for spec in ask], **more) if ask else {}
    result = {}
    for spec in wanted:
        facts = known.get(("image", str(spec)), found.get(str(spec)))
        result[spec] = _with_planned(spec, facts, known) if known and facts else facts
    return result


def _with_planned(spec, facts, known):
    """Return the facts with the snapshots and clones that this dry run planned, and without those it would remove."""
    snapshots = {item["name"]: dict(item) for item in facts["snapshots"]}
    for (kind, name), planned in known.items():
        if kind != "snapshot":
            continue
        snapshot = specs.parse(name)
        if snapshot.head != spec:
            continue
        if planned is None:
            snapshots.pop(snapshot.snapshot, None)
            continue
        blank = {"name": snapshot.snapshot, "id": None, "size": facts["size"], "type": "user", "protected": False, "children": []}
        snapshots[snapshot.snapshot] = dict(snapshots.get(snapshot.snapshot, blank), **planned)
    for item in snapshots.values():
        item["children"] = _children(spec, item, known)
    facts = dict(facts, snapshots=list(snapshots.values()))
    if known.get(("device", str(spec)), True) is None:  # unmapped by then
        for kind in ("watchers", "locks"):
            facts[kind] = [item for item in facts.get(kind, ()) if not item.get("here")]
    return facts


def _children(spec, item, known):
    kept = []
    for child in item.get("children", ()):
        name = str(specs.Spec(child["pool"], child["namespace"], child["image"], ""))
        if child["trash"] or known.get(("image", name), child) is not None:
            kept.append(child)
    for (kind, name), facts in known.items():
        if kind != "image" or not facts or not facts["parent"]:
            continue
        parent, clone = facts["parent"], specs.parse(name)
        where = specs.Spec(parent["pool"], parent["namespace"], parent["image"], "")
        if where != spec or parent["snapshot"] != item["name"] or any(child["image"] == clone.image for child in kept):
            continue
        kept.append(
            {
                "pool": clone.pool,
                "namespace": clone.namespace,
                "image": clone.image,
                "id": None,
                "trash": False,
                "clone_format": facts["clone_format"],
            }
        )
    return kept


def mounted(known):
    """Return the images that this dry run would have mounted, as text."""
    return {facts["image"] for (kind, _), facts in known.items() if kind == "mount" and facts}
