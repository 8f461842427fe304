"""What the pillar's ``platform:`` says of the platform's database and of the rows in its table.

Its mistakes are told all at once. What a row's document lacks is told by the document's own schema, with its JSON path.
"""

import ipaddress
import re
import uuid
from collections import namedtuple

from saltrbd import settings
from saltrbd.errors import InvalidArgument, InvalidPillar, quoted, unknown_keys

from saltplatform import document, schema, table

# What the platform's parts read; each knows its own keys.
SECTIONS = ("database", "settings", "agent", "contact_groups", "alerts")

# ``place``: how the database is reached. ``rows``: [Row]. ``own``: the database's name in ``postgresql:`` of the same pillar, or empty.
Platform = namedtuple("Platform", "place table rows own")
# ``detail``: the document; ``schema``: what it must fit.
Row = namedtuple("Row", "config_type id name detail schema")
# ``schema_name`` is empty where the server's search_path decides. ``extra`` is the name of the fifth column, which stays empty.
Table = namedtuple("Table", "schema_name name extra")

_DATABASE = {
    "host": "127.0.0.1",
    "port": None,
    "dbname": "platform",
    "user": None,
    "password": None,
    "sslmode": None,
    "sslrootcert": None,
    "table": "tenx_configs",
    "extra_column": "remark",
}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_KEYS = {
    "rbd": ("id", "name", "fs_type", "calamari_url", "url", "monitors", "pool", "user", "keyring"),
    "mail": ("id", "name", "host", "port", "security", "user", "password", "sender"),
}
# What PostgreSQL takes without quotes, so that everybody else reads the same name.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def read(opts, pillar):
    """Return the :class:`Platform` of ``__opts__`` and ``__pillar__``; raises :class:`InvalidPillar` with every mistake."""
    section = settings.plain(pillar.get("platform"))
    section = {} if section is None else section
    if not isinstance(section, dict):
        raise InvalidPillar("platform: must be a mapping.")
    wrong = []
    _unknown("platform", section, SECTIONS, wrong)
    agent = _mapping("platform:agent", section.get("agent"), wrong)
    _agent(agent, wrong)
    server = settings.plain(pillar.get("postgresql") or {})
    place, table, own = _database(section.get("database"), server if isinstance(server, dict) else {}, wrong)
    rows = _rows(section.get("settings"), agent, settings.load(opts, pillar), wrong)
    if wrong:
        raise InvalidPillar.of(wrong)
    return Platform(place, table, rows, own)


def find(platform, name, config_type):
    """Return the declared :class:`Row` of this id or name; raises :class:`InvalidArgument`."""
    check_type(config_type)
    wanted = identity(name) or name
    found = [row for row in platform.rows if row.config_type == config_type and wanted in (row.id, row.name)]
    if not found:
        raise InvalidArgument("platform:settings:{} declares no row whose id or name is {}.".format(config_type, quoted(name)))
    return found[0]


def key(platform, name, config_type):
    """Return the id of a row that need not be declared: ``name`` is its id, or the name of a declared one."""
    return identity(name) or find(platform, name, config_type).id


def check_type(config_type):
    """Raise :class:`InvalidArgument` for a type of rows that is not known."""
    if config_type not in schema.TYPES:
        raise InvalidArgument("config_type must be one of {}, not {}.".format(", ".join(schema.TYPES), quoted(config_type)))


def identity(text):
    """Return an id as PostgreSQL writes it, or an empty text for what is no UUID."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", text):
        return ""
    return str(uuid.UUID(text))


def loopback(host):
    """Return whether a host is this one: by name, by address, or a folder with the server's socket."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _mapping(where, value, wrong):
    if value is not None and not isinstance(value, dict):
        # Not shown: what stands where a password's mapping should be may be the password.
        wrong.append("{} must be a mapping".format(where))
        return {}
    return value or {}


def _unknown(where, found, known, wrong):
    told = unknown_keys(found, known)
    if told:
        wrong.append("{}: {}".format(where, told))


def _agent(agent, wrong):
    """The agent's own keys are its own part's; here counts what goes into a row."""
    url, tls = agent.get("url"), agent.get("tls", True)
    if not isinstance(tls, bool):
        wrong.append("platform:agent:tls must be true or false, not {}".format(quoted(tls)))
    elif isinstance(url, str) and url.startswith("http://") and tls:
        wrong.append("platform:agent:url begins with http://, and platform:agent:tls is not false; write https://")
    elif isinstance(url, str) and url.startswith("https://") and not tls:
        wrong.append("platform:agent:url begins with https://, and platform:agent:tls is false; write http://")


def _database(given, server, wrong):
    given = _mapping("platform:database", given, wrong)
    _unknown("platform:database", given, _DATABASE, wrong)
    chosen = {**_DATABASE, **{name: value for name, value in given.items() if value is not None and name in _DATABASE}}
    for name in ("host", "dbname", "user", "sslmode", "sslrootcert", "table", "extra_column"):
        if chosen[name] is not None and not (isinstance(chosen[name], str) and chosen[name] and chosen[name].isprintable()):
            wrong.append("platform:database:{} must be one line of text, not {}".format(name, quoted(chosen[name])))
            chosen[name] = _DATABASE[name]
    here = loopback(chosen["host"])
    declared = _section(_section(server, "databases"), chosen["dbname"])
    own = chosen["dbname"] if here and chosen["dbname"] in _section(server, "databases") else ""
    chosen["user"] = chosen["user"] or (declared.get("owner") if own else None) or "platform"
    if chosen["password"] is None and here:
        chosen["password"] = _section(_section(server, "roles"), chosen["user"]).get("password")
    password = chosen["password"]
    if password is not None and not (isinstance(password, str) and password and "\0" not in password):
        wrong.append("platform:database:password must be a text that is not empty; put it in quotes")
    if chosen["port"] is None:
        chosen["port"] = server.get("port", 5432) if here else 5432
    if isinstance(chosen["port"], bool) or not isinstance(chosen["port"], int) or not 1 <= chosen["port"] <= 65535:
        wrong.append("platform:database:port must be a number from 1 to 65535, not {}".format(quoted(chosen["port"])))
    chosen["sslmode"] = chosen["sslmode"] or ("prefer" if here else "verify-full")
    if chosen["sslmode"] not in _SSL_MODES:
        wrong.append("platform:database:sslmode must be one of {}, not {}".format(", ".join(_SSL_MODES), quoted(chosen["sslmode"])))
    place = {name: chosen[name] for name in ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert")}
    return place, _table(chosen, wrong), own


def _section(mapping, name):
    found = mapping.get(name)
    return found if isinstance(found, dict) else {}


def _table(chosen, wrong):
    parts = chosen["table"].split(".")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        wrong.append("platform:database:table must be a name in small letters, or SCHEMA.NAME, not {}".format(quoted(chosen["table"])))
    if not _NAME.fullmatch(chosen["extra_column"]):
        wrong.append("platform:database:extra_column must be a name in small letters, not {}".format(quoted(chosen["extra_column"])))
    elif chosen["extra_column"] in table.NAMES:
        wrong.append("platform:database:extra_column must be a name that no other column has")
    return Table("" if len(parts) == 1 else parts[0], parts[-1], chosen["extra_column"])


def _rows(given, agent, ceph, wrong):
    found, seen = [], set()
    given = _mapping("platform:settings", given, wrong)
    _unknown("platform:settings", given, schema.TYPES, wrong)
    for config_type in schema.TYPES:
        entries = given.get(config_type)
        entries = [] if entries is None else entries
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            wrong.append("platform:settings:{} must be a list of mappings".format(config_type))
            continue
        for number, entry in enumerate(entries):
            where = "platform:settings:{}[{}]".format(config_type, number)
            _unknown(where, entry, _KEYS[config_type], wrong)
            for taken in _names(where, entry, wrong):
                if (config_type, taken) in seen:
                    wrong.append("{}: another row of the type {} is {} already".format(where, config_type, quoted(taken)))
                seen.add((config_type, taken))
            found.append(_row(config_type, entry, agent, ceph))
    return found


def _names(where, entry, wrong):
    """Yield the id and the name of an entry, which must be nobody else's."""
    if identity(entry.get("id")):
        yield identity(entry["id"])
    else:
        wrong.append("{}:id must be a UUID such as 5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10, not {}".format(where, quoted(entry.get("id"))))
    name = entry.get("name")
    if isinstance(name, str) and identity(name):
        wrong.append("{}:name must not look like an id".format(where))
    elif isinstance(name, str):
        yield name


def _row(config_type, entry, agent, ceph):
    name = entry.get("name")
    detail = document.rendered(dict(entry, config_type=config_type), agent, ceph)
    return Row(config_type, identity(entry.get("id")), name if isinstance(name, str) else "", detail, schema.of(config_type, ceph.pool))
