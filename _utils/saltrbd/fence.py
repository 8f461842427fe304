"""Locking a dead client out of the cluster, and letting it in again: the OSDs' blocklist.

A client that was only cut off may come back with its writes. The blocklist keeps them out, and drops its watch and librbd's lock at once,
where they would stay for 30 s. It never holds an address of this host: a session here may be alive, and whoever runs here is ended here.
Our own lock on the image stays. It is taken away where image and user are named, after the address that stands in it is locked out.
"""

import ipaddress
import re
from collections import namedtuple

from saltrbd import owner, users
from saltrbd.converge import Plan, change
from saltrbd.errors import InvalidArgument, quoted
from saltrbd.spec import parse

# What is meant: addresses of clients, the entries of the blocklist, a note for people; where an image was named its spec, who of its users,
# and the owner.Holder of our lock on it where that is who was named.
Found = namedtuple("Found", "addresses entries note image who held", defaults=(None, None, None, None))

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>\d{1,5})(?:/(?P<nonce>\d{1,20}))?)?")


def address_of(text):
    """Return the address as Ceph writes it, "IP:PORT/NONCE", or None for a text that is none; a bare IP is every client there (":0/0")."""
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        ip = ipaddress.ip_address(found.group("six") or found.group("four"))
    except ValueError:
        return None
    if (ip.version == 6) != bool(found.group("six")):
        return None
    shown = "[{}]".format(ip) if ip.version == 6 else str(ip)
    return "{}:{}/{}".format(shown, int(found.group("port") or 0), int(found.group("nonce") or 0))


def listed(address, entries):
    """Tell whether an address is among the entries, or its whole host."""
    return address in entries or address_of(address.rpartition(":")[0]) in entries


def planned(known):
    """Return {address: True or False (let in again)} of what a dry run would have locked out."""
    return {name: facts is not None for (kind, name), facts in dict(known).items() if kind == "fence"}


def living(watchers, known):
    """Return the watchers without those that a dry run would have locked out."""
    out = {address for address, is_out in planned(known).items() if is_out}
    return [watcher for watcher in watchers if not listed(watcher["address"], out)] if out else list(watchers)


def is_released(spec, known):
    """Tell whether a dry run would have taken our lock on the image away."""
    return dict(known).get(("lock", str(spec.head)), True) is None


def left(spec, locks, known):
    """Return the locks on an image without ours, where a dry run would have taken that away."""
    return [lock for lock in locks if lock["cookie"] != owner.LOCK] if is_released(spec, known) else list(locks)


def check(name, who, settings):
    """Return (address, None) or (None, spec of an image); raises :class:`InvalidArgument`."""
    address = address_of(name)
    if who is None and address is None:
        raise InvalidArgument(
            "{} is no address of a client such as 192.0.2.7:0/123456. To name an image, say who of its users: a host, an address "
            "or client.NUMBER (rbd_device.users shows them).".format(quoted(name))
        )
    if who is not None and (not isinstance(who, str) or not who):
        raise InvalidArgument("who must be a host's name, an address or client.NUMBER, not {}.".format(quoted(who)))
    if who is not None and address is not None:
        raise InvalidArgument("{} is an address, so who is not to be given.".format(address))
    return (address, None) if who is None else (None, parse(name, settings.pool, settings.namespace).head)


def addresses(who, using, holder):
    """Return the addresses of the users of an image that ``who`` names; pure.

    ``using``: its watchers and locks with hosts (users.named); ``holder``: the owner.Holder of our lock, or None.
    """
    found = using["watchers"] + [item for item in using["locks"] if item.get("cookie") != owner.LOCK]
    if holder and holder.facts.get("address"):
        facts = holder.facts
        found.append({"address": facts["address"], "client": facts.get("client"), "host": facts.get("host")})
    wanted = address_of(who)
    return sorted({item["address"] for item in found if wanted == item["address"] or who in (item.get("host"), _client(item))})


def _client(item):
    name = str(item.get("client"))
    return name if name.startswith("client.") else "client." + name


def look(ceph, name, who, known=()):
    """Return what was :class:`Found`: what is meant, and what is locked out already."""
    address, spec = check(name, who, ceph.settings)
    entries = set(ceph.call("blocklist_list"))
    for other, is_out in planned(known).items():
        entries = entries | {other} if is_out else entries - {other}
    if address:
        return Found([address], entries)
    image = dict(known).get(("image", str(spec)), {"id": ""})
    if image is None or image["id"] is None:
        return Found([], entries, _nobody(who, spec))  # a dry run would only make it
    image = ceph.call("image_info", spec, users=True)
    held = None if is_released(spec, known) else owner.holder(ceph, spec, image["id"])
    found = addresses(who, users.named(image, ceph.settings.host, held), held)
    note = None if found else _nobody(who, spec)
    if held and not held.facts.get("address") and held.facts.get("host") == who:
        note = "{}'s lock on {} is left by the host {}, {}".format(owner.LOCK, spec, who, owner.unnoted(spec, held))
    return Found(found, entries, note, spec, who, held if held and held.facts.get("address") in found else None)


def _nobody(who, spec):
    return "Nobody who is called {} uses {}.".format(who, spec)


def plan(found, own, seconds):
    """Return the :class:`Plan` that locks out what was :class:`Found`; ``own`` are the IP addresses of this host; pure."""
    whole = Plan(notes=[found.note] if found.note else ())
    for address in found.addresses:
        if listed(address, found.entries):
            continue
        if users.is_own(address, own):
            whole.refusals.append(
                "{} is an address of this host, and its session may be alive. End that client here instead. {}".format(address, users.DEAD)
            )
            continue
        whole.steps.append(("rbd_device.fence", {"name": address, "seconds": seconds}))
        whole.changes[address] = {"fenced": change(False, True)}
        whole.planned[("fence", address)] = {"seconds": seconds}
    if found.held and not users.is_own(found.held.facts["address"], own):
        image, facts = str(found.image), found.held.facts
        whole.steps.append(("rbd_device.fence", {"name": image, "who": found.who, "seconds": seconds}))
        whole.changes[image] = {"lock": change("held by the host {} at {}".format(facts.get("host"), facts["address"]), None)}
        whole.planned[("lock", image)] = None
    return Plan(refusals=whole.refusals) if whole.refusals else whole


def plan_undone(found):
    """Return the :class:`Plan` that lets in again what was :class:`Found`; pure."""
    whole = Plan(notes=[found.note] if found.note else ())
    for address in found.addresses:
        if address in found.entries:
            whole.steps.append(("rbd_device.unfence", {"name": address}))
            whole.changes[address] = {"fenced": change(True, False)}
            whole.planned[("fence", address)] = None
        elif listed(address, found.entries):
            whole.refusals.append("{} is locked out with its whole host; declare that address without a port.".format(address))
    return Plan(refusals=whole.refusals) if whole.refusals else whole


def seconds_of(value):
    """Return the seconds that an address stays out; raises :class:`InvalidArgument`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 10 * owner.BLOCKLIST_SECONDS:
        raise InvalidArgument("seconds must be a number from 1 to {}, not {}.".format(10 * owner.BLOCKLIST_SECONDS, quoted(value)))
    return value
