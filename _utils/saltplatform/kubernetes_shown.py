"""What is shown of an object: of a Secret only what it is, of others all but the values of a container's environment."""

import json

HIDDEN = "(not shown)"
ANOTHER = "(not shown, another one)"
# Annotations are not among it: kubectl keeps the whole object in one of them.
_OF_A_SECRET = (("apiVersion",), ("kind",), ("type",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "labels"))


def leaves(item, as_secret=False):
    """Return {path: (value, whether it is secret)} of an object; a list's items are counted from 0. ``as_secret``: whatever its kind."""
    found = {}
    _walk(item, (), as_secret or item.get("kind") == "Secret", found)
    return found


def _walk(value, path, is_secret, found):
    inner = _inner(value)
    for key, item in inner:
        _walk(item, (*path, str(key)), is_secret, found)
    if not inner:
        found[path] = (value, _hidden(path, is_secret))


def _inner(value):
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []


def _hidden(path, is_secret):
    if is_secret:
        return not any(path[: len(known)] == known for known in _OF_A_SECRET)
    return "env" in path and "value" in path[path.index("env") :]


def has_secrets(item):
    """Return whether anything of an object is not shown."""
    return any(hidden for _, hidden in leaves(item).values())


def redacted(item):
    """Return the object with what is secret taken out."""
    return _redacted(item, (), item.get("kind") == "Secret")


def _redacted(value, path, is_secret):
    inner = [(key, _redacted(item, (*path, str(key)), is_secret)) for key, item in _inner(value)]
    if inner:
        return dict(inner) if isinstance(value, dict) else [item for _, item in inner]
    return HIDDEN if _hidden(path, is_secret) else value


def changes(old, new, key=""):
    """Return {path with dots: {"old", "new"}} of what differs between two objects, None for what is not there, without what is secret.

    What holds the ``key`` is not shown wherever it stands: the old one may have been written by anybody.
    """
    secret = "Secret" in (old.get("kind"), new.get("kind"))
    before, after, found = leaves(old, secret), leaves(new, secret), {}
    for path in [*after, *(path for path in before if path not in after)]:
        one, other = before.get(path), after.get(path)
        if one is None or other is None or json.dumps(one[0], default=str) != json.dumps(other[0], default=str):
            hidden = any(item and (item[1] or (key and key in str(item[0]))) for item in (one, other))
            shown = [None if item is None else HIDDEN if hidden else item[0] for item in (one, other)]
            if hidden and one and other:
                shown[1] = ANOTHER
            name = ".".join(path)
            found[HIDDEN if key and key in name else name] = {"old": shown[0], "new": shown[1]}
    return found
