"""postgresql.conf, pg_hba.conf and pg_ident.conf: what is there, what has to change, and whether the server must reload or restart.

The server itself says which setting needs a restart (``pg_settings.context``) and when it read its files last (``pg_conf_load_time``), so
a run that was interrupted between the writing and the reload is made up for by the next.
"""

import os
import re
import tempfile
import time
from collections import namedtuple

from saltrbd.errors import CommandFailed, NotConverged, Refused
from saltrbd.postgresql import archive, files, server, systems, values

# ``action`` is "", "reload" or "restart".
Plan = namedtuple("Plan", "changes action why refusals")

# Seconds until a server that was told to has read its files.
RELOAD_WAIT = 15

# What a server's log begins with.
_LEVEL = re.compile(r"^.*?\b(LOG|FATAL|ERROR|HINT|DETAIL): +")

_FACTS = """
SELECT name, reset_val AS setting, unit, vartype, context, pending_restart, sourcefile FROM pg_settings
"""
_TIMES = """
SELECT extract(epoch FROM pg_conf_load_time()) AS loaded, extract(epoch FROM pg_postmaster_start_time()) AS started
"""


def paths(place):
    """Return the path of each of the three files."""
    return {name: os.path.join(place["conf_dir"], name + ".conf") for name in ("postgresql", "pg_hba", "pg_ident")}


def found(place):
    """Return what Salt has written before: settings (a mapping), pg_hba and pg_ident (lists of lines); None for a file not Salt's."""
    texts = {name: files.read(path) for name, path in paths(place).items()}
    rest = {name: None if text is None else values.read(text) for name, text in texts.items() if name == "postgresql"}
    for name in ("pg_hba", "pg_ident"):
        ours = texts[name] is not None and texts[name].startswith(values.HEADER)
        rest[name] = texts[name][len(values.HEADER) :].splitlines() if ours else None
    return {"settings": rest["postgresql"], "pg_hba": rest["pg_hba"], "pg_ident": rest["pg_ident"]}


def live(place):
    """Return what the running server says, or None where none runs."""
    if not server.running(place["data_dir"]):
        return None
    times = server.rows(place, _TIMES)[0]
    # Before version 10 a certificate is read at the start alone; new binaries always are.
    late = [archive.marker(place)]
    if systems.number(place["version"]) < (10,):
        late += [place["tls"][key] for key in ("certificate", "key", "ca")]
    watched = [*paths(place).values(), *(place["tls"][key] for key in ("certificate", "key", "ca"))]
    return {
        # TimeZone, DateStyle and IntervalStyle are written so there; names have no case.
        "settings": {row["name"].lower(): row for row in server.rows(place, _FACTS)},
        "loaded": times["loaded"],
        "started": times["started"],
        "written": files.modified(watched),
        "replaced": files.modified(late),
    }


def plan(place, known, running):
    """Return the :class:`Plan` that leads from ``found`` and ``live`` to what the layout says."""
    changes = {}
    old, new = known["settings"], place["settings"]
    if old is None:
        changes["settings"] = {"old": None, "new": dict(new)}
    else:
        for name in sorted(set(old) | set(new)):
            if old.get(name) != new.get(name):
                changes[name] = {"old": old.get(name), "new": new.get(name)}
    for name in ("pg_hba", "pg_ident"):
        if known[name] != place[name]:
            changes[name] = {"old": known[name], "new": place[name]}
    if running is None:
        return Plan(changes, "", "", [])
    refusals, restart, reload_for = _look(place, old or {}, running)
    if restart:
        if not place["restart"]:
            return Plan(changes, "reload" if changes else "", "A restart is needed for {}".format(restart), refusals)
        return Plan(dict(changes, action="restart"), "restart", restart, refusals)
    if changes or reload_for or running["written"] > running["loaded"]:
        return Plan(dict(changes, action="reload"), "reload", "", refusals)
    return Plan(changes, "", "", refusals)


def _look(place, old, running):
    """Return ``(refusals, what a restart is needed for, settings that a reload is needed for)``."""
    rows, refusals, restart, reload_for = running["settings"], [], [], []
    for name, wanted in sorted(place["settings"].items()):
        row = rows.get(name)
        if row is None:
            if "." not in name:
                refusals.append("PostgreSQL {} has no setting {}".format(place["version"], name))
            continue
        if row["context"] == "internal":
            refusals.append("the setting {} cannot be changed".format(name))
        if values.same(row, wanted):
            continue
        if (row["sourcefile"] or "").endswith("postgresql.auto.conf"):
            refusals.append("{0} was set by ALTER SYSTEM, which wins over the file; run ALTER SYSTEM RESET {0}".format(name))
        (restart if row["context"] == "postmaster" else reload_for).append(name)
    gone = [name for name in old if name not in place["settings"]]
    restart += [name for name in gone if rows.get(name, {}).get("context") == "postmaster"]
    restart += [name for name, row in sorted(rows.items()) if row["pending_restart"] and name not in restart]
    if running["replaced"] > running["started"]:
        restart.append("certificate or binaries that are newer than the server's start")
    return refusals, ", ".join(restart), reload_for


def refused(place, text):
    """Return what the version's own server says against a postgresql.conf, or an empty text; it needs the binaries and a cluster."""
    program = os.path.join(place["bin_dir"], "postgres")
    if not os.path.exists(program) or not server.initialised(place["data_dir"]):
        return ""
    with tempfile.NamedTemporaryFile("w", prefix="salt-postgresql-", suffix=".conf") as file:
        file.write(text)
        file.flush()
        # It holds no secret, and the server's user must read it.
        os.chmod(file.name, 0o644)
        argv = [program, "-D", place["data_dir"], "-c", "config_file=" + file.name, "-C", "max_connections"]
        code, _, err = server.run(argv, server.TIMEOUT)
        said = [_LEVEL.sub("", line).replace('file "{}"'.format(file.name), "postgresql.conf").strip() for line in err.splitlines()]
    return "" if code == 0 else "; ".join(said[:3]) or "it ended with exit code {}".format(code)


def check(place, wanted):
    """Raise :class:`Refused` with every reason why the plan cannot be carried out."""
    reasons = list(wanted.refusals)
    if not reasons and wanted.changes:
        said = refused(place, values.file(place["settings"]))
        reasons += [said] if said else []
    if reasons:
        raise Refused("The configuration of PostgreSQL {} is left as it is: {}.".format(place["version"], "; ".join(reasons)))


def write(place, changes):
    """Write those of the three files that change."""
    where = paths(place)
    if set(changes) - {"pg_hba", "pg_ident", "action"}:
        files.write(where["postgresql"], values.file(place["settings"]))
    for name in ("pg_hba", "pg_ident"):
        if name in changes:
            files.write(where[name], values.HEADER + "".join(line + "\n" for line in place[name]))


def texts(place):
    """Return the texts of the three files as they are, by their paths; None for one that is not there."""
    return {path: files.read(path) for path in paths(place).values()}


def put_back(place, before):
    """Write the three files as ``texts`` found them."""
    for path, text in before.items():
        if text is not None:
            files.write(path, text)


def reload(place):
    """Let the server read its files again and wait until it has; raises :class:`CommandFailed`."""
    before = server.rows(place, _TIMES)[0]["loaded"]
    server.execute(place, "SELECT pg_reload_conf()")
    deadline = time.monotonic() + RELOAD_WAIT
    while server.rows(place, _TIMES)[0]["loaded"] <= before:
        if time.monotonic() > deadline:
            raise CommandFailed(
                "PostgreSQL on {} has not read its files again within {} s; its log says why.".format(place["data_dir"], RELOAD_WAIT)
            )
        time.sleep(0.1)


def confirm(place, restarted):
    """Look once more: every setting is what was declared, or waits for a restart that was not wished; raises :class:`NotConverged`."""
    rows = live(place)["settings"]
    wrong = []
    for name, wanted in sorted(place["settings"].items()):
        row = rows.get(name)
        if row is None or values.same(row, wanted) or (row["context"] == "postmaster" and not restarted):
            continue
        wrong.append("{} is {}, not {}".format(name, row["setting"], wanted))
    if systems.number(place["version"]) >= (10,):
        broken = server.rows(place, "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL")
        wrong += ["pg_hba.conf, line {}: {}".format(row["line_number"], row["error"]) for row in broken]
    if wrong:
        raise NotConverged("PostgreSQL {} did not take its configuration: {}.".format(place["version"], "; ".join(wrong)))
