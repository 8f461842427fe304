"""Roles of a server: read, compared with what is declared, changed. A password is known by what the server keeps of it."""

from saltrbd.errors import Refused
from saltrbd.postgresql import passwords, server

# The attributes of a role, and the words of CREATE ROLE and ALTER ROLE for them.
ATTRIBUTES = {
    "login": ("rolcanlogin", "LOGIN"),
    "superuser": ("rolsuper", "SUPERUSER"),
    "createdb": ("rolcreatedb", "CREATEDB"),
    "createrole": ("rolcreaterole", "CREATEROLE"),
    "replication": ("rolreplication", "REPLICATION"),
}

_QUERY = """
SELECT rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolconnlimit, rolpassword,
       ARRAY(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = a.oid ORDER BY 1) AS groups
  FROM pg_authid a WHERE rolname = {}
"""


def find(place, name):
    """Return the facts of a role, with ``stored`` for its password, or None."""
    rows = server.rows(place, _QUERY.format(server.literal(name)))
    if not rows:
        return None
    row = rows[0]
    known = {key: row[column] for key, (column, _) in ATTRIBUTES.items()}
    return dict(known, connection_limit=row["rolconnlimit"], groups=row["groups"], stored=row["rolpassword"])


def plan(place, name, declared, password, known):
    """Return the changes; a password is managed where one is declared, and never shown. ``known`` is None for a role to be made."""
    changes = {}
    for key, value in declared.items():
        old = known[key] if known else None
        if old != (sorted(value) if key == "groups" else value):
            changes[key] = {"old": old, "new": value}
    if password is not None and (known is None or not passwords.matches(known["stored"], name, password, place["scram"])):
        method = "scram-sha-256" if place["scram"] else "md5"
        changes["password"] = {"old": "another" if known and known["stored"] else None, "new": "as declared ({})".format(method)}
    return changes


def statements(place, name, declared, password, known, changes):
    """Return the statements of a plan, each to be carried out in one transaction with the others."""
    role = server.identifier(name)
    words = [("" if declared[key] else "NO") + word for key, (_, word) in ATTRIBUTES.items() if key in declared]
    if "connection_limit" in declared:
        words.append("CONNECTION LIMIT {:d}".format(declared["connection_limit"]))
    if "password" in changes:
        words.append("ENCRYPTED PASSWORD " + server.literal(passwords.make(name, password, place["scram"])))
    rest = ["{} ROLE {} {}".format("ALTER" if known else "CREATE", role, " ".join(words))] if words else []
    before, after = set(known["groups"] if known else ()), set(declared.get("groups", ()))
    if "groups" in declared:
        rest += ["GRANT {} TO {}".format(server.identifier(group), role) for group in sorted(after - before)]
        rest += ["REVOKE {} FROM {}".format(server.identifier(group), role) for group in sorted(before - after)]
    return rest


def apply(place, lines):
    """Carry statements out together, or none of them."""
    server.execute(place, "BEGIN;\n" + ";\n".join(lines) + ";\nCOMMIT")


def check_there(place, names, expected):
    """Raise :class:`Refused` for a role that is neither there nor ``expected`` from an earlier state of this run."""
    if not names:
        return
    there = {row["rolname"] for row in server.rows(place, "SELECT rolname FROM pg_roles")}
    missing = sorted(set(names) - there - set(expected))
    if missing:
        raise Refused("It names roles that do not exist: {}. Declare them in postgresql:roles.".format(", ".join(missing)))
