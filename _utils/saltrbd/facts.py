"""Facts as a state sees them: what earlier states of the same dry run planned comes before what the cluster says."""

from saltrbd import clone, fence, purge
from saltrbd import spec as specs


def images(info, known, wanted, **more):
    """Return {image spec: facts or None} for the image specs ``wanted``.

    ``info`` is the execution function ``rbd_image.info``; ``known`` is from ``converge.known``; ``more`` are its
    further arguments (children, users).
    """
    ask = [str(spec) for spec in wanted if _may_be_there(known, spec)]
    found = info(ask, **more) if ask else {}
    return {spec: _as_planned(spec, found.get(str(spec)), known) if known else found[str(spec)] for spec in wanted}


def _may_be_there(known, spec):
    """False for an image that this dry run would remove, or would make."""
    planned = known.get(("image", str(spec)), {"id": ""})
    return planned is not None and planned["id"] is not None


def _as_planned(spec, facts, known):
    """Return the facts with what this dry run would have changed: of the image, its snapshots, clones and mappings."""
    planned = known.get(("image", str(spec)), facts)
    if planned is None:
        return None
    planned = dict(planned, parent=_parent(planned["parent"], known))
    if facts is not None:  # who uses it, and what hangs on it, only the cluster tells
        kept = ("snapshots", "watchers", "locks", "group")
        planned = dict(facts, **{key: value for key, value in planned.items() if key not in kept})
    if "watchers" in planned:
        living, left = fence.living(planned["watchers"], known), fence.left(spec, planned["locks"], known)
        planned = dict(planned, watchers=living, locks=left)
    snapshots = [_snapshot(spec, item, known) for item in _with_new_ones(spec, planned, known)]
    planned = dict(planned, snapshots=[item for item in snapshots if item is not None])
    if known.get(("device", str(spec)), True) is None:  # unmapped by then
        for kind in ("watchers", "locks"):
            planned[kind] = [item for item in planned.get(kind, ()) if not item.get("here")]
        planned["devices"] = []
    elif known.get(("device", str(spec))):
        planned["devices"] = ["the device that an earlier state maps"]
    return planned


def _parent(parent, known):
    """Return what a clone says of its parent, when this dry run would have renamed that."""
    if not parent:
        return parent
    renamed = known.get(("renamed", str(specs.Spec(parent["pool"], parent["namespace"], parent["image"], ""))))
    return dict(parent, image=renamed["to"]) if renamed else parent


def _with_new_ones(spec, facts, known):
    items = {item["name"]: item for item in facts["snapshots"]}
    for (kind, name), planned in known.items():
        head, _, snapshot = name.partition("@")
        if kind != "snapshot" or head != str(spec):
            continue
        if planned is None:
            items.pop(snapshot, None)
            continue
        blank = {"name": snapshot, "id": None, "size": facts["size"], "type": "user", "protected": False, "children": []}
        made = planned.get("id", True) is None
        items[snapshot] = dict(blank if made else items.get(snapshot, blank), **planned)
    return items.values()


def _snapshot(spec, item, known):
    """Return the snapshot's facts with its clones; None for one in Ceph's trash whose last clone would be gone."""
    children = _children(spec, item, known)
    if item["type"] == "trash" and item.get("children") and not children:
        return None
    item = dict(item, children=children)
    if known.get(("device", "{}@{}".format(spec, item["name"])), True) is None:
        item["devices"] = []
    return item


def _children(spec, item, known):
    kept = [_child(child, known) for child in item.get("children", ())]
    kept = [child for child in kept if child is not None]
    for (kind, name), facts in known.items():
        # Clones that are on the cluster are among the children already.
        entry = facts["facts"] if facts and kind == "trash" else facts
        if kind not in ("image", "trash") or not entry or entry["id"] is not None or not entry["parent"]:
            continue
        parent, clone = entry["parent"], specs.parse(name)
        if specs.Spec(parent["pool"], parent["namespace"], parent["image"], parent["snapshot"]) == spec._replace(snapshot=item["name"]):
            kept.append(dict(clone.where(), id=None, trash=kind == "trash", clone_format=entry["clone_format"]))
    return kept


def _child(child, known):
    """Return a clone's facts as this dry run would leave it, None where it would be gone."""
    name = str(specs.Spec(child["pool"], child["namespace"], child["image"], ""))
    renamed = known.get(("renamed", name))
    if renamed and not child["trash"]:
        return _child(dict(child, image=renamed["to"]), known)
    planned = known.get(("image", name), child)
    if purge.purged(known, specs.Spec(child["pool"], child["namespace"], "", ""), {"id": child["id"]}):
        return None
    if planned and planned["id"] == child["id"] and planned.get("parent", True) is None and clone.lets_go(planned):
        return None  # flattened by then
    if child["trash"] or (planned and planned["id"] == child["id"]):
        return child
    trashed = known.get(("trash", name))
    return dict(child, trash=True) if trashed and trashed["id"] == child["id"] else None


def trashed(entries, known, spec):
    """Return the trash's entries of an image's name, with what this dry run would have moved there.

    ``entries`` is the execution function ``rbd_image.trashed``.
    """
    planned = known.get(("trash", str(spec)))
    found = entries(str(spec)) + ([planned] if planned else [])
    place = spec._replace(image="")
    return [entry for entry in found if not purge.purged(known, place, entry)]


def trash(entries, known, place):
    """Return the trash's entries of a place, as this dry run would leave them. ``place`` is a spec without an image.

    ``entries`` are from ``rbd_image.trash_list``, with facts or without.
    """
    restored = {facts["id"] for (kind, _), facts in known.items() if kind == "image" and facts and facts["id"]}
    found = [entry for entry in entries if entry["id"] not in restored]
    for (kind, name), entry in known.items():
        if kind == "trash" and entry and specs.parse(name)._replace(image="") == place:
            found.append(entry)
    return [_trashed(entry, known, place) for entry in found if not purge.purged(known, place, entry)]


def _trashed(entry, known, place):
    if not entry.get("facts"):
        return entry
    spec = place._replace(image=entry["name"])
    snapshots = [_snapshot(spec, item, known) for item in entry["facts"]["snapshots"]]
    return dict(entry, facts=dict(entry["facts"], snapshots=[item for item in snapshots if item is not None]))


def namespaces(listed, known, pool):
    """Return the names of a pool's namespaces as this dry run would leave them. ``listed`` is ``rbd_image.namespaces``."""
    found = set(listed(pool))
    for (kind, name), content in known.items():
        place = specs.parse_place(name) if kind == "namespace" else None
        if place and place.pool == pool:
            (found.discard if content is None else found.add)(place.namespace)
    return sorted(found)


def mounted(known):
    """Return the images that this dry run would have mounted, as text."""
    return {facts["image"] for (kind, _), facts in known.items() if kind == "mount" and facts}
