"""
The account of the storage agent as desired state: a file with the pillar's user and the hash of the password.

.. code-block:: yaml

    /etc/salt/storage-agent.htpasswd:
      storage_agent.account:
        - group: salt
"""

from saltrbd import errors

__virtualname__ = "storage_agent"


def __virtual__():
    if "storage_agent.account_line" not in __salt__:
        return False, "The execution module storage_agent is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def account(name, user="root", group="root", mode="0640"):
    """
    Make the file hold the one account of ``platform:agent``: user and password of the pillar, the password as salted SHA-512-crypt
    (100,000 rounds), which Salt's eauth ``file`` reads as ``^filetype: htpasswd``.

    name
        Path of the file.

    What is there stays where it is of this user and password. Neither password nor hash stands in changes or comments.
    """
    try:
        contents = __salt__["storage_agent.account_line"](name)
    except errors.InvalidPillar as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    except errors.CommandNotFound as error:
        # In a dry run of a host that gets openssl by an earlier state.
        if not __opts__["test"]:
            return {"name": name, "result": False, "changes": {}, "comment": str(error)}
        contents = "not known yet\n"
    file_managed = __states__["file.managed"]
    return file_managed(name, contents=contents, user=user, group=group, mode=mode, makedirs=True, show_changes=False)
