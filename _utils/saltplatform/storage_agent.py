"""The storage agent of ``platform:agent``: what follows from the pillar for nginx, salt-api and the master; the hash of its password.

Pure but for ``hashed``, which asks openssl.
"""

import hmac
import ipaddress
import re
import secrets
from urllib.parse import urlsplit

from saltrbd import run, settings
from saltrbd.errors import InvalidPillar, quoted, unknown_keys

PORT = 8011
FOLDER = "/usr/local/lib/salt-storage-agent"
ACCOUNT = "/etc/salt/storage-agent.htpasswd"
CONF = "/etc/salt/storage-agent.nginx.conf"

# What creates, snapshots, clones and maps; nothing that removes, shrinks, formats or writes a file of the node's.
FUNCTIONS = (
    *("rbd_image.list", "rbd_image.info", "rbd_image.create"),
    *("rbd_snapshot.list", "rbd_snapshot.info", "rbd_snapshot.create", "rbd_snapshot.protect"),
    *("rbd_clone.info", "rbd_clone.create"),
    *("rbd_device.list", "rbd_device.info", "rbd_device.map", "rbd_device.unmap"),
)
KEYS = (
    *("url", "tls", "user", "password", "functions", "targets"),
    *("certificate", "key", "address", "loopback_port", "timeout", "limits"),
)
# For one address: logins and calls in a second. For all: connections at once. Bytes of a body.
LIMITS = {"logins": 1, "calls": 50, "connections": 30, "body": 65536}
# Seconds that a call may take: what runs on the minion has limits of its own (rbd:timeout is 30).
TIMEOUT = 120
MOST_CALLS, MOST_MINIONS = 10, 100

# SHA-512-crypt, which openssl writes and libpass reads. Measured: libpass 1.9.4 takes 18 ms for 20,000 rounds.
ROUNDS = 100000
OPENSSL_TIMEOUT = 30
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 200

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FUNCTION = re.compile(r"rbd_[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
# A glob of minion ids. Salt would take it as a compound matcher: no white space, nothing with @.
_TARGET = re.compile(r"[A-Za-z0-9_*?][A-Za-z0-9_.*?-]*")
_PATH = re.compile(r"/[A-Za-z0-9_./-]+")
_HASH = re.compile(r"\$6\$(rounds=[0-9]+\$)?([./A-Za-z0-9]{1,16})\$[./A-Za-z0-9]{86}")


def read(pillar):
    """Return what the agent is, as a dict for the SLS, without its password; raises :class:`InvalidPillar` with every mistake."""
    agent, wrong = _section(pillar)
    if not wrong:
        given = unknown_keys(agent, KEYS)
        wrong += ["platform:agent: " + given] if given else []
        place = _place(agent, wrong)
        _account(agent, wrong)
        functions = _list(agent, "functions", list(FUNCTIONS), _FUNCTION, "exact names of rbd_* functions, such as rbd_image.list", wrong)
        targets = _list(agent, "targets", None, _TARGET, "ids or globs of minion ids, such as node*", wrong)
        limits = _limits(agent, wrong)
        _alone(pillar, wrong)
    if wrong:
        raise InvalidPillar.of(wrong)
    found = dict(place, limits=limits, folder=FOLDER, account=ACCOUNT, conf=CONF)
    return dict(found, master=_master(agent["user"], functions, targets, found))


def account(pillar):
    """Return ``(user, password)``; raises :class:`InvalidPillar`."""
    agent, wrong = _section(pillar)
    if not wrong:
        _account(agent, wrong)
    if wrong:
        raise InvalidPillar.of(wrong)
    return agent["user"], agent["password"]


def line(user, password, present=""):
    """Return the one line of the account's file: ``present`` where it is of this user and password, else a new one with a new salt."""
    name, _, kept = present.rstrip("\n").partition(":")
    known = _HASH.fullmatch(kept)
    if name == user and known and hmac.compare_digest(hashed(password, known.group(2), known.group(1) or ""), kept):
        return present
    return "{}:{}\n".format(user, hashed(password, secrets.token_hex(8), "rounds={}$".format(ROUNDS)))


def hashed(password, salt, rounds):
    """Return SHA-512-crypt of a password; openssl gets it by stdin, so that no process list shows it."""
    argv = ["openssl", "passwd", "-6", "-stdin", "-salt", rounds + salt]
    return run.run(argv, OPENSSL_TIMEOUT, input=password + "\n").out.strip()


def _section(pillar):
    platform = settings.plain(pillar.get("platform") or {})
    agent = platform.get("agent") if isinstance(platform, dict) else None
    if not isinstance(agent, dict) or not agent:
        return {}, ["platform:agent is not in this minion's pillar, or is no mapping"]
    return agent, []


def _place(agent, wrong):
    """Return where nginx listens, with what, and where the agent behind it does."""
    tls = agent.get("tls", True)
    if not isinstance(tls, bool):
        wrong.append("platform:agent:tls must be true or false, not {}".format(quoted(tls)))
    host, port = _url(agent.get("url"), tls, wrong)
    address = agent.get("address", host if _ip(host) else "0.0.0.0")  # noqa: S104 # by a name, it may be any address of this host
    if not _ip(address):
        wrong.append("platform:agent:address must be an address of this host, not {}".format(quoted(address)))
        address = "127.0.0.1"
    files = {key: agent.get(key) for key in ("certificate", "key")} if tls else {}
    for key, path in files.items():
        if not (isinstance(path, str) and _PATH.fullmatch(path)):
            wrong.append("platform:agent:{} must be the absolute path of a PEM file on this host, not {}".format(key, quoted(path)))
    loopback_port = agent.get("loopback_port", 8010)
    if not _whole(loopback_port, 1, 65535) or loopback_port == port:
        wrong.append("platform:agent:loopback_port must be a free port of this host, not {}".format(quoted(loopback_port)))
    timeout = agent.get("timeout", TIMEOUT)
    if not _whole(timeout, 5, 3600):
        wrong.append("platform:agent:timeout must be seconds from 5 to 3600, not {}".format(quoted(timeout)))
    listen = "{}:{}".format("[{}]".format(address) if ":" in address else address, port)
    return dict(files, tls=tls, listen=[listen], loopback_port=loopback_port, timeout=timeout)


def _url(url, tls, wrong):
    """Return host and port of the agent's address."""
    scheme = "https" if tls else "http"
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = parts.port or PORT
    except ValueError:
        parts, port = urlsplit(""), PORT
    if parts.scheme in ("http", "https") and parts.scheme != scheme:
        wrong.append(
            "platform:agent:url begins with {}://, and platform:agent:tls is {}; write {}://".format(parts.scheme, str(tls).lower(), scheme)
        )
    elif not parts.hostname or parts.scheme != scheme or parts.username is not None or parts.path.strip("/") or parts.query:
        wrong.append("platform:agent:url must be {}://HOST:{}, not {}".format(scheme, PORT, quoted(url)))
    return parts.hostname or "", port


def _account(agent, wrong):
    user, password = agent.get("user"), agent.get("password")
    if not (isinstance(user, str) and _USER.fullmatch(user)):
        wrong.append("platform:agent:user must be a name of letters, digits and . _ -, not {}".format(quoted(user)))
    if not (isinstance(password, str) and password.isprintable() and SHORTEST_PASSWORD <= len(password.encode()) <= LONGEST_PASSWORD):
        # Never with its value.
        wrong.append("platform:agent:password must be one line of {} to {} bytes".format(SHORTEST_PASSWORD, LONGEST_PASSWORD))


def _list(agent, key, default, pattern, what, wrong):
    found = agent.get(key, default)
    if not (isinstance(found, list) and found and all(isinstance(item, str) and pattern.fullmatch(item) for item in found)):
        wrong.append("platform:agent:{} must be a list of {}, not {}".format(key, what, quoted(found)))
        return []
    return list(dict.fromkeys(found))


def _limits(agent, wrong):
    given = agent.get("limits") or {}
    if not isinstance(given, dict) or set(given) - set(LIMITS):
        wrong.append("platform:agent:limits can have {}, not {}".format(", ".join(LIMITS), quoted(given)))
        return LIMITS
    for key, value in given.items():
        if not _whole(value, 1, 16 * 2**20):
            wrong.append("platform:agent:limits:{} must be a whole number above 0, not {}".format(key, quoted(value)))
    return dict(LIMITS, **given)


def _alone(pillar, wrong):
    """At salt-api's own port the agent's account would have all that Salt lets a caller do beside a function: see the agent's guard."""
    api = settings.plain(pillar.get("salt_api") or {})
    if isinstance(api, dict) and api.get("external_auth"):
        wrong.append("salt_api:external_auth lets others in by salt-api, which serves the storage agent alone; leave one of both out")


def _master(user, functions, targets, agent):
    """Return the settings of the master and salt-api."""
    limits = agent["limits"]
    allowed = ["{}\\Z".format(re.escape(name)) for name in functions]
    return {
        # Not salt-api's own server: the agent's guard would not stand before that.
        "rest_cherrypy": None,
        "netapi_dirs": [FOLDER],
        "netapi_enable_clients": ["local"],
        "storage_agent": {
            "host": "127.0.0.1",
            "port": agent["loopback_port"],
            "thread_pool": limits["connections"] + 15,
            "max_request_body_size": limits["body"],
            "functions": functions,
            "targets": targets,
            "timeout": agent["timeout"],
            "most_calls": MOST_CALLS,
            "most_minions": MOST_MINIONS,
        },
        "external_auth": {"file": {"^filename": ACCOUNT, "^filetype": "htpasswd", user: [{target: allowed} for target in targets]}},
    }


def _ip(text):
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _whole(value, least, most):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
