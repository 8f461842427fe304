"""
The storage agent of the pillar's ``platform:agent``: the HTTP service that a platform calls for its volumes, on the host of the master.
"""

from saltplatform import storage_agent
from saltrbd import errors

__virtualname__ = "storage_agent"


def __virtual__():
    return __virtualname__


def layout():
    """
    Return what the pillar declares with all that follows from it: where nginx listens, limits, the settings of the master.

    ``mistakes`` is a text with every mistake of the pillar, or None; with mistakes there is nothing else. No password is in it.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_agent.layout
    """
    try:
        return dict(storage_agent.read(__pillar__), mistakes=None)
    except errors.InvalidPillar as error:
        return {"mistakes": str(error)}


def account_line(name):
    """
    Return the line that the account's file must hold, ``USER:HASH``: the present one where it is of the pillar's user and password,
    else one with a new salt. Needs openssl; raises errors.InvalidPillar, errors.CommandNotFound.

    name
        Path of the file.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_agent.account_line /etc/salt/storage-agent.htpasswd
    """
    user, password = storage_agent.account(__pillar__)
    try:
        with open(name, encoding="ascii", errors="replace") as file:
            present = file.read(4096)
    except FileNotFoundError:
        present = ""
    return storage_agent.line(user, password, present)
