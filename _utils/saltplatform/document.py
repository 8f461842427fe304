"""The document of a row (config_detail): made from the pillar, read from the table, and the two brought together."""

import json

from saltplatform.errors import InvalidDocument, UnreadableDocument
from saltplatform.schema import path

# What happens to fields of a stored document that the pillar does not know.
KEEP, REMOVE, REFUSE = UNKNOWN = ("keep", "remove", "refuse")


def rendered(entry, agent, ceph):
    """Return the document of a row as the pillar has it.

    ``entry``: the :class:`saltplatform.pillar.Row`'s keys, ``agent``: ``platform:agent``, ``ceph``: :class:`saltrbd.settings.Settings`.
    What the pillar does not say is left out, so that the schema tells of it by its path.
    """
    if entry["config_type"] == "mail":
        keys = ("host", "port", "security", "user", "sender", "password")
        return _given({key: entry.get(key) for key in keys})
    keyring = ceph.keyring or "/etc/ceph/ceph.client.{}.keyring".format(ceph.user)
    config = {
        "monitors": _monitors(entry.get("monitors", ceph.monitors)),
        "pool": entry.get("pool", ceph.pool),
        "user": entry.get("user", ceph.user),
        "keyring": entry.get("keyring", keyring),
        "fsType": entry.get("fs_type", ceph.fs_type),
    }
    found = {"name": entry.get("name"), "url": entry.get("url", agent.get("url")), "config": _given(config)}
    found["calamariUrl"] = entry.get("calamari_url")
    found["agent"] = _given({key: agent.get(key) for key in ("user", "password")})
    return _given(found)


def _given(values):
    return {key: value for key, value in values.items() if value is not None}


def _monitors(declared):
    """The addresses as the platform knows them: HOST:PORT of Ceph's first protocol."""
    declared = [declared] if isinstance(declared, str) else declared
    if not isinstance(declared, (list, tuple)):
        return declared
    found = []
    for item in declared:
        # Several in one text, as Ceph's own mon_host has them.
        found += item.split(",") if isinstance(item, str) and "[" not in item else [item]
    return [_monitor(item) if isinstance(item, str) else item for item in found]


def _monitor(address):
    """``v1:192.0.2.1:6789/0`` and ``[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0]`` become ``192.0.2.1:6789``; another form stays as it is."""
    inner = address[1:-1] if address.startswith("[v") and address.endswith("]") else address
    for part in inner.split(","):
        if part.startswith("v1:"):
            return part[len("v1:") :].partition("/")[0]
    return address.strip()


def read(text):
    """Return the JSON object in a text; raises :class:`UnreadableDocument`, which does not show it."""
    try:
        found = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except (ValueError, TypeError, RecursionError):
        raise UnreadableDocument("its config_detail is no JSON") from None
    if not isinstance(found, dict):
        raise UnreadableDocument("its config_detail is no JSON object")
    return found


def _no_number(_):
    raise ValueError


def _number(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError
    return value


def text(document):
    """Return a document as it is written: JSON in ASCII, whatever the database's encoding."""
    return json.dumps(document, allow_nan=False)


def same(one, other):
    """Return whether two documents say the same; ``1``, ``1.0`` and ``true`` are three things."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def merged(old, wanted, unknown=KEEP):
    """Return the wanted document with what the stored one has beside it; ``old`` is None where there is no row.

    ``unknown``: "keep" such fields, "remove" them, or "refuse": raises :class:`InvalidDocument` with the path of each.
    """
    extra = foreign(old or {}, wanted)
    if extra and unknown == REFUSE:
        wrong = [(path(parts), "is a key that the pillar does not know") for parts in extra]
        raise InvalidDocument("; ".join("{} {}".format(*defect) for defect in wrong), wrong)
    return _merged(old or {}, wanted) if unknown == KEEP else wanted


def _merged(old, wanted):
    found = {}
    for key, value in wanted.items():
        both = isinstance(value, dict) and isinstance(old.get(key), dict)
        found[key] = _merged(old[key], value) if both else value
    found.update((key, value) for key, value in old.items() if key not in wanted)
    return found


def foreign(old, wanted, at=()):
    """Return the paths, as tuples, of what a stored document has beside the wanted one."""
    found = []
    for key, value in old.items():
        if key not in wanted:
            found.append((*at, key))
        elif isinstance(value, dict) and isinstance(wanted[key], dict):
            found += foreign(value, wanted[key], (*at, key))
    return found
