"""Measures RBD volumes for Diamond's RbdCollector: one JSON request on stdin, one JSON answer a line on stdout, then the end.

Diamond's own Python has no Ceph bindings. This runs in the system's, ``PYTHON -E -s measure.py``, beside a copy of the
core ``saltrbd``, whose client starts the worker, keeps every call's time limit and ends the worker with this process.

The request: {"ceph": the pillar's ceph:, "timeout": seconds, "volumes": [specs], "space": [specs to measure, first ones first]}.
The answers, each as soon as it is known: {"volumes": {spec: facts}}, {"space": {spec: bytes}}, {"unreadable": {spec: why}}, and
{"error": why, "stop": true where asking again will not help}.
"""

import json
import sys
import time

from saltrbd import client, errors, settings
from saltrbd.spec import parse_image

# What nobody but an operator can mend: asking again a minute later only fills the log.
HOPELESS = (
    errors.NoBindings,
    errors.InvalidConfiguration,
    errors.AuthenticationFailed,
    errors.WrongCluster,
    errors.InvalidPillar,
    errors.InvalidSpec,
)
# Images measured at once, and images read at once: an idle corner of the cluster's time, not more.
MEASURED_AT_ONCE, THREADS = 4, 16


def main(request, tell):
    """Carry the request out; ``tell`` takes each answer."""
    chosen = settings.load({}, {"ceph": request["ceph"], "rbd": {"timeout": request["timeout"], "threads": THREADS}})
    ceph = client.get(chosen)
    specs = {name: parse_image(name) for name in request["volumes"]}
    images = read(ceph, specs, tell)
    parents = lineage(ceph, images)
    now = time.time()
    tell({"volumes": {name: facts(info, parents, now) for name, info in images.items()}})
    due = [name for name in request["space"] if name in images]
    for start in range(0, len(due), MEASURED_AT_ONCE):
        names = due[start : start + MEASURED_AT_ONCE]
        outcomes = ceph.batch([("image_space", specs[name].where()) for name in names])
        tell({"space": {name: outcome.result["used"] for name, outcome in zip(names, outcomes) if outcome.error is None}})
        refuse(names, outcomes, tell)


def read(ceph, specs, tell):
    """Return {name: what the worker's image_info tells} of those that can be read."""
    outcomes = ceph.batch([("image_info", dict(spec.where(), users=True)) for spec in specs.values()])
    refuse(specs, outcomes, tell)
    return {name: outcome.result for name, outcome in zip(specs, outcomes) if outcome.error is None}


def refuse(names, outcomes, tell):
    """Tell which could not be read, and why; raise what will be so for all of them, and for ever."""
    failed = {name: outcome.error for name, outcome in zip(names, outcomes) if outcome.error is not None}
    for error in failed.values():
        if isinstance(error, HOPELESS + (errors.ClusterUnreachable,)):
            raise error
    if failed:
        tell({"unreadable": {name: str(error) for name, error in failed.items()}})


def lineage(ceph, images):
    """Return {key of a parent: key of its own parent or None} for every parent above the images; see :func:`key_of`."""
    known, level = {}, [info["parent"] for info in images.values()]
    while True:
        wanted = {key_of(parent): parent for parent in level if parent and key_of(parent) not in known}
        if not wanted:
            return known
        # By its id it is found in the trash too.
        ask = [
            {"pool": parent["pool"], "namespace": parent["namespace"], "image": parent["image"], "image_id": parent["id"]}
            for parent in wanted.values()
        ]
        level = []
        for key, outcome in zip(wanted, ceph.batch([("image_info", where) for where in ask])):
            parent = outcome.result["parent"] if outcome.error is None else None
            known[key] = key_of(parent) if parent else None
            level.append(parent)


def key_of(parent):
    """Return what tells a parent image from all others."""
    return parent["pool"], parent["namespace"], parent["id"]


def facts(info, parents, now):
    """Return what is published of one volume; no age of a snapshot where there is none."""
    created = [item["created"] for item in info["snapshots"] if item["type"] == "user"]
    found = {
        "size": info["size"],
        "snapshots": len(created),
        "clone_depth": depth(info, parents),
        "users": len({watcher["address"] for watcher in info["watchers"]}),
    }
    if created:
        found["newest_snapshot_age"] = max(0, int(now - max(created)))
    return found


def depth(info, parents):
    """Return how many parents an image stands on: 0 for one that is no clone."""
    count, key = 0, key_of(info["parent"]) if info["parent"] else None
    while key is not None:
        count, key = count + 1, parents.get(key)
    return count


def answer(line):
    """Write one answer."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(json.load(sys.stdin), answer)
    except errors.RbdError as problem:
        answer({"error": str(problem), "stop": isinstance(problem, HOPELESS)})
    client.close_all()
