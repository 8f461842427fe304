"""Who uses an image, for people: the address of a client, and the name of its host where that is known without asking anybody.

A name comes from our own lock on the image, from this host's own addresses and from ``/etc/hosts``. The DNS is never asked: a question
to a server that does not answer would hang the run.
"""

import ipaddress
import os

# Said where a user stands in the way: the cluster itself cannot tell a dead client from a silent one any earlier.
DEAD = "A client that has died is in use for about 30 s more, until its watch times out."

# Said where our lock of another host stands in the way: a lock does not go with its holder.
FENCED = "A host that is dead is locked out, and its lock taken away, by rbd_device.fenced with the image and who: {}."

_LOCAL = ("127.", "::1")


def ip_of(address):
    """Return the IP address of Ceph's "IP:PORT/NONCE" or "[IP]:PORT/NONCE"."""
    text = address.partition("/")[0]
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] or text


def hosts_of(text):
    """Return {IP: host name} of the text of a hosts file; loopback addresses name nobody."""
    found = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and not words[0].startswith(_LOCAL):
            found.setdefault(words[0], words[1])
    return found


def own_addresses(proc="/proc/net"):
    """Return the IP addresses of this host, as the kernel lists them."""
    found = set()
    last = ""
    for line in _read(os.path.join(proc, "fib_trie")).splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[1:3] == ["host", "LOCAL"]:
            found.add(last)
    for line in _read(os.path.join(proc, "if_inet6")).splitlines():
        found.add(_short(line.split()[0]))
    return found


def _short(digits):
    """Return 32 hexadecimal digits as an IPv6 address in the short form that Ceph writes."""
    return str(ipaddress.IPv6Address(int(digits, 16)))


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def is_own(address, own):
    """Tell whether an address belongs to this host, whose addresses are ``own``."""
    ip = ip_of(address)
    return ip in own or ip.startswith(_LOCAL)


def named(found, host, holder=None):
    """Add ``host`` (a name or None) to each of the ``watchers`` and ``locks`` of an image, and return ``found``.

    ``host`` is this host's own name, ``holder`` the owner.Holder of our lock on the image.
    """
    own, file = own_addresses(), hosts_of(_read("/etc/hosts"))
    facts = holder.facts if holder else {}
    for item in found["watchers"] + found["locks"]:
        if facts.get("address") and item["address"] == facts["address"]:
            item["host"] = facts.get("host")
        elif is_own(item["address"], own):
            item["host"] = host or None
        else:
            item["host"] = file.get(ip_of(item["address"]))
    return found


def hints(facts):
    """Return what to do about the users of an image with these facts (owner.annotate), as sentences, each after a space."""
    told = [DEAD] if facts["watchers"] else []
    told += [FENCED.format(lock["host"]) for lock in facts["locks"] if lock.get("elsewhere")]
    return "".join(" " + sentence for sentence in told)


def words(watcher):
    """Return a watcher in words: "192.0.2.7:0/1 (client.4711, host db2)"."""
    at = ", host {}".format(watcher["host"]) if watcher.get("host") else ""
    return "{} (client.{}{})".format(watcher["address"], watcher["client"], at)


def lock_words(lock):
    """Return an advisory lock in words."""
    at = ", host {}".format(lock["host"]) if lock.get("host") else ""
    return "{} ({}, {}{})".format(lock["address"], lock["client"], lock["cookie"], at)
