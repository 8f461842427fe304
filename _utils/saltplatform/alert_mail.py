"""The text of the mails, and how many of them a group gets: pure."""

from saltplatform import outbox

HOUR = 3600
# Changes that wait for the next mail of a group which has had too many; of what is more only the number is told.
MOST_HELD = 200
_HEADS = (("opened", "New:"), ("worse", "Worse than before:"), ("over", "Over:"))
_SUBJECT = {"opened": "new", "worse": "worse", "over": "over"}
_LONGEST_SUBJECT = 150


def enqueue(state, changes, groups, rules, now):
    """Put what each group is to be told into the outbox; return sentences for the log.

    All changes of one moment are one mail for a group. One that has had ``rules["mails_per_hour"]`` mails in the last hour gets what
    comes then in one mail, as soon as the hour allows it.
    """
    told = []
    for group in sorted(groups):
        held = state["held"].pop(group, {"changes": [], "more": 0})
        waiting = held["changes"] + [[change.what, shown(change.alert)] for change in changes]
        recent = [moment for moment in state["mailed"].get(group, []) if 0 <= now - moment < HOUR]
        if not waiting:
            continue
        if len(recent) >= rules["mails_per_hour"]:
            more = max(0, len(waiting) - MOST_HELD)
            state["held"][group] = {"changes": waiting[-MOST_HELD:], "more": held["more"] + more}
            if changes:
                told.append("The group {} has had {} mails within an hour; what comes now is gathered.".format(group, len(recent)))
            continue
        state["mailed"][group] = [*recent, now]
        state["number"] += 1
        subject, body = text(group, waiting, held["more"])
        entry = {"number": state["number"], "group": group, "subject": subject, "body": body, "created": now}
        entry["to"] = [member["address"] for member in groups[group]]
        lost = outbox.add(state["outbox"], entry)
        told += [lost] if lost else []
    for group in set(state["mailed"]) - set(groups):
        del state["mailed"][group]
    for group in set(state["held"]) - set(groups):
        del state["held"][group]
    return told


def shown(alert):
    """Return what a mail tells of an alert."""
    return {key: alert[key] for key in ("place", "area", "subject", "level", "text", "nodes", "first", "closed", "gone", "flaps")}


def text(group, changes, more=0):
    """Return (subject, body) of the mail about changes, each (what, alert as :func:`shown`); ``more``: how many were too many."""
    first_what, first = next((change for change in changes if change[0] != "over"), changes[0])
    subject = "[storage] {}: {}".format(_SUBJECT[first_what], _title(first))
    if len(changes) + more > 1:
        subject += " (and {} more)".format(len(changes) + more - 1)
    lines = []
    for what, head in _HEADS:
        found = [alert for kind, alert in changes if kind == what]
        if found:
            lines += [head, ""]
            for alert in found:
                lines += [*_told(what, alert), ""]
    if more:
        lines += ["{} earlier changes are not listed: there were too many at once.".format(more), ""]
    lines.append("You get this as a member of the contact group {}. All that is open: salt-run platform_alerts.show".format(group))
    return _cut(subject), "\n".join(lines) + "\n"


def _title(alert):
    about = _ABOUT[alert["area"]].format(alert["subject"])
    return "{} ({})".format(about, alert["place"])


_ABOUT = {
    "cluster": "the cluster does not answer",
    "health": "Ceph's health, {}",
    "pools": "pool {} is nearly full",
    "snapshots": "the snapshot of {} is too old",
    "pillar": "the pillar has mistakes",
    "volumes": "{} is nearly full",
    "frozen": "{} is frozen",
    "mappings": "the mapping of {} is lost",
    "look": "looking at the storage does not end",
}


def _told(what, alert):
    if what == "over":
        seconds = max(0, int((alert["gone"] or alert["closed"]) - alert["first"]))
        lines = ["* {}: it is over; it lasted {}. It was: {}".format(_title(alert), _span(seconds), alert["text"])]
        if alert["flaps"]:
            lines.append("  It has come back {} times, so that its end is told later each time.".format(alert["flaps"]))
        return lines
    lines = ["* {}: {}".format(_title(alert), alert["text"])]
    if alert["place"].startswith("cluster "):
        lines.append("  Seen by {}.".format(_names(alert["nodes"])))
    return lines


def _names(nodes):
    if len(nodes) > 10:
        return "{} and {} more nodes".format(", ".join(nodes[:10]), len(nodes) - 10)
    return ", ".join(nodes) or "no node any more"


def _span(seconds):
    if seconds < 120:
        return "{} s".format(seconds)
    if seconds < 7200:
        return "{} min".format(seconds // 60)
    return "{} h {} min".format(seconds // 3600, seconds % 3600 // 60)


def _cut(subject):
    return subject if len(subject) <= _LONGEST_SUBJECT else subject[: _LONGEST_SUBJECT - 3] + "..."
