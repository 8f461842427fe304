"""One look at the storage of this host, in a process of its own that nobody has to wait for: facts in, a report out.

Every part has its own time limit, and what hangs is left out of the report: what was found of it before stays as it is.
"""

import json
import os
import sys
import time

from saltrbd import device_find, doctor_cluster, doctor_files, errors, freeze, health, health_probe, layers, proc, volumes
from saltrbd import settings as reading
from saltrbd import spec as specs
from saltrbd.client import Client
from saltrbd.mapping import keep

# Seconds after which the whole look is killed: connecting, two rounds of questions, the filesystems, and as much for a busy host.
LIMIT = 60.0


def main():
    """Read a request from stdin, look, and write the report: ``python -c ... FOLDER REPORT``."""
    request = json.load(sys.stdin)
    keep(sys.argv[1], json.dumps(dict(look(request), started=request["started"])))


def look(request):
    """Return {"cluster", "looked", "found"}.

    ``request``: ``opts`` and ``pillar``, of each the sections ceph and rbd; ``look``: what
    :func:`saltplatform.alert_settings.watched` returns.
    """
    try:
        settings = reading.load(request["opts"], request["pillar"])
        unknown = reading.unknown_keys(request["pillar"])
        if unknown:
            raise errors.InvalidPillar.of([unknown])
        entries = volumes.read(request["pillar"].get("rbd") or {}, settings, set)
    except errors.RbdError as error:
        text = "{} Until it is corrected nothing else is looked at; rbd_cluster.doctor tells more.".format(error)
        return {"cluster": "", "looked": ["pillar"], "found": [health.item("pillar", "pillar", health.FAULT, text)]}
    # By the same name on every node, and whether it answers or not.
    report = {"cluster": fsid_of(settings) or ",".join(settings.monitors), "looked": ["pillar"], "found": []}
    client = Client(settings._replace(timeout=min(settings.timeout, doctor_cluster.CONNECT), progress_timeout=doctor_cluster.ASK))
    try:
        mapped = _cluster(report, client, entries, request["look"]["snapshots"])
    finally:
        client.close()
    if mapped is None:
        mapped = [one for one in device_find.on_host() if not fsid_of(settings) or one.fsid in (fsid_of(settings), "")]
    _host(report, mapped, entries, request["look"])
    return report


def fsid_of(settings):
    """Return the fsid of the cluster as it is declared, which is known when it does not answer too, or an empty text."""
    return settings.fsid or doctor_files.option(doctor_files.configured(settings), settings.user, "fsid")


def _cluster(report, client, entries, schedule):
    """Look at the cluster; return the mappings of this host as it sees them, or None where it does not answer."""
    try:
        client.fsid  # noqa: B018 -- connects
    except errors.ClusterUnreachable as error:
        report["looked"].append("cluster")
        report["found"].append(health.item("cluster", "monitors", health.FAULT, str(error)))
        return None
    except errors.RbdError as error:
        _cannot_look(report, error)
        return None
    pools = sorted({pool for pool, _, _ in doctor_cluster.wanted(client.settings, entries)})
    images = {name: specs.parse_image(name) for name in schedule}
    requests = [("health_checks", {}), ("health_pools", {})] + [("health_pool", {"pool": pool}) for pool in pools]
    requests += [("image_info", spec.where()) for spec in images.values()]
    checks, full, *others = client.batch(requests)
    answers, infos = dict(zip(pools, others)), dict(zip(images, others[len(pools) :]))
    # A monitor without a quorum takes the connection and answers nothing.
    hung = next((outcome.error for outcome in (checks, full) if isinstance(outcome.error, errors.CephTimeout)), None)
    report["looked"].append("cluster")
    if hung:
        text = "{} Look whether a majority of the monitors runs.".format(hung)
        report["found"].append(health.item("cluster", "monitors", health.FAULT, text))
        return None
    silent = {pool: str(outcome.error) for pool, outcome in answers.items() if isinstance(outcome.error, errors.CephTimeout)}
    wrong = next(
        (one.error for one in (checks, full, *answers.values()) if one.error and not isinstance(one.error, errors.CephTimeout)), None
    )
    if wrong:
        _cannot_look(report, wrong)
    else:
        report["looked"].append("look")
    if checks.error is None:
        report["looked"].append("health")
        report["found"] += health.judge_checks(checks.result, silent)
    if full.error is None:
        report["looked"].append("pools")
        report["full"] = full.result
    report["looked"].append("snapshots")
    report["found"] += health.judge_snapshots(schedule, {name: _facts(outcome) for name, outcome in infos.items()}, time.time())
    try:
        return None if silent else device_find.mapped_list(client)
    except errors.RbdError:
        return None


def _cannot_look(report, error):
    report["looked"].append("look")
    text = "This host cannot look at the cluster: {} rbd_cluster.doctor tells more.".format(error)
    report["found"].append(health.item("look", "session", health.FAULT, text))


def _facts(outcome):
    if isinstance(outcome.error, errors.ImageNotFound):
        return None
    return outcome.result if outcome.error is None else outcome.error


def _host(report, here, entries, wanted):
    """Look at this host's devices, which are mapped ``here``, and filesystems."""
    if "full" in report:
        report["found"] += health.judge_pools(report.pop("full"), wanted["pool_full"])
    by_device = {}
    for mount in proc.mounts():
        by_device.setdefault(mount.device, []).append(mount)
    mounts = {mount.point: (str(one.spec), mount) for one in here for mount in _mounts_on(one, by_device)}
    points = {point: image for point, (image, _) in mounts.items()}
    # A filesystem that is mounted twice is one filesystem.
    once = {mount.device: (point, image, mount) for point, (image, mount) in sorted(mounts.items(), reverse=True)}
    probes = health_probe.probe([mount for _, _, mount in once.values()])
    single = {point: image for point, image, _ in once.values()}
    report["looked"] += ["volumes", "frozen", "mappings"]
    report["found"] += health.judge_volumes(single, probes, wanted["volume_full"])
    report["found"] += health.judge_frozen(single, probes, wanted["frozen"])
    declared = {str(entry["spec"]): entry["mount"] for entry in entries if entry["mount"]}
    report["found"] += health.judge_mappings(_faults(here, declared), declared, points)


def _faults(mapped, declared):
    """Return {image: fault or None}; of an image that is not declared here only what this host itself tells: our Ceph user may not be
    allowed to read it."""
    alone = {(str(one.spec), one.fsid): one.fault for one in device_find.on_host()}
    return {str(one.spec): one.fault if str(one.spec) in declared else alone.get((str(one.spec), one.fsid)) for one in mapped}


def _mounts_on(mapping, by_device):
    """The mounts of a mapping's device and of what lies on it alone."""
    if mapping.fault or not mapping.device:
        return []
    try:
        numbers = layers.above(freeze.number_of(mapping.device))[0] if os.path.exists(mapping.device) else []
    except OSError:
        return []
    return [mount for number in numbers for mount in by_device.get(number, ())]
