"""Renaming an image, with all that refers to it on this host: its lines in fstab, and what maps it at boot.

Clones, snapshots, locks and the trash know an image by its id. A device does not follow: the kernel and the daemons of nbd and fuse go on
telling the old name, and systemd orders them by it at shutdown. So an image is renamed while it is not mapped.
"""

import os

from saltrbd import boot, device_find, errors, fstab, hostlock, image, users
from saltrbd.converge import Plan, change
from saltrbd.mapping import link_path


def check(old, new):
    """Raise :class:`InvalidArgument` for what librbd cannot do: it renames within a pool and namespace."""
    if old == new:
        raise errors.InvalidArgument("The old name and the new one are the same: {}.".format(old))
    if old._replace(image="") != new._replace(image=""):
        raise errors.InvalidArgument("{} cannot become {}: an image keeps its pool and namespace.".format(old, new))


def look(ceph, old, new, facts, known=()):
    """Return what refers to the image on this host; ``facts``: of the image under either name, or None; ``known``: what earlier states of a
    dry run planned.

    ``devices``: its devices, as words. ``fstab``: [(line of now, line that it becomes)], as entries; ``at_boot``: [(unit, unit)].
    """
    found = {"devices": [], "fstab": [], "at_boot": []}
    if facts is None:
        return found
    known = dict(known)
    for mapping in device_find.on_host() if facts["id"] else ():
        planned = known.get(("device", str(old._replace(snapshot=mapping.spec.snapshot))), True)
        if mapping.image_id == facts["id"] and mapping.fsid in (ceph.fsid, "") and planned is not None:
            found["devices"].append("its device {} on this host".format(mapping.device or "(without a name) of " + mapping.driver))
    for spec, moved in _names(old, new, facts):
        planned = known.get(("device", str(spec)), False)
        if planned and not found["devices"]:
            found["devices"].append("the device that an earlier state maps")
        links = link_path(ceph.fsid, spec), link_path(ceph.fsid, moved)
        units = boot.unit(links[0]), boot.unit(links[1])
        found["fstab"] += _lines(links, units, known)
        record = boot.record_of(ceph.fsid, spec)
        if record and record["image_id"] == facts["id"] and boot.possible() and planned is not None:
            found["at_boot"].append(units)
    return found


def _names(old, new, facts):
    """Return [(old name, new name)] of the image and of its snapshots."""
    names = [item["name"] for item in facts["snapshots"] if item["type"] == "user"]
    return [(old, new)] + [(old._replace(snapshot=name), new._replace(snapshot=name)) for name in names]


def _lines(links, units, known):
    entries = [entry for entry in map(fstab.parse, fstab.read().splitlines()) if entry and _planned_at(entry) not in known]
    entries += [fstab.Entry(*line) for (kind, _), line in known.items() if kind == "fstab" and line]
    found = []
    for entry in entries:
        if entry.device == links[0]:
            options = [word.replace(units[0], units[1]) if word.startswith("x-systemd.") else word for word in entry.options.split(",")]
            found.append((entry, entry._replace(device=links[1], options=",".join(options))))
    return found


def _planned_at(entry):
    return "fstab", os.path.normpath(entry.point)


def plan(old, new, was, now, here, trashed=()):
    """Return the :class:`Plan` that makes the image ``old`` be called ``new``; pure.

    ``was``, ``now``: the facts of the images that have the old and the new name, or None; ``here`` is from :func:`look`; ``trashed``: the
    trash's entries of the old name.
    """
    if was and now:
        return Plan(refusals=["{} is not renamed, because {} exists too.".format(old, new)])
    if not was and not now:
        return Plan(refusals=[_neither(old, new, trashed)])
    fields = {}
    if was:
        blocked = _in_the_way(was, here)
        if blocked:
            told = "{} is not renamed to {}. In the way are: {}.{}"
            return Plan(refusals=[told.format(old, new, "; ".join(blocked), users.hints(was))])
        fields["name"] = change(str(old), str(new))
    if here["fstab"]:
        fields["fstab"] = change(*("; ".join(" ".join(pair[at]) for pair in here["fstab"]) for at in (0, 1)))
    if here["at_boot"]:
        fields["at_boot"] = change(*("; ".join(pair[at] for pair in here["at_boot"]) for at in (0, 1)))
    if not fields:
        return Plan()
    planned = {_planned_at(entry): list(moved) for entry, moved in here["fstab"]}
    if was:
        planned.update({("image", str(old)): None, ("image", str(new)): was, ("renamed", str(old)): {"to": new.image}})
    return Plan([("rbd_image.rename", {"name": str(old), "new": str(new)})], {str(new): fields}, (), planned)


def _neither(old, new, trashed):
    text = "Neither {} nor {} exists, so nothing can be renamed.".format(old, new)
    if trashed:
        ids = ", ".join("id {}".format(entry["id"]) for entry in trashed)
        text += " An image {} lies in the trash ({}); rbd_image.restore brings it back under any name.".format(old, ids)
    return text


def _in_the_way(facts, here):
    alone = dict(facts, snapshots=[], devices=[])
    return here["devices"] + image.in_the_way(alone, None, trash=True)


def carry_out(ceph, old, new, was, now, trashed=()):
    """Rename the image and let what refers to it on this host follow; raises :class:`Refused`. The arguments are those of :func:`plan`."""
    facts, limit = was or now, ceph.settings.timeout
    refusals = plan(old, new, was, now, look(ceph, old, new, facts), trashed).refusals
    if refusals:
        raise errors.Refused(" ".join(refusals))
    with hostlock.hold(ceph, facts["id"]):  # nobody maps it meanwhile
        here = look(ceph, old, new, facts)
        if was and here["devices"]:
            raise errors.Busy("{} came into use here: {}.".format(old, "; ".join(here["devices"])))
        if was:
            ceph.call("image_rename", old, image_id=was["id"], new=new.image)
    # First fstab, so that no mount needs the old unit when that is stopped.
    for _, entry in here["fstab"]:
        fstab.update(os.path.normpath(entry.point), entry)
    for spec, moved in _names(old, new, facts):
        if boot.record_of(ceph.fsid, spec) and boot.possible():
            boot.rename(ceph.fsid, spec, moved, limit)
