"""
What the beacon ``rbd_health`` would report: what is wrong with the storage of this host and its cluster.

The beacon and who is told are described in docs/alerts.md; ``rbd_cluster.doctor`` looks at more, and says why.
"""

from saltplatform import alert_settings
from saltrbd import health_look, settings
from saltrbd.errors import InvalidPillar

__virtualname__ = "rbd_health"


def __virtual__():
    return __virtualname__


def look():
    """
    Look now, and return "cluster" (its fsid), "looked" (what could be looked at) and "found", a list of {"area", "subject", "level",
    "text"}.

    level is warning or fault, or unknown where something could not be seen. It takes up to 30 s when the cluster does not answer. The
    thresholds are those of the pillar's ``platform:alerts``. Raises InvalidPillar where they make no sense.

    CLI Example:

    .. code-block:: bash

        salt '*' rbd_health.look
    """
    pillar = settings.plain(__pillar__)
    look_for, mistakes = alert_settings.watched(pillar, settings.load(__opts__, pillar))
    if mistakes:
        raise InvalidPillar.of([mistake.rstrip(".") for mistake in mistakes])
    opts = {name: settings.plain(__opts__[name]) for name in ("ceph", "rbd") if __opts__.get(name)}
    return health_look.look({"opts": dict(opts, id=__opts__["id"]), "pillar": pillar, "look": look_for})
