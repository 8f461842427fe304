"""What lies in the trash, and what of it goes for good."""

import time
from collections import namedtuple

from saltrbd import device_find, image, owner
from saltrbd.converge import Plan, change
from saltrbd.errors import ImageNotFound, InvalidArgument, Refused, quoted

# What rbd-mirror or a migration has put into the trash they take out again.
_OURS = ("USER", "REMOVING")

# ``images``, ``ids``: only these names, these ids (None: all); ``early``: ids that go before their time; ``skip``: what is blocked stays.
Desired = namedtuple("Desired", "images early skip ids", defaults=(None,))


def desired(images=None, early=None, skip=False, ids=None):
    """Return the checked :class:`Desired`; raises :class:`InvalidArgument`."""
    return Desired(_words(images, "images"), _words(early, "early") or (), image.flag(skip, "skip_blocked"), _words(ids, "ids"))


def _words(value, what):
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) and word for word in value):
        raise InvalidArgument("{} must be a list of texts (in quotes where they look like numbers), not {}.".format(what, quoted(value)))
    return tuple(value)


def read(ceph, where):
    """Return the trash's entries of a pool and namespace (``where``), each with the ``facts`` of its image, children and users too.

    The facts are None where a removal has begun and was cut off: then there is no image any more.
    """
    return with_facts(ceph, where, ceph.call("trash_list", **where))


def with_facts(ceph, where, entries):
    """Return the trash's entries, each with the ``facts`` of its image, None where a removal has begun with it."""
    ask = [dict(where, image=entry["name"], image_id=entry["id"], children="formats", users=True) for entry in entries]
    outcomes = ceph.batch([("image_info", item) for item in ask])
    facts = [None if isinstance(outcome.error, ImageNotFound) else outcome.get() for outcome in outcomes]
    mappings = device_find.on_host() if entries else ()
    for item in facts:
        if item:
            owner.annotate_devices(item, mappings)
    return [dict(entry, facts=item) for entry, item in zip(entries, facts)]


def label(place, entry):
    """Return an entry's name for people: its id tells it from others of its name."""
    return "{} (id {})".format(place._replace(image=entry["name"]), entry["id"])


def plan(place, entries, want, now):
    """Return the :class:`Plan` that removes from the trash of ``place`` what is past its time, ``now`` (seconds since 1970); pure.

    ``entries`` are from :func:`read`. A clone goes before its parent, when both are to go.
    """
    waves, blocked = sort_out(place, [entry for entry in entries if _goes(entry, want, now)])
    told = ["{} stays in the trash. In the way are: {}.".format(label(place, entry), "; ".join(words)) for entry, words in blocked]
    going = [entry for wave in waves for entry in wave]
    changes = {label(place, entry): {"image": change("in the trash", None)} for entry in going}
    if told and not want.skip:
        changes.update({label(place, entry): {"image": change("in the trash", None)} for entry, _ in blocked})
        return Plan(changes=changes, refusals=told)
    if not going:
        return Plan(notes=told)
    ids = [entry["id"] for entry in going]
    arguments = {"name": str(place), "ids": ids, "early": [item for item in ids if item in want.early]}
    planned = {("purged", _key(place, entry)): {} for entry in going}
    return Plan([("rbd_image.purge", arguments)], changes, (), planned, told)


def _key(place, entry):
    return str(place._replace(image=entry["id"] or entry["name"]))


def purged(known, place, entry):
    """True where an earlier state of a dry run would have removed this entry; ``known`` is from ``converge.known``."""
    return ("purged", _key(place, entry)) in known


def _goes(entry, want, now):
    if want.images is not None and entry["name"] not in want.images:
        return False
    if want.ids is not None and entry["id"] not in want.ids + want.early:
        return False
    return entry["source"] in _OURS and (_until(entry, now) <= now or entry["id"] in want.early)


def _until(entry, now):
    """An entry that a dry run only plans has no time yet, but a delay."""
    return entry["kept_until"] if "kept_until" in entry else now + entry["delay"]


def sort_out(place, entries):
    """Return (waves of entries that can go, one wave after the other; [(entry, what is in its way), ...]); pure."""
    waves, left = [], list(entries)
    gone = set()
    while True:
        wave = [entry for entry in left if not _obstacles(place, entry, gone)]
        if not wave:
            return waves, [(entry, _obstacles(place, entry, gone)) for entry in left]
        waves.append(wave)
        left = [entry for entry in left if entry not in wave]
        gone |= {(place.pool, place.namespace, entry["id"]) for entry in wave}


def _obstacles(place, entry, gone):
    facts = entry["facts"]
    if facts is None:
        return []
    snapshots = []
    for item in facts["snapshots"]:
        children = [child for child in item["children"] if (child["pool"], child["namespace"], child["id"]) not in gone]
        # A snapshot in Ceph's own trash for snapshots goes with its last clone.
        if item["type"] != "trash" or children or not item["children"]:
            snapshots.append(dict(item, children=children))
    return image.in_the_way(dict(facts, snapshots=snapshots), place._replace(image=entry["name"]))


def carry_out(ceph, place, want):
    """Remove what is to go, as :func:`plan` has it, and return {id: name}; raises :class:`Refused` where anything is in the way."""
    entries = read(ceph, {"pool": place.pool, "namespace": place.namespace})
    now = time.time()
    made = plan(place, entries, want, now)
    if made.refusals:
        raise Refused(" ".join(made.refusals))
    removed = {}
    for wave in sort_out(place, [entry for entry in entries if _goes(entry, want, now)])[0]:
        ceph.all([("trash_remove", _removal(place, entry, want)) for entry in wave])
        removed.update((entry["id"], entry["name"]) for entry in wave)
    return removed


def _removal(place, entry, want):
    where = place._replace(image=entry["name"]).where()
    return dict(where, image_id=entry["id"], early=entry["id"] in want.early)
