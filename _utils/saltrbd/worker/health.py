"""What the alerts ask of a cluster: its health as it says it, and how full its pools are."""

import rados
from doctor import ask

# An object that every pool of RBD's has, or does not have: either answer comes from an OSD.
_OBJECT = "rbd_directory"


def health_checks(session, report):
    """What 'ceph health' says: {code: {"severity", "text"}}, without what somebody has muted."""
    checks = ask(session, "health")["checks"]
    return {
        code: {"severity": check["severity"], "text": check["summary"]["message"]}
        for code, check in checks.items()
        if not check.get("muted")
    }


def health_pools(session, report):
    """{pool: how full it is in per cent}, of its space or of its quota, whichever is fuller."""
    found = {}
    for pool in ask(session, "df", detail="detail")["pools"]:
        stats = pool["stats"]
        full = 100.0 * stats.get("percent_used", 0.0)
        for used, most in (("stored", "quota_bytes"), ("objects", "quota_objects")):
            if stats.get(most):
                full = max(full, 100.0 * stats.get(used, 0) / stats[most])
        found[pool["name"]] = full
    return found


def health_pool(session, report, pool):
    """True when an OSD of the pool answers."""
    try:
        session.ioctx(pool).stat(_OBJECT)
    except rados.ObjectNotFound:
        pass
    return True


OPERATIONS = {"health_checks": health_checks, "health_pools": health_pools, "health_pool": health_pool}
