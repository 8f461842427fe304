"""The key of the Ceph user, read on this host as librados reads it. It goes to the caller and into no message."""

from saltrbd.doctor_files import Unreadable, configured, is_key, keyrings, option, parse, read
from saltrbd.errors import AuthenticationFailed


def key(settings):
    """Return the key of ``ceph:user`` as base64 text; raises :class:`AuthenticationFailed`, which names the files and shows nothing of
    them."""
    sections, entity = configured(settings), "client." + settings.user
    found = "" if settings.keyring else _configured(settings, sections)
    faults = []
    for path in () if found else keyrings(settings, sections):
        try:
            found = parse(read(path)[0])[0].get(entity, {}).get("key", "")
        except Unreadable as why:
            faults.append("{}: {}".format(path, why))
            continue
        faults.append("{} has no key of {}".format(path, entity))
        break  # librados takes the first file that can be read
    if found and not is_key(found):
        raise AuthenticationFailed("What this host has as the key of {} is no key of Ceph's.".format(entity))
    if not found:
        words = "No key of {} was found on this host ({}). Get the keyring by 'ceph auth get {}' on a host of the cluster, mode 0600."
        raise AuthenticationFailed(words.format(entity, "; ".join(faults), entity))
    return found


def _configured(settings, sections):
    path = option(sections, settings.user, "keyfile")
    if not path:
        return option(sections, settings.user, "key")
    try:
        return read(path)[0].strip()
    except Unreadable as why:
        raise AuthenticationFailed("The keyfile {} cannot be read ({}).".format(path, why))
