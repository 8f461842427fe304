"""
Databases of this node's PostgreSQL server as desired state.

.. code-block:: yaml

    app:
      postgresql_database.present:
        - owner: app
        - extensions: [hstore]
"""

from saltrbd import errors

__virtualname__ = "postgresql_database"


def __virtual__():
    return __virtualname__


def present(name, owner="postgres", encoding="UTF8", locale="C", extensions=None):
    """
    Make the database exist with this owner, and these extensions in it. Another encoding or locale than declared is an error: they
    cannot be changed. Extensions that are not declared stay.

    .. code-block:: yaml

        app:
          postgresql_database.present:
            - owner: app
            - require:
                - postgresql_role: app
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The database {} is as declared.".format(name)}
    declared = {"owner": owner, "encoding": encoding, "locale": locale, "extensions": extensions or []}
    try:
        if not __opts__["test"]:
            return dict(ret, changes=__salt__["postgresql_database.apply"](name, declared))
        there = __salt__["postgresql_server.running"]() is not None
        changes = __salt__["postgresql_database.plan"](name, declared, there, __salt__["postgresql_server.layout"]()["roles"])
    except errors.CommandExecutionError as error:
        return dict(ret, result=False, comment="The database {} is not as declared. {}".format(name, error))
    if not changes:
        return ret
    return dict(ret, result=None, changes=changes, comment="The database {} would be made or changed.".format(name))
