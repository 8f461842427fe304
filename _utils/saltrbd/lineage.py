"""The tree of images, snapshots and clones, across pools and namespaces."""

import time

from saltrbd import clone, errors, size
from saltrbd.device_users import mount_points
from saltrbd.spec import Spec


def read(ceph, pools=None):
    """Return ({spec: facts}, [(pool, namespace, trash entry), ...], notes) of these pools, or of all of the application rbd.

    ``notes`` are sentences about what could not be read. Raises :class:`PermissionDenied` where that is every pool.
    """
    chosen, closed = ceph.settings, {}
    pools = pools or ceph.call("cluster_info")["pools"]
    within = {}
    for pool, outcome in zip(pools, ceph.batch([("namespace_list", {"pool": pool}) for pool in pools])):
        within[pool] = [chosen.namespace] if chosen.namespace and chosen.pool == pool else []
        if _opened(outcome, "the namespaces of " + pool, closed):
            within[pool] = outcome.get()
    places = [Spec(pool, namespace, "", "") for pool in pools for namespace in [""] + within[pool]]
    names = _ask(ceph, "image_list", places, "{}", closed)
    if places and not names:
        raise closed[str(places[0])]
    for pool in closed.keys() & within.keys():
        closed.pop("the namespaces of " + pool, None)  # said once
    trashed = _ask(ceph, "trash_list", list(names), "the trash of {}", closed)
    specs = [place._replace(image=image["name"]) for place, outcome in names.items() for image in outcome.get()]
    facts = _ask(ceph, "image_info", specs, "{}", closed)
    # An image that went while this was read is no longer part of the tree.
    lost = [outcome.error for outcome in facts.values() if outcome.error and not isinstance(outcome.error, errors.ImageNotFound)]
    notes = ["Not shown, because client.{} may not read it: {}.".format(chosen.user, ", ".join(closed))] if closed else []
    return (
        {spec: outcome.result for spec, outcome in facts.items() if outcome.error is None},
        [(place.pool, place.namespace, entry) for place, outcome in trashed.items() for entry in outcome.get()],
        notes + [str(error) for error in lost],
    )


def above(parents, known, source):
    """Return what a clone of the snapshot ``source`` would stand on, as words, the nearest first; what a dry run would do counts.

    ``parents`` is the execution function ``rbd_clone.parents``; ``known`` is from ``converge.known``.
    """
    found = []
    while True:
        found.append(str(source))
        planned = known.get(("image", str(source.head)))
        if planned and planned["id"] is None:
            if planned["parent"] is None:
                return found
            source = clone.parent_of(planned)
            continue
        new = known.get(("snapshot", str(source)), {"id": ""}).get("id", "") is None  # made after the flatten
        if planned and planned["parent"] is None and (new or clone.lets_go(planned)):
            return found
        for parent in parents(str(source), image_id=planned["id"] if planned else None):
            found.append(_parent_words(parent))
            planned = known.get(("image", str(clone.parent_of({"parent": parent}).head)))
            if planned and planned["id"] == parent["id"] and planned["parent"] is None and clone.lets_go(planned):
                break
        return found


def _parent_words(parent):
    words = str(clone.parent_of({"parent": parent}))
    notes = ["the image is in the trash, id {}".format(parent["id"])] if parent["image_trash"] else []
    notes += ["the snapshot is in Ceph's trash"] if parent["trash"] else []
    return "{} ({})".format(words, "; ".join(notes)) if notes else words


def _ask(ceph, op, specs, words, closed):
    """Return {spec: outcome} of those that the Ceph user may read; the others go to ``closed``, by these words."""
    outcomes = zip(specs, ceph.batch([(op, spec.where()) for spec in specs]))
    return {spec: outcome for spec, outcome in outcomes if _opened(outcome, words.format(spec), closed)}


def _opened(outcome, what, closed):
    if isinstance(outcome.error, errors.PermissionDenied):
        closed[what] = outcome.error
        return False
    return True


def draw(images, trashed, notes, mappings):
    """Return the tree as text, with the notes below; ``mappings`` are this host's (device.Mapping)."""
    here = {mapping.spec: mapping for mapping in mappings}
    gone = {(pool, namespace, entry["id"]) for pool, namespace, entry in trashed}
    clones = {}
    for spec, facts in images.items():
        if facts["parent"] and not facts["parent"]["trash"]:
            parent = facts["parent"]
            key = Spec(parent["pool"], parent["namespace"], parent["image"], parent["snapshot"]), parent["id"]
            clones.setdefault(key, []).append(spec)
    lines = []

    def add(spec, indent):
        above = "" if not images[spec]["parent"] or indent else _above(images[spec]["parent"], gone)
        lines.append("{}{}  {}{}{}".format(indent, spec, _about(images[spec]), above, _mapped(here.get(spec))))
        for item in images[spec]["snapshots"]:
            if item["type"] != "user":
                continue
            snapshot = spec._replace(snapshot=item["name"])  # whatever somebody else called it
            lines.append(
                "{}  @{}  {}{}{}".format(
                    indent,
                    item["name"],
                    size.show(item["size"]),
                    ", protected" if item["protected"] else "",
                    _mapped(here.get(snapshot)),
                )
            )
            for child in sorted(clones.get((snapshot, images[spec]["id"]), ())):
                add(child, indent + "    ")

    for spec in sorted(images):
        if not _drawn_below(images, images[spec]["parent"]):
            add(spec, "")
    lines += [_in_trash(Spec(pool, namespace, entry["name"], ""), entry) for pool, namespace, entry in trashed]
    return "\n".join((lines or ["There are no images."]) + notes)


def _drawn_below(images, parent):
    """True when the parent is part of the tree, so that the clone is drawn below it and not at the top."""
    if parent is None or parent["trash"]:
        return False
    facts = images.get(Spec(parent["pool"], parent["namespace"], parent["image"], ""))
    # Another image may have the name of a parent in the trash.
    if facts is None or facts["id"] != parent["id"]:
        return False
    return any(item["type"] == "user" and item["name"] == parent["snapshot"] for item in facts["snapshots"])


def _above(parent, gone):
    """Say of which snapshot something at the top is a clone, and what became of it."""
    spec = Spec(parent["pool"], parent["namespace"], parent["image"], parent["snapshot"])
    if (parent["pool"], parent["namespace"], parent["id"]) in gone:
        return " of {} in the trash (id {})".format(spec, parent["id"])
    return " of {}{}".format(spec, ", which was removed since" if parent["trash"] else "")


def _in_trash(spec, entry):
    times = [time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(entry[key])) for key in ("deleted", "kept_until")]
    kept = ", kept until {}".format(times[1]) if entry["kept_until"] > entry["deleted"] else ""
    return "{} in the trash  id {}, by {} at {}{}".format(spec, entry["id"], entry["source"], times[0], kept)


def _about(facts):
    parts = [size.show(facts["size"])]
    if facts["parent"]:
        parts.append("clone of format {}".format(facts["clone_format"]))
    if facts["data_pool"]:
        parts.append("data in {}".format(facts["data_pool"]))
    return ", ".join(parts)


def _mapped(mapping):
    if mapping is None:
        return ""
    if mapping.fault:
        return ", mapped by {}, but {}".format(mapping.driver, mapping.fault)
    mounts = "".join(", mounted on " + point for point, pid in mount_points(mapping.device) if pid == "self")
    return ", {} by {}{}".format(mapping.device, mapping.driver, mounts)
