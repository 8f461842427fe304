"""The pillar's ``postgresql:``, checked as a whole: every mistake is told before anything is touched."""

import re

from saltrbd.errors import InvalidPillar, quoted, unknown_keys
from saltrbd.postgresql import hba, passwords, systems, tuning, values

_DEFAULTS = {
    "version": "9.5",
    "source": "pgdg",
    "repository": {},
    "archive": {},
    "port": 5432,
    "listen_addresses": None,
    "memory": None,
    "processors": None,
    "settings": {},
    "pg_hba": None,
    "pg_ident": [],
    "tls": {},
    "restart": True,
    "locale": "C",
    "encoding": "UTF8",
    "data_checksums": True,
    "roles": {},
    "databases": {},
    "backup": {},
    "clean_data": False,
}
_REPOSITORY = {"url": "", "suite": "", "component": "main", "key": "", "key_hash": ""}
_ARCHIVE = {"source": "", "sha256": ""}
_TLS = {"enabled": True, "certificate": "", "key": "", "ca": ""}
_BACKUP = {"enabled": True, "folder": "/var/backups/postgresql", "calendar": "*-*-* 02:30:00", "keep_days": 14}
_ROLE = {"password": None, "login": True, "superuser": False, "createdb": False, "createrole": False, "replication": False}
_ROLE.update({"connection_limit": -1, "groups": []})
_DATABASE = {"owner": "postgres", "encoding": "", "locale": "", "extensions": []}
# These are what the other keys are for, or Salt's own means of reaching the server.
_RESERVED = {
    "port": "postgresql:port",
    "listen_addresses": "postgresql:listen_addresses",
    "ssl": "postgresql:tls:enabled",
    "ssl_cert_file": "postgresql:tls:certificate",
    "ssl_key_file": "postgresql:tls:key",
    "ssl_ca_file": "postgresql:tls:ca",
    "unix_socket_directories": "",
    "data_directory": "",
    "hba_file": "postgresql:pg_hba",
    "ident_file": "postgresql:pg_ident",
    "external_pid_file": "",
    "password_encryption": "",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEMORY = re.compile(r"([0-9]+)\s*(M|G)")
_NAME = re.compile(r"[^\0\n]{1,63}")
# Written into a unit of systemd.
_WORDS = re.compile(r"[A-Za-z0-9 :*.,/~-]+")
_FOLDER = re.compile(r"/[A-Za-z0-9_./-]+")


def read(section, grains, own=()):
    """Return what the pillar's ``postgresql:`` declares for a minion, with all that follows from it.

    ``own`` are its addresses with the length of their network, such as 192.0.2.7/24. Passwords and
    keys stay out of what is returned. Raises :class:`InvalidPillar` with every mistake.
    """
    if not isinstance(section, dict):
        raise InvalidPillar("postgresql: must be a mapping, not {}.".format(quoted(section)))
    systems.find(grains)
    unknown = unknown_keys(section, _DEFAULTS)
    wrong = ["postgresql: " + unknown] if unknown else []
    chosen = {**_DEFAULTS, **{key: value for key, value in section.items() if value is not None and key in _DEFAULTS}}
    chosen["version"] = version = str(chosen["version"])
    if version not in systems.VERSIONS:
        known = ", ".join(systems.VERSIONS)
        raise InvalidPillar("postgresql:version must be one of {}, in quotes, not {}.".format(known, quoted(section.get("version"))))
    if chosen["source"] not in systems.SOURCES:
        raise InvalidPillar("postgresql:source must be one of {}, not {}.".format(", ".join(systems.SOURCES), quoted(chosen["source"])))
    refused = systems.check(grains, version, chosen["source"])
    if refused:
        raise InvalidPillar(refused + ".")
    scram = systems.number(version) >= (10,)
    found = {key: chosen[key] for key in ("version", "source", "locale", "encoding")}
    found.update(systems.places(grains, version, chosen["source"]), scram=scram, ended=systems.ended(version))
    found.update(system=systems.name(grains), family=systems.find(grains).family)
    # Debian's packages bring tools of their own for clusters, which start them at boot too.
    found["debian_tools"] = found["family"] == "Debian" and chosen["source"] != "archive"
    for key, defaults in (("repository", _REPOSITORY), ("archive", _ARCHIVE), ("tls", _TLS), ("backup", _BACKUP)):
        chosen[key] = _section("postgresql:" + key, chosen[key], defaults, wrong)
    for key in ("restart", "data_checksums", "clean_data"):
        found[key] = _flag("postgresql:" + key, chosen[key], wrong)
    found["port"] = _whole("postgresql:port", chosen["port"], 1, 65535, wrong)
    found["repository"] = _repository(chosen, grains, version)
    found["archive"] = _archive(chosen, wrong)
    found["tls"] = _tls(chosen["tls"], found["conf_dir"], wrong)
    found["backup"] = _backup(chosen["backup"], wrong)
    rules, mistakes = hba.check(hba.LOCAL if chosen["pg_hba"] is None else chosen["pg_hba"], scram)
    wrong += mistakes
    if not found["tls"]["enabled"] and any(rule["type"] == "hostssl" for rule in rules):
        wrong.append("postgresql:pg_hba has rules of the type hostssl, and postgresql:tls:enabled is false")
    found["pg_hba"] = hba.lines(rules)
    found["pg_ident"] = _ident(chosen["pg_ident"], wrong)
    listen = hba.listen(rules, own) if chosen["listen_addresses"] is None else _list(chosen["listen_addresses"])
    found["settings"] = _settings(chosen, found, listen, grains, wrong)
    found["roles"] = _roles(chosen["roles"], wrong)
    found["databases"] = _databases(chosen["databases"], found, wrong)
    if wrong:
        raise InvalidPillar.of(wrong)
    return found


def _section(where, value, defaults, wrong):
    if not isinstance(value, dict):
        wrong.append("{} must be a mapping, not {}".format(where, quoted(value)))
        return dict(defaults)
    unknown = unknown_keys(value, defaults)
    wrong += ["{}: {}".format(where, unknown)] if unknown else []
    return {**defaults, **{key: item for key, item in value.items() if item is not None and key in defaults}}


def _flag(where, value, wrong):
    if not isinstance(value, bool):
        wrong.append("{} must be true or false, not {}".format(where, quoted(value)))
    return value is True


def _whole(where, value, least, most, wrong):
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        wrong.append("{} must be a number from {} to {}, not {}".format(where, least, most, quoted(value)))
        return least
    return value


def _list(value):
    return value if isinstance(value, list) else [value]


def _repository(chosen, grains, version):
    given = {key: value for key, value in chosen["repository"].items() if value}
    return {**_REPOSITORY, **systems.repository(grains, version), **given}


def _archive(chosen, wrong):
    given = chosen["archive"]
    if chosen["source"] != "archive":
        return given
    if not isinstance(given["source"], str) or not given["source"]:
        wrong.append("postgresql:archive:source must name the archive of binaries: salt://, https:// or a path on the minion")
    if not isinstance(given["sha256"], str) or not _SHA256.fullmatch(given["sha256"]):
        wrong.append("postgresql:archive:sha256 must be the archive's SHA-256 in 64 small hexadecimal digits")
    return given


def _tls(given, conf_dir, wrong):
    enabled = _flag("postgresql:tls:enabled", given["enabled"], wrong)
    if bool(given["certificate"]) != bool(given["key"]):
        wrong.append("postgresql:tls needs certificate and key, or neither")
    return {
        "enabled": enabled,
        "given": bool(given["certificate"]),
        "ca": conf_dir + "/salt-ca.crt" if given["ca"] else "",
        "certificate": conf_dir + "/salt-server.crt",
        "key": conf_dir + "/salt-server.key",
    }


def _backup(given, wrong):
    _flag("postgresql:backup:enabled", given["enabled"], wrong)
    _whole("postgresql:backup:keep_days", given["keep_days"], 1, 3650, wrong)
    if not isinstance(given["folder"], str) or not _FOLDER.fullmatch(given["folder"]):
        wrong.append("postgresql:backup:folder must be an absolute path, not {}".format(quoted(given["folder"])))
    if not isinstance(given["calendar"], str) or not _WORDS.fullmatch(given["calendar"]):
        wrong.append("postgresql:backup:calendar must be a calendar event of systemd, not {}".format(quoted(given["calendar"])))
    return given


def _ident(given, wrong):
    if not isinstance(given, list) or not all(isinstance(line, str) and line.isprintable() for line in given):
        wrong.append("postgresql:pg_ident must be a list of lines, not {}".format(quoted(given)))
        return []
    return given


def _settings(chosen, found, listen, grains, wrong):
    declared = chosen["settings"]
    if not isinstance(declared, dict):
        wrong.append("postgresql:settings must be a mapping, not {}".format(quoted(declared)))
        declared = {}
    for key, value in declared.items():
        mistake = values.mistake(key, value)
        if mistake:
            wrong.append("postgresql:settings: " + mistake)
        elif key in _RESERVED:
            other = " ({} says it)".format(_RESERVED[key]) if _RESERVED[key] else ""
            wrong.append("postgresql:settings: {} is set by these states themselves{}".format(key, other))
    connections = declared.get("max_connections", tuning.CONNECTIONS)
    connections = _whole("postgresql:settings:max_connections", connections, 1, 262143, wrong)
    processors = _whole("postgresql:processors", chosen["processors"] or grains.get("num_cpus") or 1, 1, 10000, wrong)
    tuned = tuning.settings(found["version"], _memory(chosen["memory"], grains, wrong), processors, connections)
    own = dict(found["settings"], port=found["port"], listen_addresses=listen, unix_socket_directories=systems.SOCKETS)
    # Version 14 made scram-sha-256 the default; on 9.x this is a switch.
    own["password_encryption"] = "scram-sha-256" if found["scram"] else "on"
    own["ssl"] = found["tls"]["enabled"]
    if found["tls"]["enabled"]:
        own.update(ssl_cert_file=found["tls"]["certificate"], ssl_key_file=found["tls"]["key"], ssl_ca_file=found["tls"]["ca"])
        modern = systems.number(found["version"]) >= (12,)
        # Older servers leave it to the list of ciphers, and their OpenSSL negotiates the newest that both sides know.
        own.update({"ssl_min_protocol_version": "TLSv1.2"} if modern else {"ssl_ciphers": "HIGH:!aNULL:!MD5:!3DES"})
    common = {"log_line_prefix": "%m [%p] %q%u@%d ", "log_timezone": "UTC", "timezone": "UTC", "dynamic_shared_memory_type": "posix"}
    return {key: values.text(value) for key, value in {**common, **tuned, **own, **declared}.items()}


def _memory(given, grains, wrong):
    """KiB."""
    if given is None:
        return int(grains.get("mem_total") or 1024) * tuning.MIB
    match = _MEMORY.fullmatch(given) if isinstance(given, str) else None
    if not match:
        wrong.append("postgresql:memory must be a size such as 512M or 4G, not {}".format(quoted(given)))
        return tuning.GIB
    return int(match.group(1)) * (tuning.GIB if match.group(2) == "G" else tuning.MIB)


def _entries(where, given, defaults, wrong):
    if not isinstance(given, dict):
        wrong.append("{} must be a mapping of names, not {}".format(where, quoted(given)))
        return
    for name, value in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            wrong.append("{}: {} is no name of at most 63 characters; put it in quotes".format(where, quoted(name)))
            continue
        yield name, _section("{}:{}".format(where, name), {} if value is None else value, defaults, wrong)


def _roles(given, wrong):
    found = {}
    for name, role in _entries("postgresql:roles", given, _ROLE, wrong):
        where = "postgresql:roles:{}".format(name)
        password = role.pop("password")
        if password is not None and passwords.mistake(password):
            wrong.append("{}:password: {}".format(where, passwords.mistake(password)))
        if name == "postgres":
            wrong.append("{}: the role postgres is Salt's own way in, by the operating system's user alone".format(where))
        for key in ("login", "superuser", "createdb", "createrole", "replication"):
            _flag("{}:{}".format(where, key), role[key], wrong)
        _whole(where + ":connection_limit", role["connection_limit"], -1, 262143, wrong)
        if not isinstance(role["groups"], list) or not all(isinstance(item, str) for item in role["groups"]):
            wrong.append("{}:groups must be a list of roles, not {}".format(where, quoted(role["groups"])))
        found[name] = dict(role, has_password=password is not None)
    return found


def _databases(given, place, wrong):
    found = {}
    for name, database in _entries("postgresql:databases", given, _DATABASE, wrong):
        where = "postgresql:databases:{}".format(name)
        for key in ("owner", "encoding", "locale"):
            if not isinstance(database[key], str):
                wrong.append("{}:{} must be a text, not {}".format(where, key, quoted(database[key])))
        if not isinstance(database["extensions"], list) or not all(isinstance(item, str) for item in database["extensions"]):
            wrong.append("{}:extensions must be a list of names, not {}".format(where, quoted(database["extensions"])))
        for key in ("encoding", "locale"):
            database[key] = database[key] or place[key]
        found[name] = database
    return found
