"""
Roles of this node's PostgreSQL server as desired state.

.. code-block:: yaml

    app:
      postgresql_role.present:
        - groups: [readers]
"""

from saltrbd import errors

__virtualname__ = "postgresql_role"


def __virtual__():
    return __virtualname__


def present(name, login=True, superuser=False, createdb=False, createrole=False, replication=False, connection_limit=-1, groups=None):
    """
    Make the role exist with these attributes, as a member of exactly these groups. Its password is the pillar's
    ``postgresql:roles:NAME:password``; it is in no argument, change, comment or log. Without one there the password is left alone.

    connection_limit
        How many sessions at once; -1 for any number.
    groups
        Roles that it is a member of; they exist, or are declared before it.

    .. code-block:: yaml

        app:
          postgresql_role.present:
            - connection_limit: 20
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The role {} is as declared.".format(name)}
    declared = {"login": login, "superuser": superuser, "createdb": createdb, "createrole": createrole, "replication": replication}
    declared.update(connection_limit=connection_limit, groups=groups or [])
    try:
        if not __opts__["test"]:
            return dict(ret, changes=__salt__["postgresql_role.apply"](name, declared))
        there = __salt__["postgresql_server.running"]() is not None
        changes = __salt__["postgresql_role.plan"](name, declared, there, __salt__["postgresql_server.layout"]()["roles"])
    except errors.CommandExecutionError as error:
        return dict(ret, result=False, comment="The role {} is not as declared. {}".format(name, error))
    if not changes:
        return ret
    return dict(ret, result=None, changes=changes, comment="The role {} would be made or changed.".format(name))
