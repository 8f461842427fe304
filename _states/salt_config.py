"""
The configuration of Salt's own daemons as desired state: what a master or minion could not run with is refused, in the dry run too.

.. code-block:: yaml

    /etc/salt/master.d/50-site.conf:
      salt_config.managed:
        - daemon: master
        - group: salt
        - settings:
            interface: 0.0.0.0
            file_roots: {base: [/srv/salt]}
            pillar_roots: {base: [/srv/pillar]}
"""

__virtualname__ = "salt_config"


def __virtual__():
    if "salt_config.check" not in __salt__:
        return False, "The execution module salt_config is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def managed(name, daemon, settings, user="root", group="root", mode="0640"):
    """
    Make the file hold exactly these settings, unless they are such that the daemon must not run with them.

    name
        Path of a file in ``master.d`` or ``minion.d``.
    daemon
        ``master`` or ``minion``.
    settings
        A mapping of Salt's own settings. Their values are shown neither in changes nor in comments.

    Refused with every reason: values of a wrong type; for a master also an interface that this host has not, folders that are not
    there, file_roots and gitfs_remotes from which minions could read ``pillar`` or ``tests``, and auto_accept, open_mode,
    permissive_pki_access.
    """
    mistakes = __salt__["salt_config.check"](daemon, settings)
    if mistakes:
        comment = "{} is left as it is, and the {} as it runs. {}".format(name, daemon, " ".join(mistakes))
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    contents = __salt__["salt_config.text"](settings)
    file_managed = __states__["file.managed"]
    return file_managed(name, contents=contents, user=user, group=group, mode=mode, makedirs=True, show_changes=False)
