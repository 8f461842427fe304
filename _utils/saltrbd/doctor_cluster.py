"""What the cluster says once the user is let in: fsid, clock, pools, capabilities; and why it does not let the user in."""

import calendar
import re
import time

from saltrbd import doctor_files, errors
from saltrbd.client import Client
from saltrbd.doctor_finding import FAULT, OK, UNKNOWN, WARNING, Finding

# Seconds for the connection, and for the questions after it, which are asked all at once.
CONNECT, ASK = 9.0, 9.0
# Seconds by which the clocks may differ: the log that is asked gets an entry every two seconds, and a monitor batches them for some more.
CLOCK_WARNING, CLOCK_FAULT = 5.0, 300.0
# Seconds without an entry before "this host is ahead" is said: the manager may have nothing to say for some.
SILENCE = 60.0
# What of 'ceph health' keeps writes or reads waiting: Ceph gives no error for it, whoever asks just waits.
BLOCKING = ("OSD_FULL", "POOL_FULL", "OSDMAP_FLAGS", "PG_AVAILABILITY", "OSD_DOWN", "SLOW_OPS")
_NEED_SESSION = ("fsid", "clock", "health", "pools", "capabilities")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?([+-])(\d\d):?(\d\d)$")


def look(settings, entries):
    """Connect, ask, and return a list of :class:`Finding`; where the connection fails, what hangs on it is unknown."""
    limited = settings._replace(fsid="", timeout=min(settings.timeout, CONNECT), progress_timeout=ASK)
    client = Client(limited)
    try:
        fsid = client.fsid
    except errors.RbdError as error:
        return unreached(error)
    try:
        places = wanted(settings, entries)
        pools = sorted({pool for pool, _, _ in places})
        requests = [("cluster_info", {}), ("doctor_clock", {}), ("doctor_health", {}), ("doctor_rights", {})]
        requests += [("doctor_pool", {"pool": pool, "namespace": namespace}) for pool, namespace, _ in places]
        info, clock, health, rights, *access = client.batch(requests)
    finally:
        client.close()
    findings = [
        Finding("session", OK, "The monitors let client.{} in.".format(settings.user)),
        judge_fsid(settings.fsid, doctor_files.option(doctor_files.configured(settings), settings.user, "fsid"), fsid),
        _told("clock", clock, lambda told: judge_clock(told["stamp"], told["here"])),
    ]
    findings += [_told("health", health, judge_health)]
    findings += [_told("pool " + pool, info, lambda told, pool=pool: judge_pool(pool, told)) for pool in pools]
    findings += [_told("capabilities mon", rights, lambda told: judge_rights(settings.user, told))]
    there = set(info.result["all_pools"]) if info.error is None else set(pools)
    for (pool, namespace, write), outcome in zip(places, access):
        if pool in there:
            name = "capabilities " + "/".join(part for part in (pool, namespace) if part)
            judged = _told(name, outcome, lambda told, place=(pool, namespace, write): judge_access(settings.user, place, told))
            findings.append(judged)
    return findings


def _told(name, outcome, judge):
    if outcome.error is None:
        return judge(outcome.result)._replace(name=name)
    if isinstance(outcome.error, errors.CephTimeout):
        return Finding(
            name, FAULT, "{} Look at 'ceph -s': an OSD that is down or full, or placement groups that are not active.".format(outcome.error)
        )
    return Finding(name, FAULT if isinstance(outcome.error, errors.PermissionDenied) else UNKNOWN, str(outcome.error))


def wanted(settings, entries):
    """Return [(pool, namespace, whether it is written)] that the pillar's volumes need, the default place among them."""
    found = {(settings.pool, settings.namespace): True}
    for entry in entries:
        spec = entry["spec"]
        found[(spec.pool, spec.namespace)] = True
        if entry["image"].get("data_pool"):
            found[(entry["image"]["data_pool"], "")] = True
        if entry["parent"]:
            found.setdefault((entry["parent"].pool, entry["parent"].namespace), False)
    return sorted((pool, namespace, write) for (pool, namespace), write in found.items())


def unreached(error):
    """Return the findings where nobody was let in."""
    status = UNKNOWN if isinstance(error, (errors.NoBindings, errors.WorkerDied)) else FAULT
    later = "Not asked, because there is no session."
    return [Finding("session", status, str(error))] + [Finding(name, UNKNOWN, later) for name in _NEED_SESSION]


def judge_fsid(declared, configured, fsid):
    """Compare the fsid of the pillar, of the configuration file and of the cluster that has answered."""
    if declared and declared != fsid:
        text = (
            "The cluster that answers has the fsid {}, but ceph:fsid is {}. Correct ceph:monitors or ceph:conf, "
            "or ceph:fsid if the cluster was made anew."
        )
        return Finding("fsid", FAULT, text.format(fsid, declared))
    if configured and configured != fsid:
        text = "The cluster that answers has the fsid {}, but the configuration file says {}; one of both is out of date."
        return Finding("fsid", WARNING, text.format(fsid, configured))
    if not declared:
        return Finding(
            "fsid", WARNING, "The cluster's fsid is {}. Declare it as ceph:fsid, so that another cluster is refused.".format(fsid)
        )
    return Finding("fsid", OK, "It is the declared one, {}.".format(fsid))


def _seconds(stamp):
    """Return the seconds since 1970 of a text such as 2026-11-26T11:22:03.5+0000, or None."""
    match = _STAMP.match(stamp or "")
    if not match:
        return None
    day, fraction, sign, hours, minutes = match.groups()
    zone = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    return calendar.timegm(time.strptime(day, "%Y-%m-%dT%H:%M:%S")) + float("0" + (fraction or "")) - zone


def judge_clock(stamp, here):
    """Compare the newest entry of the cluster's log (as text) with the time here (seconds since 1970)."""
    written = _seconds(stamp)
    if written is None:
        return Finding("clock", UNKNOWN, "The cluster's log has no entry to compare with.")
    behind = written - here
    if behind > CLOCK_WARNING:
        status = FAULT if behind > CLOCK_FAULT else WARNING
        text = "This host's clock is at least {:.0f} s behind the cluster's; run an NTP client (chrony) here. Ceph's tickets depend on it."
        return Finding("clock", status, text.format(behind))
    if -behind > SILENCE:
        text = (
            "The newest entry of the cluster's log is {:.0f} s old: this host's clock is ahead, or no manager runs ('ceph -s'). "
            "Run an NTP client (chrony) here."
        )
        return Finding("clock", WARNING, text.format(-behind))
    return Finding("clock", OK, "It differs from the cluster's by less than {:.0f} s.".format(max(CLOCK_WARNING, -behind) + 1))


def judge_health(told):
    """What Ceph says of itself; what keeps clients waiting is a fault."""
    if not told["checks"]:
        return Finding("health", OK, "Ceph is healthy.")
    blocking = [code for code in sorted(told["checks"]) if code in BLOCKING]
    shown = "; ".join("{}: {}".format(code, told["checks"][code]) for code in blocking or sorted(told["checks"]))
    if blocking:
        return Finding("health", FAULT, "{}. Reads or writes may wait for ever; 'ceph health detail' tells more.".format(shown.rstrip(".")))
    return Finding("health", WARNING, "{}. 'ceph health detail' tells more.".format(shown.rstrip(".")))


def judge_pool(pool, info):
    """Whether a pool is there and is RBD's."""
    if pool not in info["all_pools"]:
        text = "The pool {} does not exist. Correct the pillar, or run 'ceph osd pool create {}' and 'rbd pool init {}'."
        return Finding("pool", FAULT, text.format(pool, pool, pool))
    if pool not in info["pools"]:
        text = "The pool {} is not marked for RBD; run 'rbd pool init {}' if it is meant for images (not for a data pool of another kind)."
        return Finding("pool", WARNING, text.format(pool, pool))
    return Finding("pool", OK, "It is there, with the application rbd.")


def judge_rights(user, told):
    """What the user may do at the monitors."""
    if not told["blocklist"]:
        text = (
            "client.{} may not shut out dead clients, so locks of a host that died stay for 30 s or for ever. Give it mon 'profile rbd': "
            "'ceph auth caps' replaces all capabilities, so name those for the OSDs too."
        )
        return Finding("capabilities mon", WARNING, text.format(user))
    return Finding("capabilities mon", OK, "client.{} has what mon 'profile rbd' gives.".format(user))


def judge_access(user, place, told):
    """What the user may do in one pool and namespace; ``place`` is (pool, namespace, whether it is written)."""
    pool, namespace, write = place
    where = "pool={}{}".format(pool, " namespace={}".format(namespace) if namespace else "")
    needed = ("list", "write", "execute") if write else ("list", "execute")
    refused = [name for name in needed if told[name]]
    if not refused:
        return Finding("capabilities", OK, "client.{} may {} there.".format(user, "read and write" if write else "read"))
    profile = "profile rbd" if write else "profile rbd-read-only"
    text = "client.{} may not {} there ({}). It needs osd '{} {}'; 'ceph auth caps client.{}' sets all its capabilities anew."
    words = {"list": "list images", "write": "write", "execute": "call the OSDs' functions for RBD"}
    return Finding(
        "capabilities", FAULT, text.format(user, " nor ".join(words[name] for name in refused), told[refused[0]], profile, where, user)
    )
