"""What may stand in the configuration of a master or minion: the types that Salt wants, and nothing that opens the site.

Pure: the facts about this host come in.
"""

import ipaddress
import os
from collections import namedtuple

from saltrbd.errors import quoted

# Settings of a master that let anybody in, or let anybody read the keys.
OPENS = {
    "auto_accept": "every minion that comes would be accepted",
    "open_mode": "every key would be accepted, also a forged one",
    "permissive_pki_access": "others could read the master's keys",
}
# Folders that no file server may show to minions.
HIDDEN = ("pillar", "tests")

# ``valid``: Salt's own table {key: type or types}; ``addresses``: this host's; ``is_dir`` tells whether a path is a folder.
Facts = namedtuple("Facts", "valid addresses is_dir")


def mistakes(daemon, settings, facts):
    """Return one sentence for each setting with which a ``master`` or ``minion`` must not run."""
    nameless = [key for key in settings if not isinstance(key, str)]
    found = ["{} is no name of a setting; put it in quotes.".format(quoted(key)) for key in sorted(nameless, key=quoted)]
    found += [_wrong_type(key, settings[key], facts.valid[key]) for key in sorted(set(settings) & set(facts.valid))]
    if daemon == "master" and not any(found):
        found += _open(settings) + _interface(settings, facts) + _roots(settings, facts)
    return [sentence for sentence in found if sentence]


def _wrong_type(key, value, wanted):
    types = tuple(_flat(wanted))
    if value is None and None in types:
        return None
    types = tuple(item for item in types if isinstance(item, type))
    if isinstance(value, bool):
        right = bool in types
    elif isinstance(value, int) and float in types:
        right = True
    else:
        right = isinstance(value, types)
    if right:
        return None
    names = " or ".join(sorted(item.__name__ for item in types))
    # The value itself may be a secret.
    return "{} must be {}, not {}.".format(key, names, type(value).__name__)


def _flat(wanted):
    if isinstance(wanted, tuple):
        return [item for part in wanted for item in _flat(part)]
    return [wanted]


def _open(settings):
    return ["{} is true: {}.".format(key, why) for key, why in sorted(OPENS.items()) if settings.get(key)]


def _interface(settings, facts):
    text = settings.get("interface", "0.0.0.0")  # noqa: S104 # Salt's own default
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ["interface must be an address of this host or 0.0.0.0, not {}.".format(quoted(text))]
    if address.is_unspecified or address.is_loopback or text in facts.addresses:
        return []
    return ["interface is {}, which is no address of this host; it has {}.".format(text, ", ".join(sorted(facts.addresses)))]


def _roots(settings, facts):
    found = [
        "{}:{} must be a list of folders, not {}.".format(key, _shown(name), quoted(paths))
        for key in ("file_roots", "pillar_roots")
        for name, paths in (settings.get(key) or {}).items()
        if not isinstance(paths, (list, tuple)) or not all(isinstance(path, str) for path in paths)
    ]
    if found:
        return found
    served = _paths(settings.get("file_roots"))
    secret = _paths(settings.get("pillar_roots"))
    for key, paths in (("file_roots", served), ("pillar_roots", secret)):
        found += ["{} names {}, which is no folder.".format(key, path) for path in paths if not facts.is_dir(path)]
    for root in served:
        for path in secret:
            if _inside(path, root) or _inside(root, path):
                found.append("file_roots names {}: every minion could read the pillar in {}.".format(root, path))
        for name in HIDDEN:
            if facts.is_dir(os.path.join(root, name)):
                found.append("file_roots names {}: every minion could read what is in its folder {}.".format(root, name))
    return found


def _shown(name):
    return name if isinstance(name, str) else quoted(name)


def _paths(roots):
    return [path for paths in (roots or {}).values() for path in paths]


def _inside(path, root):
    path, root = os.path.normpath(path), os.path.normpath(root)
    return path == root or path.startswith(root.rstrip("/") + "/")
