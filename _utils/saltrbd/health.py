"""What of the storage deserves an alert: pure judgements over what was seen. Each is {"area", "subject", "level", "text"}.

The areas are those of :mod:`saltplatform.alerts`. A level "unknown" says that what was found before may still be so.
"""

import re

from saltrbd import duration
from saltrbd.doctor_cluster import BLOCKING
from saltrbd.errors import CephTimeout, SessionLost, WorkerDied

WARNING, FAULT, UNKNOWN = "warning", "fault", "unknown"

# Codes of 'ceph health' that are one event for people: an OSD that goes brings half a dozen of them, one after the other.
_FAMILIES = (
    ("availability", re.compile(r"OSD_(\w+_)?DOWN|PG_AVAILABILITY|PG_DEGRADED|SLOW_OPS|OBJECT_MISPLACED|OSD_SLOW_PING\w*|REQUEST_\w+")),
    ("space", re.compile(r"\w+_(NEAR|BACKFILL|NEAR_|BACKFILL_|RECOVERY_)?FULL")),
    ("damage", re.compile(r"PG_DAMAGED|OSD_SCRUB_ERRORS|OSD_TOO_MANY_REPAIRS|OBJECT_UNFOUND")),
    ("monitors", re.compile(r"MON_\w+")),
    ("manager", re.compile(r"MGR_\w+")),
)
AVAILABILITY = "availability"
# What is told as such, of the cluster or of this host.
_PASSING = (CephTimeout, SessionLost, WorkerDied)


def item(area, subject, level, text):
    """Return one judgement."""
    return {"area": area, "subject": subject, "level": level, "text": text}


def family(code):
    """Return the subject under which a code of Ceph's health is told; one that belongs to none is its own."""
    return next((name for name, codes in _FAMILIES if codes.fullmatch(code)), code)


def judge_checks(checks, silent):
    """``checks``: as the worker's health_checks tells them; ``silent``: {pool: sentence} of pools that do not answer."""
    by_family = {}
    for code in sorted(checks, key=lambda code: (code not in BLOCKING, code)):
        by_family.setdefault(family(code), []).append(code)
    found = []
    for name, codes in by_family.items():
        blocking = [code for code in codes if code in BLOCKING]
        bad = blocking or any(checks[code]["severity"] == "HEALTH_ERR" for code in codes)
        texts = ["{}: {}".format(code, checks[code]["text"].rstrip(".")) for code in codes]
        text = "{}. {}'ceph health detail' tells more.".format("; ".join(texts), "Reads or writes may wait. " if blocking else "")
        found.append(item("health", name, FAULT if bad else WARNING, text))
    if silent and AVAILABILITY not in by_family:
        text = "{} Look at 'ceph -s': an OSD that is down or full, or placement groups that are not active."
        found.append(item("health", AVAILABILITY, FAULT, text.format(" ".join(silent[pool] for pool in sorted(silent)))))
    return found


def judge_pools(pools, limit):
    """``pools``: {name: per cent}; ``limit``: per cent from which on one is told."""
    text = "The pool {} is {:.0f} % full; told from {} % on. Add OSDs, raise its quota, or remove what is not needed before writes stop."
    return [item("pools", name, WARNING, text.format(name, full, limit)) for name, full in sorted(pools.items()) if full >= limit]


def judge_snapshots(schedule, images, now):
    """``schedule``: {image: seconds}; ``images``: {image: facts, None where there is none, or an error that kept it from being read}."""
    found = []
    for name, seconds in sorted(schedule.items()):
        facts = images[name]
        if isinstance(facts, _PASSING):
            found.append(item("snapshots", name, UNKNOWN, str(facts)))
            continue
        if isinstance(facts, Exception):
            text = "Whether {} has its snapshots cannot be seen: {}".format(name, facts)
            found.append(item("snapshots", name, WARNING, text))
            continue
        if facts is None:
            text = "{} does not exist, so it has no snapshots; correct platform:alerts:snapshots, or make the image.".format(name)
            found.append(item("snapshots", name, WARNING, text))
            continue
        newest = max((one for one in facts["snapshots"] if one["type"] == "user"), key=lambda one: one["created"], default=None)
        since = newest["created"] if newest else facts["created"]
        if now - since <= seconds:
            continue
        allowed = "it may be {} old. Look why no newer one was made: the job or timer that applies the state of its snapshots."
        what = "The newest snapshot of {} ({}) is {} old; " if newest else "{} has no snapshot and is {} old; the newest snapshot of it "
        words = (name, newest["name"], _age(now - since)) if newest else (name, _age(now - since))
        found.append(item("snapshots", name, WARNING, (what + (allowed if newest else allowed[3:])).format(*words, duration.show(seconds))))
    return found


def _age(seconds):
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return "{} {}".format(int(seconds // length), unit)
    return "{} s".format(int(seconds))


def judge_volumes(mounts, probes, limit):
    """``mounts``: {mount point: image}; ``probes``: {mount point: :class:`saltrbd.health_probe.Probe`}; ``limit``: per cent."""
    found = []
    for point, image in sorted(mounts.items()):
        seen = probes.get(point)
        if seen is None or seen.full is None:
            found.append(item("volumes", point, UNKNOWN, "{} on {} does not say how full it is.".format(image, point)))
        elif seen.full >= limit or seen.inodes >= limit:
            what = "full" if seen.full >= limit else "full of files (its inodes)"
            text = "The filesystem of {} on {} is {:.0f} % {}; told from {} % on. Remove what is not needed, or declare a larger size."
            found.append(item("volumes", point, WARNING, text.format(image, point, max(seen.full, seen.inodes), what, limit)))
    return found


def judge_frozen(mounts, probes, limit):
    """As :func:`judge_volumes`; ``limit``: seconds for which one may stand still."""
    found = []
    for point, image in sorted(mounts.items()):
        seen = probes.get(point)
        if seen is None or seen.hangs:
            found.append(item("frozen", point, UNKNOWN, "{} on {} does not answer.".format(image, point)))
        elif seen.frozen_for is not None and seen.frozen_for >= limit:
            text = "The filesystem of {} on {} has been frozen for {} at least, so that everything that writes there waits. "
            text += "If rbd_filesystem.freeze did it, rbd_filesystem.thaw {} ends it" if seen.ours else "Whoever froze it must end it"
            text += ": fsfreeze --unfreeze {}." if not seen.ours else "."
            found.append(item("frozen", point, FAULT, text.format(image, point, _age(seen.frozen_for), image if seen.ours else point)))
        elif seen.frozen_for is not None:
            found.append(item("frozen", point, UNKNOWN, "It stands still, and not for long yet."))
    return found


def judge_mappings(mapped, declared, points):
    """``mapped``: {image: fault or None} of what this host has mapped; ``declared``: {image: mount point} of the pillar; ``points``: {mount
    point: image} of what is mounted here from images."""
    found = []
    for image, fault in sorted(mapped.items()):
        if fault:
            text = "The device of {} on this host is of no use: {}. Unmount it, run rbd_device.unmap {}, and apply its state again."
            found.append(item("mappings", image, FAULT, text.format(image, fault.rstrip("."), image)))
    for image, point in sorted(declared.items()):
        if image not in mapped:
            text = (
                "{} is declared for {} here and is not mapped. Apply its state (state.apply rbd); rbd_cluster.doctor tells what is wrong."
            )
            found.append(item("mappings", image, FAULT, text.format(image, point)))
        elif not mapped[image] and points.get(point) != image:
            text = "{} is mapped here and not mounted on {} as declared. Apply its state (state.apply rbd)."
            found.append(item("mappings", image, FAULT, text.format(image, point)))
    return found
