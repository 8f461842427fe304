"""
Databases of this node's PostgreSQL server, with their owners and extensions.
"""

from saltrbd import settings
from saltrbd.errors import NotConverged
from saltrbd.postgresql import databases, pillar, roles

__virtualname__ = "postgresql_database"


def __virtual__():
    return __virtualname__


def _place():
    return pillar.read(settings.plain(__pillar__.get("postgresql") or {}), __grains__)


def info(name):
    """
    Return a database's owner, encoding, locale and extensions; None where there is no such database.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_database.info app
    """
    return databases.find(_place(), name)


def plan(name, declared, server=True, expected=()):
    """
    Return the changes that lead to what is declared. Without a ``server`` every database is still to be made.

    ``expected`` are roles that this run makes before it. Raises Refused for what cannot be changed, or cannot be had on this node.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_database.plan app '{"owner": "app", "encoding": "UTF8", "locale": "C", "extensions": []}'
    """
    place = _place()
    if not server:
        return databases.plan(name, declared, None, None)
    roles.check_there(place, [declared["owner"]], expected)
    return databases.plan(name, declared, databases.find(place, name), databases.available(place))


def apply(name, declared):
    """
    Make the database be as declared and return the changes. Raises Refused, QueryFailed, ServerNotRunning or NotConverged.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_database.apply app '{"owner": "app", "encoding": "UTF8", "locale": "C", "extensions": []}'
    """
    place = _place()
    roles.check_there(place, [declared["owner"]], ())
    known = databases.find(place, name)
    changes = databases.plan(name, declared, known, databases.available(place))
    if changes:
        databases.apply(place, name, declared, known)
        left = databases.plan(name, declared, databases.find(place, name), None)
        if left:
            raise NotConverged("The database {} did not become as declared: {}.".format(name, ", ".join(sorted(left))))
    return changes
