"""What is shown of an object: all but the values of a Secret and of a container's environment."""

import json

HIDDEN = "(not shown)"
ANOTHER = "(not shown, another one)"


def leaves(item):
    """Return {path: (value, whether it is secret)} of an object; the items of a list are counted from 0."""
    found = {}
    _walk(item, (), item.get("kind") == "Secret", found)
    return found


def _walk(value, path, is_secret, found):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            _walk(inner, (*path, str(key)), is_secret, found)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            _walk(inner, (*path, str(number)), is_secret, found)
    else:
        hidden = path[:1] in (("data",), ("stringData",)) if is_secret else "env" in path[:-1] and path[-1] == "value"
        found[path] = (value, hidden)


def has_secrets(item):
    """Return whether anything of an object is not shown."""
    return any(hidden for _, hidden in leaves(item).values())


def redacted(item):
    """Return the object with what is secret taken out."""
    return _redacted(item, (), item.get("kind") == "Secret")


def _redacted(value, path, is_secret):
    if isinstance(value, dict) and value:
        return {key: _redacted(inner, (*path, str(key)), is_secret) for key, inner in value.items()}
    if isinstance(value, list) and value:
        return [_redacted(inner, (*path, str(number)), is_secret) for number, inner in enumerate(value)]
    found = {}
    _walk(value, path, is_secret, found)
    return HIDDEN if found[path][1] else value


def changes(old, new):
    """Return {path with dots: {"old", "new"}} of what differs between two objects, None for what is not there, without what is secret."""
    before, after, found = leaves(old), leaves(new), {}
    for path in [*after, *(path for path in before if path not in after)]:
        one, other = before.get(path), after.get(path)
        if one is None or other is None or json.dumps(one[0]) != json.dumps(other[0]):
            hidden = any(item and item[1] for item in (one, other))
            shown = [None if item is None else HIDDEN if hidden else item[0] for item in (one, other)]
            if hidden and one and other:
                shown[1] = ANOTHER
            found[".".join(path)] = {"old": shown[0], "new": shown[1]}
    return found
