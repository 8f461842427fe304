"""The server on a data folder: whether it runs, and statements to it as the operating system's user postgres.

Statements go in by psql's standard input and never by arguments, which every user of the host could read.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
from collections import namedtuple

from saltrbd.errors import CommandNotFound, CommandTimeout, QueryFailed, ServerNotRunning

USER = "postgres"

# Seconds that a statement may take; all of them read or change catalogs.
TIMEOUT = 60

# ``pid`` and when it was started (seconds since 1970), and where its socket lies.
Server = namedtuple("Server", "pid started port socket")

# The server's programs have these names, also those of 9.5.
_NAMES = ("postgres", "postmaster")
_PASSWORD = re.compile(r"PASSWORD\s+'[^']*'?|SCRAM-SHA-256\S*|md5[0-9a-f]{32}", re.IGNORECASE)


def running(data_dir):
    """Return the :class:`Server` that runs on a data folder, or None."""
    try:
        with open(os.path.join(data_dir, "postmaster.pid")) as file:
            pid, _, started, port, socket = [line.strip() for line in file.readlines()[:5]]
        with open("/proc/{}/comm".format(int(pid))) as file:
            name = file.read().strip()
    except (OSError, ValueError):
        return None
    return Server(int(pid), int(started), int(port), socket) if name in _NAMES else None


def initialised(data_dir):
    """Return the version of the cluster in a data folder, or an empty text where there is none."""
    try:
        with open(os.path.join(data_dir, "PG_VERSION")) as file:
            return file.read().strip()
    except OSError:
        return ""


def identifier(name):
    """Return a name for a statement. A zero byte cannot be in one."""
    return '"{}"'.format(name.replace('"', '""'))


def literal(text):
    """Return a text for a statement, where standard_conforming_strings is on."""
    return "'{}'".format(text.replace("'", "''"))


def rows(place, sql, database="postgres", timeout=TIMEOUT):
    """Return what a query gives, as a list of mappings."""
    answer = execute(place, "SELECT coalesce(json_agg(r), '[]') FROM ({}) AS r".format(sql), database, timeout)  # noqa: S608 quoted by its maker
    return json.loads(answer)


def execute(place, sql, database="postgres", timeout=TIMEOUT):
    """Carry out statements and return what psql prints; ``place`` is the ``layout`` of the pillar.

    Raises :class:`ServerNotRunning`, :class:`QueryFailed`, :class:`CommandTimeout` or :class:`CommandNotFound`.
    """
    found = running(place["data_dir"])
    if not found:
        raise ServerNotRunning("No PostgreSQL runs on {}; start the unit {}.".format(place["data_dir"], place["service"]))
    argv = [client(place["bin_dir"]), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password", "--set=ON_ERROR_STOP=1"]
    argv += [
        "--host=" + (found.socket or "localhost"),
        "--port={}".format(found.port),
        "--username=" + USER,
        "--dbname=" + database,
        "--file=-",
    ]
    # What is a secret stays out of the server's log, also when the statement fails.
    quiet = "SET standard_conforming_strings = on; SET log_statement = 'none'; SET log_min_error_statement = 'panic';\n"
    code, out, err = run(argv, timeout, quiet + sql + ";\n", database)
    if code == 2:
        raise ServerNotRunning("PostgreSQL on {} does not answer: {}".format(place["data_dir"], _said(err)))
    if code:
        raise QueryFailed("PostgreSQL on {}, database {}, refused: {}".format(place["data_dir"], database, _said(err)))
    return out


def client(bin_dir):
    """Return the path of psql: the version's own, else the system's."""
    own = os.path.join(bin_dir, "psql")
    found = own if os.access(own, os.X_OK) else shutil.which("psql")
    if not found:
        raise CommandNotFound("There is no psql on this node; Debian has it in postgresql-client, the RHEL family in postgresql.")
    return found


def run(argv, timeout, stdin="", what="", user=USER):
    """Run a program as a user of the operating system; return ``(exit code, stdout, stderr)``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LD_", "PYTHON"))}
    env = dict(kept, LC_ALL="C", PGCONNECT_TIMEOUT="10", PGAPPNAME="salt", HOME="/", PATH=_path())
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            errors="replace",
            env=env,
            cwd="/",
            preexec_fn=_become(user),
        )
    except FileNotFoundError:
        raise CommandNotFound("The program {} is not on this node.".format(argv[0])) from None
    try:
        out, err = child.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        raise CommandTimeout("{} {} did not end within {} s and was ended.".format(argv[0], what, timeout).replace("  ", " ")) from None
    return child.returncode, out, err


def _path():
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def _become(user):
    if os.geteuid() != 0 or user == "root":
        return None
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise CommandNotFound("There is no user {} on this node.".format(user)) from None
    groups = os.getgrouplist(user, account.pw_gid)

    def become():
        os.setgroups(groups)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)

    return become


def _said(err):
    """The first words of psql's complaint; the statement itself may hold a secret."""
    lines = [line.strip() for line in err.splitlines() if line.strip() and "LINE " not in line]
    lines = [line.split("ERROR:", 1)[-1].split("FATAL:", 1)[-1].strip() for line in lines]
    return _PASSWORD.sub("PASSWORD ...", (lines or ["it said nothing"])[0])
