"""A session on the platform's database by psycopg2: limits for all of it, and errors that show no value.

Nothing secret goes into a statement: psycopg2 writes values into its text, and a server may log it. How documents travel:
:mod:`saltplatform.rows`.
"""

import os
import socket
import sys
import threading
from contextlib import contextmanager

from saltplatform import errors, schema

try:
    import psycopg2
    from psycopg2 import errorcodes
except ImportError:  # Salt's own Python may lack it; the execution module then does not load, and says how to get it
    psycopg2 = None

# Seconds: to connect, for one statement, to wait for another writer's lock, for a session as a whole.
CONNECT, STATEMENT, LOCK, SESSION = 10, 30, 20, 60

_LOGIN = ("authentication failed", "no pg_hba.conf entry", "is not permitted to log in", "no password supplied")


def missing_libraries():
    """Return a sentence on the libraries that Salt's Python lacks, with the command that brings them; empty where it has them."""
    missing = [name for name, found in (("psycopg2-binary", psycopg2), ("jsonschema", schema.jsonschema)) if found is None]
    if not missing:
        return ""
    return (
        "Salt's own Python lacks {0}: run '{1} -m pip install {0}', or 'salt-pip install {0}' where Salt is the project's package, or add"
        " it to salt_environment:packages in the pillar."
    ).format(" ".join(missing), sys.executable or "python3")


@contextmanager
def session(place):
    """Yield a connection in a transaction, which is committed at the end of the block, and rolled back where the block raises.

    ``place``: host, port, dbname, user, password, sslmode, sslrootcert. After :data:`SESSION` seconds the connection is cut, whatever the
    server does. Raises :class:`DatabaseUnreachable`, :class:`LoginRefused`, :class:`DatabaseTimeout`, :class:`NotPermitted`,
    :class:`TableMissing` or :class:`WriteFailed`.
    """
    connection = _connect(place)
    late, limit = threading.Event(), SESSION
    timer = threading.Timer(limit, _cut, [connection, late])
    timer.daemon = True
    timer.start()
    try:
        connection.set_session(isolation_level="READ COMMITTED", readonly=False, deferrable=False, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '{}s'; SET lock_timeout = '{}s'".format(STATEMENT, LOCK))
        yield connection
        connection.commit()
    except psycopg2.Error as error:
        if late.is_set():
            said = "{} did not end its work within {:g} s and was left. Whether it wrote is not known; run it again."
            raise errors.DatabaseTimeout(said.format(_where(place), limit)) from None
        raise _translated(place, error) from None
    finally:
        timer.cancel()
        connection.close()


def _connect(place):
    given = {name: value for name, value in place.items() if value is not None}
    try:
        # A server that was switched off is noticed by its silence, not only after hours.
        return psycopg2.connect(
            **given,
            application_name="salt",
            connect_timeout=CONNECT,
            client_encoding="UTF8",
            options="",  # and not what PGOPTIONS says
            keepalives=1,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except (psycopg2.Error, UnicodeDecodeError) as error:
        raise _refused(place, error) from None


def _refused(place, error):
    said = str(error)
    if place["password"]:
        said = said.replace(place["password"], "...")
    said = " ".join(said.split())
    kind = errors.LoginRefused if any(word in said for word in _LOGIN) else errors.DatabaseUnreachable
    hint = ""
    if "certificate" in said:
        hint = " The certificate of the server's authority is what platform:database:sslrootcert names."
    elif kind is errors.LoginRefused:
        hint = " It is the user and the password of platform:database, or the server's pg_hba.conf."
    return kind("{} cannot be reached: {}.{}".format(_where(place), said.rstrip("."), hint))


def _cut(connection, late):
    late.set()
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg2.Error):
        pass  # it is closed already


def _where(place):
    return "The database {} at {}:{} (user {})".format(place["dbname"], place["host"], place["port"], place["user"])


_KINDS = {
    "42501": (errors.NotPermitted, "lets this user not do that"),
    "42P01": (errors.TableMissing, "has no such table"),
    "55P03": (errors.DatabaseTimeout, "had the row or the table locked by somebody else for {} s; nothing was written".format(LOCK)),
    "57014": (errors.DatabaseTimeout, "did not carry out a statement within {} s; nothing was written".format(STATEMENT)),
}


def _translated(place, error):
    """The error of this package for one of psycopg2's. The server's own words are left out: they may have the row in them."""
    code = error.pgcode
    if code is None or code[:2] in ("08", "57") and code != "57014":
        return errors.DatabaseUnreachable(
            "{} went away in the middle of the work; run it again. Nothing half is written: it is one transaction.".format(_where(place))
        )
    try:
        name = errorcodes.lookup(code)
    except KeyError:  # one of a newer server
        name = "an error"
    kind, what = _KINDS.get(code, (errors.WriteFailed, "refused; nothing was written"))
    return kind("{} {}: {} (SQLSTATE {}). The server's log has its words.".format(_where(place), what, name, code))
