"""
The Ceph cluster that the pillar ``ceph`` names, and why this host does not get on with it.
"""

from saltrbd import doctor as core
from saltrbd.errors import InvalidArgument, quoted

__virtualname__ = "rbd_cluster"


def __virtual__():
    return __virtualname__


def doctor(limit=30):
    """
    Look at everything between the pillar and a mounted volume, and return what is wrong with what to do. Nothing is changed.

    limit
        Seconds for the whole examination, 5 to 600. What has no answer by then is ``unknown``.

    The keys: ``summary``, a sentence; ``findings``, a list of {"name", "status", "text"} in the order of the way. ``status`` is ok,
    warning, fault or unknown. The names: pillar, python, configuration, keyring, monitor ADDRESS, session, fsid, clock, health,
    pool POOL, capabilities mon, capabilities POOL[/NAMESPACE], kernel rbd, kernel nbd, driver DRIVER, kernel features, tools, boot,
    mappings.
    With a fault the exit code of salt-call is 1 (``--retcode-passthrough``).

    It works without pillar, bindings, keyring and monitors, and never shows a key. See docs/doctor.md.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_cluster.doctor
        salt-call --local rbd_cluster.doctor limit=15
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 5 <= limit <= 600:
        raise InvalidArgument("limit must be seconds, from 5 to 600, not {}.".format(quoted(limit)))
    findings = core.examine(__opts__, __pillar__, limit)
    if core.FAULT in {finding.status for finding in findings}:
        __context__["retcode"] = 1
    return {"summary": core.summary(findings), "findings": [dict(finding._asdict()) for finding in findings]}
