"""
The platform's settings in its database: one row of the table for each entry of the pillar's ``platform:settings``.

Nothing that these functions return, log or say holds a password: it stands in the pillar and in the table alone.
"""

from saltplatform import database, document, pillar, rows, schema, shown, table
from saltplatform.errors import InvalidDocument, TableMissing, UnreadableDocument
from saltrbd import settings
from saltrbd.errors import InvalidArgument, NotConverged, RbdError, quoted

__virtualname__ = "platform_config"

__func_alias__ = {"list_": "list"}


def __virtual__():
    missing = database.missing_libraries()
    return (False, missing) if missing else __virtualname__


def layout():
    """
    Return what the pillar declares: the table, and type, id and name of each row. ``mistakes`` is a text with every mistake of the pillar,
    or None.

    ``own``: the name of the database in ``postgresql:databases`` of the same pillar, or an empty text. No password is in it.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.layout
    """
    try:
        platform = _platform()
    except RbdError as error:
        return {"mistakes": str(error)}
    declared = [{"config_type": row.config_type, "id": row.id, "name": row.name} for row in platform.rows]
    return {"mistakes": None, "table": platform.table.name, "own": platform.own, "rows": declared}


def get(name, config_type="rbd"):
    """
    Return a row: its type and id, the document with secrets taken out, when it was written last, and its ``defects`` by JSON path; None
    where there is no such row.

    name
        The row's id, or the name of one that the pillar declares.
    config_type
        ``rbd`` or ``mail``.

    Raises TableMissing, TableRefused, DatabaseUnreachable, LoginRefused, DatabaseTimeout.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.get tenx
        salt '*' platform_config.get 5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10 config_type=mail
    """
    platform = _platform()
    pillar.check_type(config_type)
    row = rows.find(platform, config_type, pillar.key(platform, name, config_type))
    return None if row is None else _told(row)


def list_(config_type=None):
    """
    Return all rows of the table, or those of one type, as ``get`` does. Of a type that this package does not know nothing is shown but its
    keys.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.list
        salt '*' platform_config.list config_type=mail
    """
    return [_told(row) for row in rows.every(_platform(), config_type)]


def diff(name, config_type="rbd", unknown="keep"):
    """
    Return what ``apply`` would change in a row: ``{JSON path: {"old", "new"}}`` with secrets taken out; empty where nothing is to be done.

    Raises InvalidDocument with every defect of what would be written, UnreadableDocument for a row that holds no JSON object.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.diff tenx
        salt '*' platform_config.diff tenx unknown=remove
    """
    platform, wanted = _wanted(name, config_type, unknown)
    return _changes(wanted, rows.find(platform, wanted.config_type, wanted.id, rows.WRITE), unknown)


def predicted(name, config_type="rbd", unknown="keep"):
    """
    Return what ``apply`` would change in a table without the row, without asking the database.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.predicted tenx
    """
    _, wanted = _wanted(name, config_type, unknown)
    return _changes(wanted, None, unknown)


def apply(name, config_type="rbd", unknown="keep"):
    """
    Make a declared row be as the pillar says, in one transaction that holds the row, and return the changes as ``diff`` does.

    name
        The id or the name of a row in ``platform:settings``.
    unknown
        Fields of the stored document that the pillar does not know: ``keep``, ``remove``, or ``refuse``.

    Raises what ``diff`` raises, WriteFailed, NotPermitted, and NotConverged where a second look does not confirm the write.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.apply tenx
    """
    platform, wanted = _wanted(name, config_type, unknown)
    found = {}

    def decide(row):
        found.clear()
        found.update(_changes(wanted, row, unknown))
        return document.text(_merged(wanted, row, unknown)) if found else None

    if rows.write(platform, wanted.config_type, wanted.id, decide):
        left = _changes(wanted, rows.find(platform, wanted.config_type, wanted.id), unknown)
        if left:
            raise NotConverged(
                "{} was written, and a second look shows that somebody else has changed it since: {}.".format(
                    _what(wanted), ", ".join(left)
                )
            )
    return found


def remove(name, config_type="rbd"):
    """
    Remove one row, and return whether it was there.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.remove 5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10
    """
    platform = _platform()
    pillar.check_type(config_type)
    return rows.remove(platform, config_type, pillar.key(platform, name, config_type))


def diff_absent(name, config_type="rbd"):
    """
    Return what ``remove`` would change, as ``diff`` does; empty where there is no such row, or no table.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.diff_absent tenx
    """
    platform = _platform()
    pillar.check_type(config_type)
    try:
        row = rows.find(platform, config_type, pillar.key(platform, name, config_type), rows.REMOVE)
    except TableMissing:
        return {}
    if row is None:
        return {}
    try:
        return dict(_row_change("present", None), **shown.changes(document.read(row.detail), None, schema.of(config_type)))
    except UnreadableDocument:
        return _row_change("present", None)


def diff_schema():
    """
    Return what ``apply_schema`` would change: the table, where there is none. Raises TableRefused for one that is not as this package makes
    it, NotPermitted where the user may not make one.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.diff_schema
    """
    platform = _platform()
    with database.session(platform.place) as connection:
        facts = rows.find_table(platform, connection)
        if facts is None:
            rows.check_may_make(platform, connection)
            return predicted_schema()
    table.check(facts, platform.table.extra)
    return {}


def predicted_schema():
    """
    Return what ``apply_schema`` would change in an empty database, without asking it.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.predicted_schema
    """
    made = dict(table.definition(_platform().table.extra), key="PRIMARY KEY ({})".format(", ".join(table.KEY)))
    return {column: {"old": None, "new": words} for column, words in made.items()}


def apply_schema():
    """
    Make the table where there is none, and return the changes. Raises TableRefused, NotPermitted, WriteFailed.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_config.apply_schema
    """
    changes = diff_schema()
    if changes:
        rows.make_table(_platform())
        if diff_schema():
            raise NotConverged("The table {} was made, and is not there.".format(_platform().table.name))
    return changes


def _platform():
    return pillar.read(__opts__, __pillar__)


def _wanted(name, config_type, unknown):
    """The declared row, whose own document is right."""
    if unknown not in document.UNKNOWN:
        raise InvalidArgument("unknown must be one of {}, not {}.".format(", ".join(document.UNKNOWN), quoted(unknown)))
    platform = _platform()
    wanted = pillar.find(platform, name, config_type)
    schema.check(_what(wanted), wanted.detail, wanted.schema)
    return platform, wanted


def _merged(wanted, row, unknown):
    if row is None:
        return wanted.detail
    try:
        return document.merged(document.read(row.detail), wanted.detail, unknown)
    except InvalidDocument as error:
        said = "{} is not written: {}. unknown: keep leaves it there, unknown: remove takes it away."
        raise InvalidDocument(said.format(_what(wanted), error), error.defects)
    except UnreadableDocument as error:
        # To remove all that the pillar does not know is to begin anew.
        if unknown == document.REMOVE:
            return wanted.detail
        raise UnreadableDocument(
            "{}: {}, so nothing of it could be kept. unknown: remove puts the pillar's in its place.".format(_what(wanted), error)
        )


def _changes(wanted, row, unknown):
    new = _merged(wanted, row, unknown)
    if row is None:
        return dict(_row_change(None, "present"), **shown.changes(None, new, wanted.schema))
    try:
        old = document.read(row.detail)
    except UnreadableDocument:
        return dict({"$": {"old": shown.HIDDEN, "new": "an object"}}, **shown.changes(None, new, wanted.schema))
    return shown.changes(old, new, wanted.schema)


def _row_change(old, new):
    return {"row": {"old": old, "new": new}}


def _what(row):
    return "The row {}/{}{}".format(row.config_type, row.id, " ({})".format(row.name) if row.name else "")


def _told(row):
    known = row.config_type in schema.TYPES
    right = schema.of(row.config_type, _pool()) if known else {"properties": {}}
    told = {"config_type": row.config_type, "id": row.id, "create_time": row.created}
    try:
        stored = document.read(row.detail)
    except UnreadableDocument as error:
        return dict(told, config_detail=None, defects={"$": str(error)})
    return dict(told, config_detail=shown.redacted(stored, right), defects=dict(schema.defects(stored, right)) if known else {})


def _pool():
    return settings.load(__opts__, __pillar__).pool
