"""Databases of a server with their owners and extensions. Encoding and locale are chosen when one is made, for ever."""

from saltrbd.errors import Refused
from saltrbd.postgresql import server

_QUERY = """
SELECT datname, pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, datcollate AS locale
  FROM pg_database WHERE datname = {}
"""


def find(place, name):
    """Return the facts of a database (owner, encoding, locale, extensions), or None."""
    rows = server.rows(place, _QUERY.format(server.literal(name)))
    if not rows:
        return None
    there = server.rows(place, "SELECT extname FROM pg_extension ORDER BY 1", name)
    return {**{key: rows[0][key] for key in ("owner", "encoding", "locale")}, "extensions": [row["extname"] for row in there]}


def available(place):
    """Return the names of the extensions that are installed on this node."""
    return {row["name"] for row in server.rows(place, "SELECT name FROM pg_available_extensions")}


def plan(name, declared, known, offered):
    """Return the changes; ``offered`` are the extensions that can be had, None where that is not known yet.

    Raises :class:`Refused` for what cannot be. An extension that is not declared stays.
    """
    wrong = []
    if known:
        for key in ("encoding", "locale"):
            if declared[key].lower().replace("-", "") != known[key].lower().replace("-", ""):
                wrong.append("its {} is {} and cannot become {}".format(key, known[key], declared[key]))
    missing = [item for item in declared["extensions"] if offered is not None and item not in offered]
    if missing:
        wrong.append("these extensions are not installed on this node: {}".format(", ".join(missing)))
    if wrong:
        raise Refused("The database {} is left as it is: {}.".format(name, "; ".join(wrong)))
    if known is None:
        return {key: {"old": None, "new": value} for key, value in declared.items() if value or key != "extensions"}
    changes = {} if declared["owner"] == known["owner"] else {"owner": {"old": known["owner"], "new": declared["owner"]}}
    new = [item for item in declared["extensions"] if item not in known["extensions"]]
    return {**changes, **({"extensions": {"old": known["extensions"], "new": known["extensions"] + new}} if new else {})}


def apply(place, name, declared, known):
    """Make the database, or give it its owner and the extensions that it lacks."""
    target, owner = server.identifier(name), server.identifier(declared["owner"])
    if known is None:
        words = "OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}".format(
            owner, *(server.literal(declared[key]) for key in ("encoding", "locale", "locale"))
        )
        server.execute(place, "CREATE DATABASE {} {}".format(target, words), timeout=300)
    elif known["owner"] != declared["owner"]:
        server.execute(place, "ALTER DATABASE {} OWNER TO {}".format(target, owner))
    for extension in declared["extensions"]:
        if known is None or extension not in known["extensions"]:
            server.execute(place, "CREATE EXTENSION IF NOT EXISTS {}".format(server.identifier(extension)), name)
