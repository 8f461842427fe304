"""
The configuration of Salt's own daemons: checked before it is written.
"""

import os

import salt.config
import salt.utils.network
import salt.utils.yaml
from saltrbd import salt_settings
from saltrbd.errors import InvalidArgument

__virtualname__ = "salt_config"


def __virtual__():
    return __virtualname__


def check(daemon, settings):
    """
    Return one sentence for each setting with which a ``master`` or ``minion`` must not run; an empty list where there is none.

    Checked are the types that Salt wants; for a master also that its interface is an address of this host, that its folders are
    there, that no folder served to minions holds ``pillar`` or ``tests``, that of a git repository only a named folder is served and by
    an address that Salt takes, and that nobody is let in unasked (auto_accept, open_mode,
    permissive_pki_access). Raises InvalidArgument where ``daemon`` is neither.

    CLI Example:

    .. code-block:: bash

        salt '*' salt_config.check master '{interface: 0.0.0.0, open_mode: true}'
    """
    if daemon not in ("master", "minion"):
        raise InvalidArgument("daemon must be master or minion, not {}.".format(daemon))
    addresses = set(salt.utils.network.ip_addrs(True)) | set(salt.utils.network.ip_addrs6(True))
    return salt_settings.mistakes(daemon, settings, salt_settings.Facts(salt.config.VALID_OPTS, addresses, os.path.isdir))


def text(settings):
    """
    Return the settings as the text of a configuration file.

    CLI Example:

    .. code-block:: bash

        salt '*' salt_config.text '{interface: 0.0.0.0}'
    """
    return "# Managed by Salt.\n" + salt.utils.yaml.safe_dump(settings, default_flow_style=False)
