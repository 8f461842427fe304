"""``pg_hba.conf`` from data: who may connect from where, and which addresses the server has to listen on for that."""

import ipaddress
import re

from saltrbd.errors import quoted, unknown_keys

# Salt, backups and the operating system's user postgres come by this line, so it is always the first.
OWN = {"type": "local", "database": "all", "user": "postgres", "method": "peer"}

# Where the pillar says nothing: passwords over TLS, on this host only.
LOCAL = [
    {"type": "local", "database": "all", "user": "all", "method": "peer"},
    {"type": "hostssl", "database": "all", "user": "all", "address": "127.0.0.1/32"},
    {"type": "hostssl", "database": "all", "user": "all", "address": "::1/128"},
]

TYPES = ("local", "host", "hostssl", "hostnossl")
METHODS = ("reject", "md5", "scram-sha-256", "peer", "ident", "cert", "ldap", "radius", "pam", "gss", "sspi", "trust", "password")
NEVER = {
    "trust": "lets everybody in without a password",
    "password": "sends passwords in clear text",
}
_KEYS = {"type", "database", "user", "address", "method", "options"}
_NAMED = ("all", "samehost", "samenet")
_PLAIN = re.compile(r"[A-Za-z0-9_.+@-]+")
_HOST = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def check(rules, scram):
    """Return ``(rules, mistakes)``: every rule with all its keys, in order, and a sentence for each that is wrong.

    ``scram`` says whether the server knows scram-sha-256; it is the method of a rule that names none, else md5 is.
    """
    if not isinstance(rules, list):
        return [], ["postgresql:pg_hba must be a list of rules, not {}".format(quoted(rules))]
    found, wrong = [OWN], []
    for place, rule in enumerate(rules, 1):
        mistake = _mistake(rule, scram)
        if mistake:
            wrong.append("postgresql:pg_hba, rule {}: {}".format(place, mistake))
            continue
        method = rule.get("method") or ("scram-sha-256" if scram else "md5")
        complete = {"database": "all", "user": "all", **rule, "method": method}
        if complete != OWN:
            found.append(complete)
    return found, wrong


def _mistake(rule, scram):
    if not isinstance(rule, dict):
        return "it must be a mapping, not {}".format(quoted(rule))
    unknown = unknown_keys(rule, _KEYS)
    if unknown:
        return unknown
    if rule.get("type") not in TYPES:
        return "type must be one of {}, not {}".format(", ".join(TYPES), quoted(rule.get("type")))
    method = rule.get("method")
    if method is not None and method not in METHODS:
        return "there is no method {}".format(quoted(method))
    if method in NEVER:
        return "the method {} {}; it is not used here".format(method, NEVER[method])
    if method == "scram-sha-256" and not scram:
        return "scram-sha-256 came with PostgreSQL 10; the method here is md5"
    if rule["type"] == "local" and "address" in rule:
        return "a rule of the type local has no address"
    if rule["type"] == "local" and method is None:
        return "a rule of the type local must name its method, for instance peer"
    if rule["type"] != "local" and not _address(rule.get("address")):
        return "address must be a network such as 192.0.2.0/24, a host name, all, samehost or samenet, not {}".format(
            quoted(rule.get("address"))
        )
    if rule["type"] != "local" and method == "peer":
        return "the method peer is for rules of the type local"
    for key in ("database", "user"):
        names = rule.get(key, "all")
        if not _names(names):
            return "{} must be a name or a list of names, not {}".format(key, quoted(names))
    options = rule.get("options") or {}
    if not isinstance(options, dict) or not all(_line(item) for pair in options.items() for item in pair):
        return "options must be a mapping of words"
    return ""


def _line(value):
    return isinstance(value, str) and value.isprintable() and '"' not in value


def _names(value):
    return value != [] and all(_line(item) and item for item in (value if isinstance(value, list) else [value]))


def _address(text):
    if text in _NAMED:
        return True
    return isinstance(text, str) and (_network(text) is not None or ("/" not in text and bool(_HOST.fullmatch(text))))


def _network(text):
    try:
        # A network with bits of a host set is a mistake that PostgreSQL would pass over.
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def lines(rules):
    """Return the lines of the file for checked rules."""
    rows = []
    for rule in rules:
        options = " ".join('{}="{}"'.format(key, value) for key, value in sorted((rule.get("options") or {}).items()))
        words = [rule["type"], _words(rule["database"]), _words(rule["user"]), rule.get("address", ""), rule["method"], options]
        rows.append("  ".join(word for word in words if word))
    return rows


def _words(value):
    return ",".join(item if _PLAIN.fullmatch(item) else '"{}"'.format(item) for item in (value if isinstance(value, list) else [value]))


def listen(rules, own):
    """Return the addresses to listen on so that those whom the rules name can connect, and no other.

    ``own`` are this host's addresses with the length of their network, such as 192.0.2.7/24. Whoever is in the network of one of them comes
    in by that address; for one behind a router, a host name or ``all`` it has to be every address. ``localhost`` is always there.
    """
    wanted = {"localhost"}
    for rule in rules:
        address = rule.get("address")
        if address is None or rule["method"] == "reject" or address == "samehost":
            continue
        network = _network(address)
        if network is not None and network.is_loopback:
            continue
        near = _near(network, own) if network is not None and network.prefixlen else []
        if not near:
            return ["*"]
        wanted.update(near)
    return ["localhost", *sorted(wanted - {"localhost"})]


def _near(network, own):
    """This host's addresses from whose own networks the whole named network is reached."""
    interfaces = [item for item in map(ipaddress.ip_interface, own) if item.version == network.version]
    interfaces = [item for item in interfaces if not (item.is_loopback or item.is_link_local)]
    return [str(item.ip) for item in interfaces if network.subnet_of(item.network)]
