"""Which alerts are open, and what has changed: pure decisions over what the nodes report. Times are seconds since 1970.

A node reports all that it has found, again and again, so that a lost report does no harm. An alert has a key: what it is about is one
thing for all nodes where it is the cluster's, and each node's own otherwise. Its life:

    pending   found, but not for ``hold`` seconds yet
    open      told to people; stays so until nobody has found it for ``calm`` seconds
    closed    told to be over; remembered, so that one that comes and goes needs ever longer to be over: twice as long each time

The state is a dict of plain data, which :mod:`saltplatform.store` keeps.
"""

import re
from collections import namedtuple

VERSION = 1
# What there is to look at. Those of the cluster are the same for all nodes, those of a host are its own.
CLUSTER_AREAS = ("cluster", "health", "pools", "snapshots")
HOST_AREAS = ("pillar", "volumes", "frozen", "mappings", "look")
WARNING, FAULT, UNKNOWN = "warning", "fault", "unknown"
# A report with more is cut: it is no report of this package, or of a host where one more or less does not matter.
MOST_FOUND, LONGEST_TEXT, LONGEST_NAME = 500, 600, 300
# Alerts that are kept at once, pending ones among them: no minion can fill the master's memory.
MOST_ALERTS = 5000
# A node that has not reported for so many of its intervals is no witness against the others any more.
STALE_REPORTS = 3
# Seconds for which a closed alert is remembered, and the longest calm that one which comes and goes must keep.
REMEMBER, LONGEST_CALM = 3600, 3600
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

# ``what``: opened, worse or over; ``alert``: the alert as it is then, with its key.
Change = namedtuple("Change", "what alert")


class InvalidReport(ValueError):
    """What came as a report is none."""


def empty():
    """Return the state before the first report."""
    return {"version": VERSION, "alerts": {}, "outbox": [], "mailed": {}, "held": {}, "number": 0}


def checked(report):
    """Return a report with what this package knows of it, cut to a size; raises :class:`InvalidReport`.

    It comes from a minion, which is believed what it says of the storage, and nothing else.
    """
    if not isinstance(report, dict):
        raise InvalidReport("it is no mapping")
    looked, found = report.get("looked"), report.get("found")
    if not isinstance(looked, list) or not isinstance(found, list) or not isinstance(report.get("cluster"), str):
        raise InvalidReport("it lacks cluster, looked or found")
    areas = [area for area in CLUSTER_AREAS + HOST_AREAS if area in looked]
    items = [_item(item, areas) for item in found[:MOST_FOUND]]
    return {"cluster": _line(report["cluster"], LONGEST_NAME), "looked": areas, "found": items, "whole": len(found) <= MOST_FOUND}


def _item(item, areas):
    if not isinstance(item, dict) or item.get("area") not in areas:
        raise InvalidReport("something is found where nobody looked")
    if item.get("level") not in (WARNING, FAULT, UNKNOWN):
        raise InvalidReport("a level is none of warning, fault, unknown")
    if not isinstance(item.get("subject"), str) or not isinstance(item.get("text"), str):
        raise InvalidReport("a subject or a text is no text")
    subject, text = _line(item["subject"], LONGEST_NAME), _line(item["text"], LONGEST_TEXT)
    return {"area": item["area"], "subject": subject, "level": item["level"], "text": text}


def _line(text, longest):
    """One line that can stand in a mail, whatever it was."""
    text = " ".join(_CONTROL.sub(" ", text).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def place_of(area, node, cluster):
    """Return the words for whose thing it is: the cluster's, or that node's."""
    return "cluster " + cluster if area in CLUSTER_AREAS else "host " + node


def key_of(area, subject, node, cluster):
    """Return what tells one alert from all others."""
    return "|".join((place_of(area, node, cluster), area, subject))


def take(state, node, report, now, rules):
    """Put what a node reports into the state; ``report`` is from :func:`checked`."""
    found, unclear = {}, set()
    for item in report["found"]:
        key = key_of(item["area"], item["subject"], node, report["cluster"])
        if item["level"] == UNKNOWN:
            unclear.add(key)
        else:
            found[key] = item
    for key, item in found.items():
        _witness(state["alerts"], key, item, node, report["cluster"], now)
    if not report["whole"]:
        return
    looked = {(place_of(area, node, report["cluster"]), area) for area in report["looked"]}
    for key, alert in state["alerts"].items():
        if key in found or key in unclear or (alert["place"], alert["area"]) not in looked:
            continue
        alert["nodes"].pop(node, None)
        # This node sees that it is over: who said otherwise and is silent since may be dead.
        limit = now - STALE_REPORTS * rules["report_every"]
        alert["nodes"] = {name: last for name, last in alert["nodes"].items() if last >= limit}


def _witness(alerts, key, item, node, cluster, now):
    alert = alerts.get(key)
    if alert is None and len(alerts) >= MOST_ALERTS:
        return
    if alert is None or alert["status"] == "closed":
        flaps = alert["flaps"] + 1 if alert else 0
        place = place_of(item["area"], node, cluster)
        alert = {"place": place, "area": item["area"], "subject": item["subject"], "status": "pending", "flaps": flaps}
        alert.update(first=now, opened=None, gone=None, closed=None, told=None, nodes={})
        alerts[key] = alert
    alert["nodes"][node] = now
    alert.update(level=item["level"], text=item["text"], gone=None)


def calm_of(alert, rules):
    """Return for how many seconds nobody must have found it before it is over."""
    return min(rules["calm"] * 2 ** min(alert["flaps"], 12), max(LONGEST_CALM, rules["calm"]))


def turn(state, now, rules):
    """Move every alert on to this time, and return the list of :class:`Change` that people are to be told."""
    changes = []
    for key in sorted(state["alerts"]):
        alert = state["alerts"][key]
        what = _moved(alert, now, rules)
        if what == "forgotten":
            del state["alerts"][key]
        elif what:
            changes.append(Change(what, dict(alert, key=key, nodes=sorted(alert["nodes"]))))
    return changes


def _moved(alert, now, rules):
    there = bool(alert["nodes"])
    if not there and alert["gone"] is None:
        alert["gone"] = now
    calm = not there and now - alert["gone"] >= calm_of(alert, rules)
    if alert["status"] == "closed":
        # What people were told is not forgotten before the longest time in which it could come back.
        return "forgotten" if now - alert["closed"] > max(REMEMBER, 2 * calm_of(alert, rules)) else None
    if alert["status"] == "pending":
        if there and now - alert["first"] >= rules["hold"]:
            alert.update(status="open", opened=now, told=alert["level"])
            return "opened"
        return "forgotten" if calm else None
    if calm:
        alert.update(status="closed", closed=now)
        return "over"
    if there and alert["level"] == FAULT and alert["told"] == WARNING:
        alert["told"] = FAULT
        return "worse"
    return None


def forget(state, node):
    """Take away all that a node has ever found, as of one that is no more; return the keys of what nobody else has found."""
    touched = []
    for key, alert in state["alerts"].items():
        if alert["nodes"].pop(node, None) is not None and not alert["nodes"]:
            touched.append(key)
    return sorted(touched)


def open_alerts(state):
    """Return the alerts that people were told of and that are not over, by key."""
    return {key: alert for key, alert in sorted(state["alerts"].items()) if alert["status"] == "open"}
