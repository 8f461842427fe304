"""What is shown of a document: what its schema knows and does not call secret. A field that it does not know may hold anything."""

from saltplatform import document
from saltplatform.schema import path

HIDDEN = "(not shown)"
ANOTHER = "(not shown, another one)"
EMPTY = "(empty)"

# A field that the schema does not know.
_FOREIGN = {"writeOnly": True}


def redacted(detail, schema):
    """Return a document with what is secret, or may be, taken out."""
    if isinstance(detail, dict) and "properties" in schema:
        known = schema["properties"]
        return {key: redacted(value, known[key]) if key in known else HIDDEN for key, value in detail.items()}
    return _value(detail, schema)


def _value(value, schema):
    if value is None or value == "":
        return EMPTY if value == "" and schema.get("writeOnly") else value
    if schema.get("writeOnly"):
        return HIDDEN
    if isinstance(value, list) and "items" in schema:
        return [_value(item, schema["items"]) for item in value]
    # An object or a list where a text should be, or an address that a user and a password may stand in.
    if isinstance(value, (dict, list)) or "properties" in schema or "items" in schema:
        return HIDDEN
    if isinstance(value, str) and "@" in value and schema.get("format") in ("http-address", "host-and-port"):
        return HIDDEN
    return value


def changes(old, new, schema):
    """Return ``{JSON path: {"old", "new"}}`` from one document to another, None for one that is not there, without what is secret."""
    before, after = _leaves(old, schema), _leaves(new, schema)
    found = {}
    # In the order of the new document; what goes comes last.
    for at in [*after, *(at for at in before if at not in after)]:
        one, other = before.get(at), after.get(at)
        if one is None or other is None or one != other:
            found[path(at)] = {"old": _shown(one), "new": _shown(other, one)}
    return found


class _Leaf:
    """One field: its value, compared as JSON has it, and how much of it is shown."""

    def __init__(self, value, schema):
        self.value, self.schema = value, schema

    def __eq__(self, other):
        return isinstance(other, _Leaf) and document.same(self.value, other.value)

    __hash__ = None


def _leaves(detail, schema, at=()):
    if detail is None and not at:
        return {}
    if not isinstance(detail, dict) or "properties" not in schema:
        return {at: _Leaf(detail, schema)}
    found = {}
    for key, value in detail.items():
        found.update(_leaves(value, schema["properties"].get(key, _FOREIGN), (*at, key)))
    return found


def _shown(leaf, before=None):
    if leaf is None:
        return None
    shown = _value(leaf.value, leaf.schema)
    return ANOTHER if shown == HIDDEN and before is not None and _value(before.value, before.schema) == HIDDEN else shown
