"""Rows of the platform's table, read and written so that no password ever stands in a statement.

A document goes to the server as a large object: libpq's function-call protocol carries its bytes, which no setting of the server's log
writes down, not even log_statement = all with log_parameter_max_length; the statement then names the object's number alone. The object is
removed in the same transaction, so nobody else ever sees it. Bound parameters would be logged, and a failing COPY shows its line as
CONTEXT.

A row that a constraint refuses would be printed as DETAIL, its values cut at 64 bytes: so tables that can refuse one are not written to
(:mod:`saltplatform.table`), and a document begins with more than 64 bytes that are no secret (:mod:`saltplatform.schema`).
"""

from collections import namedtuple
from contextlib import contextmanager

from saltplatform import database, table
from saltplatform.errors import NotPermitted, TableMissing, WriteFailed

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None

# ``detail`` is the text of the document, ``created`` the time as text, in UTC.
Row = namedtuple("Row", "config_type id detail created")

# Privileges on the table, beside SELECT.
WRITE, REMOVE = ("INSERT", "UPDATE"), ("DELETE",)

# Times that a row may come and go between our looking and our writing.
_TRIES = 20

_LACKING = "SELECT p FROM unnest(%s::text[]) AS p WHERE NOT pg_catalog.has_table_privilege(%s::oid, p)"
_MAY_CREATE = "SELECT pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace(%s)::oid, 'CREATE')"
# A time without a zone is of the session's.
_TIME = "to_char(create_time::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
_READ = "SELECT config_type, id::text, config_detail, " + _TIME + " FROM {}"  # noqa: S608 a constant
_ONE = " WHERE config_type = %s AND id = %s"
_DELETE = "DELETE FROM {}" + _ONE  # noqa: S608 a constant
_DETAIL = "pg_catalog.convert_from(pg_catalog.lo_get(%s), 'UTF8')"
_INSERT = (
    "INSERT INTO {} (id, config_type, config_detail, create_time, {}) SELECT %s, %s, " + _DETAIL + ", pg_catalog.clock_timestamp(), ''"
    " ON CONFLICT (config_type, id) DO NOTHING"
)
_UPDATE = "UPDATE {} SET config_detail = " + _DETAIL + ", create_time = pg_catalog.clock_timestamp()" + _ONE  # noqa: S608 a constant


def find_table(platform, connection):
    """Return the :class:`saltplatform.table.Facts` of the declared table, or None where it does not exist."""
    wanted = platform.table
    name = ".".join('"{}"'.format(part) for part in (wanted.schema_name, wanted.name) if part)
    with connection.cursor() as cursor:
        cursor.execute(table.FIND, (name,))
        found = cursor.fetchone()
        return table.read(cursor, found) if found else None


@contextmanager
def opened(platform, needs=(), writing=False):
    """Yield ``(connection, the table's name for a statement)`` of a table that is right.

    ``needs``: the privileges on it that there must be. When ``writing``, it cannot be altered until the end of the transaction. Raises
    :class:`TableMissing`, :class:`TableRefused` or :class:`NotPermitted`.
    """
    with database.session(platform.place) as connection:
        facts = find_table(platform, connection)
        if facts is None:
            raise TableMissing(
                "There is no table {} in the database {}; platform_config.schema_present makes it.".format(
                    platform.table.name, platform.place["dbname"]
                )
            )
        table.check(facts, platform.table.extra)
        name = sql.Identifier(facts.schema_name, facts.name)
        if writing:
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(name))
            # Somebody may have altered it just before.
            table.check(find_table(platform, connection), platform.table.extra)
        with connection.cursor() as cursor:
            cursor.execute(_LACKING, (["SELECT", *needs], facts.oid))
            lacking = [privilege for (privilege,) in cursor.fetchall()]
        if lacking:
            raise NotPermitted(
                "The database user {} lacks {} on the table {}.{}; its owner grants it.".format(
                    platform.place["user"], ", ".join(lacking), facts.schema_name, facts.name
                )
            )
        yield connection, name


def find(platform, config_type, identity, needs=()):
    """Return the :class:`Row`, or None; raises :class:`NotPermitted` where the user lacks what ``needs`` names."""
    with opened(platform, needs) as (connection, name), connection.cursor() as cursor:
        return _one(cursor, name, config_type, identity)


def every(platform, config_type=None):
    """Return all rows, or those of one type, in the order of type and id."""
    with opened(platform) as (connection, name), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(_READ + ("" if config_type is None else " WHERE config_type = %s") + " ORDER BY config_type, id").format(name),
            () if config_type is None else (config_type,),
        )
        return [Row(*row) for row in cursor.fetchall()]


def write(platform, config_type, identity, decide):
    """Write one row in one transaction and return whether anything was written.

    ``decide(row)`` gets the :class:`Row` under a lock, or None where there is none, and returns the new document as text, or None to leave
    it. What it raises ends the transaction. Where somebody else makes the row meanwhile, it is asked again.
    """
    with opened(platform, WRITE, writing=True) as (connection, name), connection.cursor() as cursor:
        for _ in range(_TRIES):
            row = _one(cursor, name, config_type, identity, " FOR UPDATE")
            text = decide(row)
            if text is None:
                return False
            with _carried(connection, text) as number:
                if row is None:
                    extra = sql.Identifier(platform.table.extra)
                    cursor.execute(sql.SQL(_INSERT).format(name, extra), (identity, config_type, number))
                else:
                    cursor.execute(sql.SQL(_UPDATE).format(name), (number, config_type, identity))
                if cursor.rowcount == 1:
                    return True
    raise WriteFailed("The row {}/{} came and went {} times; nothing was written.".format(config_type, identity, _TRIES))


def remove(platform, config_type, identity):
    """Remove one row and return whether it was there."""
    with opened(platform, REMOVE, writing=True) as (connection, name), connection.cursor() as cursor:
        cursor.execute(sql.SQL(_DELETE).format(name), (config_type, identity))
        return cursor.rowcount == 1


def check_may_make(platform, connection):
    """Raise :class:`NotPermitted` where the user may not make the table, or its schema is not there."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.current_schema()")
        name = platform.table.schema_name or cursor.fetchone()[0]
        cursor.execute(_MAY_CREATE, ('"{}"'.format(name),))
        allowed = cursor.fetchone()[0]
    if not allowed:
        why = "There is no schema {} in" if allowed is None else "The user may not make tables in the schema {} of"
        raise NotPermitted("{} the database {} (user {}).".format(why.format(name), platform.place["dbname"], platform.place["user"]))


def make_table(platform):
    """Make the table. Where somebody else has made one meanwhile, that one is looked at by the caller."""
    wanted = platform.table
    name = sql.Identifier(*(part for part in (wanted.schema_name, wanted.name) if part))
    columns = [sql.SQL("{} " + words).format(sql.Identifier(column)) for column, words in table.definition(wanted.extra)]
    key = sql.SQL(", ").join(map(sql.Identifier, table.KEY))
    with database.session(platform.place) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(name, sql.SQL(", ").join(columns), key))
        except (psycopg2.errors.DuplicateTable, psycopg2.errors.UniqueViolation):
            connection.rollback()


def _one(cursor, name, config_type, identity, more=""):
    cursor.execute(sql.SQL(_READ + _ONE + more).format(name), (config_type, identity))
    found = cursor.fetchone()
    return Row(*found) if found else None


@contextmanager
def _carried(connection, text):
    """Yield the number of a large object with this text in it, which is there during the block alone."""
    carrier = connection.lobject(0, "wb")
    carrier.write(text.encode("ascii"))
    carrier.close()
    yield carrier.oid
    # Not where the block has raised: the transaction is over then, and the object with it.
    carrier.unlink()
