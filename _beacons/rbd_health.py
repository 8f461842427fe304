"""
Reports what is wrong with the storage of this host and its Ceph cluster: health, nearly full pools and filesystems, snapshots older than
their schedule, frozen filesystems, lost mappings.

The looking is done by a process of its own with a time limit; the beacon only starts it and takes its report, and never waits, whatever the
cluster does. What is wrong is reported at once, three times, and everything again each ``report_every`` seconds, so that no event need
arrive. ``salt/alerts`` writes its configuration, and tells people: see docs/alerts.md.

.. code-block:: yaml

    beacons:
      rbd_health:
        - interval: 5
        - look: {interval: 60, report_every: 300, pool_full: 80, volume_full: 90, frozen: 60, snapshots: {rbd/rbd0001: 86400}}
"""

import os

from saltrbd import health_watch, settings

__virtualname__ = "rbd_health"
_SECTIONS = ("ceph", "rbd")
_KEYS = ("interval", "report_every", "pool_full", "volume_full", "frozen", "snapshots")


def __virtual__():
    return __virtualname__


def _look(config):
    return next((part["look"] for part in config if isinstance(part, dict) and "look" in part), None)


def validate(config):
    """Return (whether the configuration makes sense, a sentence)."""
    look = _look(config) if isinstance(config, list) else None
    if not isinstance(look, dict) or not set(_KEYS) <= set(look):
        return False, "The beacon rbd_health needs look: a mapping with {}; salt/alerts writes it.".format(", ".join(_KEYS))
    return True, "The configuration makes sense."


def beacon(config):
    """Return the report that has come since the last time, if any is to be sent."""
    look = _look(config)

    def request():
        opts = dict(_sections(__opts__), id=__opts__["id"])
        return {"opts": opts, "pillar": _sections(__opts__.get("pillar") or {}), "look": look}

    watch = health_watch.watch_of(os.path.join(__opts__["cachedir"], "rbd_health"))
    report = watch.turn(request, look["interval"])
    if report is None or not watch.to_send(report, look["report_every"]):
        return []
    return [report]


def _sections(source):
    found = {name: settings.plain(source[name]) for name in _SECTIONS if source.get(name)}
    if isinstance(found.get("ceph"), dict):
        found["ceph"].pop("keyring_text", None)  # a secret that the look does not need
    return found
