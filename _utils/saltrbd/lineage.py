"""The tree of images, snapshots and clones, across pools and namespaces."""

import time

from saltrbd import size
from saltrbd.device_users import mount_points
from saltrbd.spec import Spec


def read(ceph, pools=None):
    """Return ({spec: facts}, [(pool, namespace, trash entry), ...]) of these pools, or of all of the application rbd."""
    pools = pools or ceph.call("cluster_info")["pools"]
    listed = ceph.batch([("namespace_list", {"pool": pool}) for pool in pools])
    places = [(pool, namespace) for pool, outcome in zip(pools, listed) for namespace in [""] + outcome.get()]
    where = [{"pool": pool, "namespace": namespace} for pool, namespace in places]
    names = ceph.batch([("image_list", item) for item in where])
    specs = [Spec(pool, namespace, image["name"], "") for (pool, namespace), outcome in zip(places, names) for image in outcome.get()]
    facts = ceph.batch([("image_info", spec.where()) for spec in specs])
    trashed = [
        (pool, namespace, entry)
        for (pool, namespace), outcome in zip(places, ceph.batch([("trash_list", item) for item in where]))
        for entry in outcome.get()
    ]
    # An image that went while this was read is no longer part of the tree.
    return {spec: outcome.result for spec, outcome in zip(specs, facts) if outcome.error is None}, trashed


def draw(images, trashed, mappings):
    """Return the tree as text; ``mappings`` are this host's (device.Mapping)."""
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
    return "\n".join(lines) or "There are no images."


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
