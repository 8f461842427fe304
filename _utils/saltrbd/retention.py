"""Which snapshots stay: the latest ones, and one for each hour, day, week, month, year. Pure; times are seconds since 1970, in UTC.

The newest snapshot of each hour (day, ...) stays, for as many hours as the rule says, counted from the newest backwards. Hours without
a snapshot do not count, so that nothing goes while nothing is made. A snapshot stays when one rule keeps it. Days, months and years
are those of UTC, weeks those of ISO 8601 (from Monday), in UTC. How often it runs does not matter: what one run keeps, and what many in
between would have left, is the same.
"""

import fnmatch
from datetime import datetime, timezone

from saltrbd.converge import Plan, change
from saltrbd.errors import InvalidArgument, quoted
from saltrbd.image import child_name

# Each rule's period of a moment; None: each snapshot is a period of its own.
_PERIODS = {
    "latest": None,
    "hourly": lambda moment: (moment.year, moment.month, moment.day, moment.hour),
    "daily": lambda moment: (moment.year, moment.month, moment.day),
    "weekly": lambda moment: tuple(moment.isocalendar())[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: moment.year,
}
RULES = tuple(_PERIODS)


def rules(**counts):
    """Return {rule: count} of those that are declared; raises :class:`InvalidArgument`, also where nothing would stay."""
    found = {}
    for rule in RULES:
        count = counts[rule]
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 100000:
            raise InvalidArgument("{} must be a number of snapshots to keep, from 0 to 100000, not {}.".format(rule, quoted(count)))
        found[rule] = count
    if not any(found.values()):
        raise InvalidArgument(
            "Nothing would stay: declare how many to keep by latest, hourly, daily, weekly, monthly or yearly. "
            "To remove a snapshot declare rbd_snapshot.absent."
        )
    return found


def governs(prefix=None, pattern=None):
    """Return the function that says whether a snapshot's name is governed; raises :class:`InvalidArgument`.

    Without a prefix or a pattern nothing would be, which is no declaration.
    """
    if (prefix is None) == (pattern is None):
        raise InvalidArgument("Declare either prefix or pattern: which snapshots may go; pattern: '*' means every one.")
    what, text = ("prefix", prefix) if pattern is None else ("pattern", pattern)
    if not isinstance(text, str) or not text:
        raise InvalidArgument("The {} must be text, and not empty, not {}.".format(what, quoted(text)))
    if pattern is None:
        return lambda name: name.startswith(text)
    return lambda name: fnmatch.fnmatchcase(name, text)


def kept(times, counts):
    """Return those of the ``times`` that stay, as {key: [rule, ...]}.

    ``times``: {key: (seconds since 1970 in UTC, something that orders those of the same second)}; ``counts``: {rule: how many}.
    """
    newest_first = sorted(times, key=times.get, reverse=True)
    found = {}
    for rule in RULES:
        period_of, seen = _PERIODS[rule], set()
        for key in newest_first:
            if len(seen) >= counts.get(rule, 0):
                break
            period = period_of(datetime.fromtimestamp(times[key][0], timezone.utc)) if period_of else key
            if period not in seen:
                seen.add(period)
                found.setdefault(key, []).append(rule)
    return found


def plan(images, governed, counts, now):
    """Return the :class:`Plan` that removes what the rules do not keep.

    ``images``: {image spec: facts with each snapshot's children, or None for one that does not exist}; ``governed(name)``: may it go;
    ``now``: seconds since 1970, for snapshots that this dry run would make. Only a user's snapshots count and go: those of groups, of
    mirroring and in Ceph's trash are none. What is protected, or has clones, or is mapped here, counts and stays.
    """
    found, names, stays = Plan(), [], []
    for head, image in sorted(images.items()):
        if image is None:
            found.refusals.append("{} does not exist, so it has no snapshots to keep.".format(head))
            continue
        items = {item["name"]: item for item in image["snapshots"] if item["type"] == "user" and governed(item["name"])}
        keep = kept({name: _age(item, now) for name, item in items.items()}, counts)
        for name, item in sorted(items.items(), key=lambda entry: _age(entry[1], now)):
            if name in keep:
                continue
            spec = "{}@{}".format(head, name)
            reason = _in_the_way(image, item)
            if reason:
                stays.append("{} stays: {}.".format(spec, reason))
                continue
            names.append(spec)
            found.changes[spec] = {"snapshot": change("present", None)}
            found.planned[("snapshot", spec)] = None
    if found.refusals:
        return Plan(changes=found.changes, refusals=found.refusals)
    if names:
        found.steps.append(("rbd_snapshot.remove", {"name": names}))
    found.notes.extend(stays[:8] + (["And {} more stay.".format(len(stays) - 8)] if len(stays) > 8 else []))
    return found


def _age(item, now):
    """Ids grow: they order the snapshots of one second. One that a dry run would make is the newest."""
    planned = item["id"] is None
    return (now, float("inf")) if planned else (item["created"], item["id"])


def _in_the_way(image, item):
    reasons = ["it is protected"] if item["protected"] else []
    reasons += ["its image is a mirror's copy"] if "non-primary" in image["features"] else []
    clones = sorted(child_name(child) for child in item.get("children", ()))
    reasons += ["these clones hang on it: {}".format(", ".join(clones))] if clones else []
    return "; ".join(reasons + list(item.get("devices", ())))
