"""The platform's table: how it is made, and in what an existing one differs. It is never altered.

What it refuses beside other columns has one reason: a server that refuses a row for a check, a trigger or an index prints the row, with the
passwords in it, into its log.
"""

from collections import namedtuple

from saltplatform.errors import TableRefused

KEY = ("config_type", "id")
DETAIL = "config_detail"
_TEXT = ("text", "character varying")

# Name, type as it is made, and the types that an existing table may have.
_COLUMNS = (
    ("id", "uuid NOT NULL", ("uuid",)),
    ("config_type", "text NOT NULL", _TEXT),
    (DETAIL, "text NOT NULL", ("text",)),
    ("create_time", "timestamp with time zone NOT NULL DEFAULT now()", ("timestamp with time zone", "timestamp without time zone")),
)
NAMES = tuple(name for name, _, _ in _COLUMNS)

# ``oid``: the table's; ``schema_name``: where it was found. ``kind``: pg_class.relkind. ``columns``: {name: type}. ``indexes``: [Index].
# ``traps``: what could print a row: [sentence].
Facts = namedtuple("Facts", "oid schema_name name kind columns indexes traps")
# ``columns`` has None for an expression. ``arbiter``: it is unique, whole and at once, so that ON CONFLICT can name it.
Index = namedtuple("Index", "name columns arbiter")

FIND = """
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relhasrules, c.relrowsecurity
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(%s)
"""
COLUMNS = """
SELECT attname, pg_catalog.format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
 WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
INDEXES = """
SELECT c.relname, ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
                          LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY place),
       i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL, i.indpred IS NOT NULL
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s ORDER BY 1
"""
TRIGGERS = "SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = %s AND NOT tgisinternal ORDER BY 1"
CONSTRAINTS = "SELECT conname, contype FROM pg_catalog.pg_constraint WHERE conrelid = %s AND contype IN ('c', 'x') ORDER BY 1"


def read(cursor, found):
    """Return the :class:`Facts` of a table, from the row that :data:`FIND` gave."""
    oid, schema_name, name, kind, rules, guarded = found
    cursor.execute(COLUMNS, (oid,))
    columns = dict(cursor.fetchall())
    cursor.execute(INDEXES, (oid,))
    rows = cursor.fetchall()
    indexes = [Index(index, tuple(names), arbiter) for index, names, arbiter, _ in rows]
    traps = ["its index {} has a condition".format(row[0]) for row in rows if row[3]]
    cursor.execute(TRIGGERS, (oid,))
    traps += ["it has the trigger {}".format(row[0]) for row in cursor.fetchall()]
    cursor.execute(CONSTRAINTS, (oid,))
    traps += ["it has the constraint {}".format(row[0]) for row in cursor.fetchall()]
    traps += ["it has rules"] if rules else []
    traps += ["it has row security"] if guarded else []
    return Facts(oid, schema_name, name, kind, columns, indexes, traps)


def differences(facts, extra):
    """Return in what an existing table is not as this package makes it, as sentences; ``extra`` is the fifth column's name."""
    if facts.kind != "r":
        return ["it is no ordinary table"]
    types = {name: kinds for name, _, kinds in _COLUMNS}
    types[extra] = _TEXT
    wrong = ["the column {} is missing".format(name) for name in types if name not in facts.columns]
    for name, kind in facts.columns.items():
        if name not in types:
            wrong.append("it has a column {}".format(name))
        elif kind not in types[name]:
            wrong.append("its column {} is of the type {}, not {}".format(name, kind, " or ".join(types[name])))
    if not any(index.arbiter and set(index.columns) == set(KEY) for index in facts.indexes):
        wrong.append("it has no unique index on {}".format(", ".join(KEY)))
    for index in facts.indexes:
        if DETAIL in index.columns or None in index.columns:
            wrong.append("its index {} is on {}".format(index.name, DETAIL if DETAIL in index.columns else "an expression"))
    return wrong + list(facts.traps)


def check(facts, extra):
    """Raise :class:`TableRefused` for a table that is not as this package makes it."""
    wrong = differences(facts, extra)
    if wrong:
        right = "It must have the columns {} and {} (text), a unique index on {}, and nothing that shows a row when it refuses it.".format(
            ", ".join(NAMES), extra, ", ".join(KEY)
        )
        what = "The table {}.{} is left as it is, and nothing is written into it".format(facts.schema_name, facts.name)
        raise TableRefused("{}: {}. {}".format(what, "; ".join(wrong), right))


def definition(extra):
    """Return the columns of a new table as ``[(name, definition)]``; its key is :data:`KEY`."""
    return [(name, words) for name, words, _ in _COLUMNS] + [(extra, "text")]
