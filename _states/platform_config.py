"""
The platform's settings in its database as desired state. What is desired stands in the pillar's ``platform:``; ``salt/platform`` declares
it all.

.. code-block:: yaml

    the platform's table:
      platform_config.schema_present: []

    tenx:
      platform_config.present:
        - require:
            - platform_config: the platform's table
"""

from saltplatform import errors, shown
from saltrbd import converge

__virtualname__ = "platform_config"

# What earlier states of a dry run would make, in converge's words.
_TABLE = ("platform table", "")


def __virtual__():
    if "platform_config.apply" not in __salt__:
        return False, (
            "The execution module platform_config is not loaded. Sync it with saltutil.sync_all; it needs psycopg2-binary and jsonschema in"
            " Salt's own Python (salt_environment:packages, salt-pip, or that Python's pip)."
        )
    return __virtualname__


def schema_present(name):
    """
    Make the platform's table exist. One with other columns, without the unique index on config_type and id, or with triggers and checks
    (which would show a refused row in the server's log), is an error: it is never altered.

    name
        Any text; which table it is says ``platform:database:table``.

    .. code-block:: yaml

        the platform's table:
          platform_config.schema_present: []
    """
    known = converge.known(globals())

    def look():
        changes = _ask("diff_schema", "predicted_schema", known)
        return _plan(name, changes, "platform_config.apply_schema", {}, {_TABLE: True})

    return converge.converge(name, __opts__["test"], look, _act, known, "The table is there.")


def present(name, config_type="rbd", unknown="keep"):
    """
    Make one row be as the pillar says, in one transaction that holds it; no other row is touched, and its create_time changes only with it.

    name
        The id or the name of an entry in ``platform:settings:TYPE``. All that goes into the row stands there, in ``platform:agent`` and in
        ``ceph:``.
    config_type
        ``rbd`` or ``mail``.
    unknown
        Fields of the stored document that the pillar does not know, such as those that the platform adds: ``keep``, ``remove``, or
        ``refuse``.

    Changes are by JSON path, with secrets taken out. A document with a defect is refused with the path of each.

    .. code-block:: yaml

        tenx:
          platform_config.present:
            - config_type: rbd
            - unknown: remove
    """
    known = converge.known(globals())
    given = {"name": name, "config_type": config_type, "unknown": unknown}

    def look():
        changes = _ask("diff", "predicted", known, **given)
        return _plan("{}/{}".format(config_type, name), changes, "platform_config.apply", given, {})

    return converge.converge(name, __opts__["test"], look, _act, known, "The row {}/{} is as declared.".format(config_type, name))


def absent(name, config_type="rbd"):
    """
    Make one row be gone. The pillar need not declare it.

    name
        The row's id, or the name of a declared one.

    .. code-block:: yaml

        5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10:
          platform_config.absent:
            - config_type: mail
    """
    known = converge.known(globals())
    given = {"name": name, "config_type": config_type}

    def look():
        changes = _ask("diff_absent", None, known, **given)
        return _plan("{}/{}".format(config_type, name), changes, "platform_config.remove", given, {})

    return converge.converge(name, __opts__["test"], look, _act, known, "The row {}/{} is absent.".format(config_type, name))


def _plan(what, changes, function, arguments, planned):
    if not changes:
        return converge.Plan()
    return converge.Plan(steps=[(function, arguments)], changes={what: changes}, planned=planned, notes=_secrets(changes))


def _secrets(changes):
    """A sentence on the secrets that would be others."""
    others = [at for at, entry in changes.items() if entry["new"] == shown.ANOTHER]
    return ["Another secret: {}.".format(", ".join(others))] if others else []


def _ask(function, predicted, known, **arguments):
    """What is to be changed; in a dry run before the table or its database is made by earlier states, as in a new one."""
    try:
        return __salt__["platform_config." + function](**arguments)
    except errors.TableMissing:
        if _TABLE not in known:
            raise
    except (errors.DatabaseUnreachable, errors.LoginRefused):
        if _TABLE not in known and not _server_comes():
            raise
    return __salt__["platform_config." + predicted](**arguments) if predicted else {}


def _server_comes():
    """Whether an earlier state of this dry run would make the server, the role or the database."""
    if not __opts__["test"] or not __salt__["platform_config.layout"]().get("own"):
        return False
    running = globals().get("__running__") or {}
    return any(result.get("result") is None and str(result.get("__sls__")).split(".")[0] == "postgresql" for result in running.values())


def _act(function, arguments):
    __salt__[function](**arguments)
