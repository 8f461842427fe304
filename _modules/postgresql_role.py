"""
Roles of this node's PostgreSQL server. Passwords come from the pillar (``postgresql:roles:NAME:password``) and are never shown or logged.
"""

from saltrbd import settings
from saltrbd.errors import NotConverged
from saltrbd.postgresql import pillar, roles

__virtualname__ = "postgresql_role"


def __virtual__():
    return __virtualname__


def _place():
    return pillar.read(settings.plain(__pillar__.get("postgresql") or {}), __grains__)


def _password(name):
    declared = ((__pillar__.get("postgresql") or {}).get("roles") or {}).get(name) or {}
    return declared.get("password")


def info(name):
    """
    Return a role's attributes and groups, and whether it has a password; None where there is no such role.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_role.info app
    """
    known = roles.find(_place(), name)
    if known is None:
        return None
    return dict({key: value for key, value in known.items() if key != "stored"}, has_password=bool(known["stored"]))


def plan(name, declared, server=True, expected=()):
    """
    Return the changes that lead to the declared attributes. Without a ``server`` every role is still to be made.

    ``expected`` are roles that this run makes before it. Raises Refused for a group that is neither there nor expected.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_role.plan app '{"login": true}'
    """
    place = _place()
    if server:
        roles.check_there(place, declared.get("groups"), expected)
    return roles.plan(place, name, declared, _password(name), roles.find(place, name) if server else None)


def apply(name, declared):
    """
    Make the role be as declared, in one transaction, and return the changes. Raises QueryFailed, ServerNotRunning or NotConverged.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_role.apply app '{"login": true}'
    """
    place, password = _place(), _password(name)
    known = roles.find(place, name)
    roles.check_there(place, declared.get("groups"), ())
    changes = roles.plan(place, name, declared, password, known)
    if changes:
        roles.apply(place, roles.statements(place, name, declared, password, known, changes))
        left = roles.plan(place, name, declared, password, roles.find(place, name))
        if left:
            raise NotConverged("The role {} did not become as declared: {}.".format(name, ", ".join(sorted(left))))
    return changes
