"""A network of the lab's own on this host: one bridge, and the devices of machines and nodes on it, no way out."""

import ipaddress
import json
import zlib
from collections import namedtuple
from pathlib import Path

from labkit.commands import LabError, run

# Private addresses; the first network that nothing on this host has to do with is taken.
CANDIDATES = list(ipaddress.ip_network("10.119.0.0/16").subnets(new_prefix=24))

Network = namedtuple("Network", "bridge subnet")


def plan(folder):
    """Return the :class:`Network` for the lab in ``folder``: names of its own, and addresses that nobody here uses."""
    # At most 15 characters, and not the same for another lab beside this one.
    name = f"lab{zlib.crc32(str(folder).encode()):08x}"
    taken = _taken()
    for candidate in CANDIDATES:
        if not any(candidate.overlaps(other) for other in taken):
            return Network(name, str(candidate))
    raise LabError("No network of 10.119.0.0/16 is free on this host for the lab's bridge.")


def address(network, number=0):
    """Return the host's address on the bridge (0), or the address of the machine with this number."""
    return str(ipaddress.ip_network(network.subnet)[number + 10 if number else 1])


def tap_name(network, number):
    """Return the name of a machine's tap device."""
    return f"{network.bridge}-{number}"


def up(network):
    """Make the bridge with the host's address on it, if it is not there."""
    if not _exists(network.bridge):
        run(["ip", "link", "add", network.bridge, "type", "bridge"])
    run(["ip", "addr", "replace", f"{address(network)}/24", "dev", network.bridge])
    run(["ip", "link", "set", network.bridge, "up"])


def add_tap(network, number):
    """Make a machine's tap device on the bridge, if it is not there, and return its name."""
    name = tap_name(network, number)
    if not _exists(name):
        run(["ip", "tuntap", "add", "dev", name, "mode", "tap"])
    run(["ip", "link", "set", name, "master", network.bridge, "up"])
    return name


def remove_tap(network, number):
    """Remove a machine's tap device."""
    _remove(tap_name(network, number))


def down(network):
    """Remove the bridge and every device on it."""
    for link in _links():
        if link.get("master") == network.bridge:
            _remove(link["ifname"])
    _remove(network.bridge)


def _remove(name):
    if _exists(name):
        run(["ip", "link", "delete", name])


def _exists(name):
    return Path(f"/sys/class/net/{name}").exists()


def _links():
    return json.loads(run(["ip", "-json", "link"])[1])


def _taken():
    """Return the networks of this host's addresses, routes (but the default ones) and name servers."""
    words = [line.get("dst", "") for line in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"])[1])]
    for link in json.loads(run(["ip", "-json", "-4", "addr"])[1]):
        words += [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
    for line in _lines("/etc/resolv.conf"):
        words += line.split()[1:2] if line.startswith("nameserver") else []
    return [network for network in map(_network, words) if network]


def _network(word):
    try:
        return ipaddress.IPv4Network(word, strict=False)
    except ValueError:
        return None  # "default", or an address of the other family


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
