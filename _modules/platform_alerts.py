"""
What the pillar's ``platform:alerts`` and ``platform:contact_groups`` declare, checked and laid out for the states of ``salt/alerts``.
"""

from saltplatform import alert_settings
from saltrbd import settings
from saltrbd.errors import RbdError

__virtualname__ = "platform_alerts"


def __virtual__():
    return __virtualname__


def layout():
    """
    Return what a node's beacon looks for ("beacon"), what a master tells by ("master"), and the mistakes of either.

    beacon: {"look", "mistakes"}; master: {"rules", "groups", "mail", "password", "mistakes"}, where ``password`` is the path of the mail
    server's password in the pillar; the password itself is not in it. mistakes: a list of sentences, each with its path in the pillar.

    CLI Example:

    .. code-block:: bash

        salt '*' platform_alerts.layout
    """
    pillar = settings.plain(__pillar__)
    try:
        look, wrong = alert_settings.watched(pillar, settings.load(__opts__, pillar))
    except RbdError as error:
        look, wrong = None, [str(error)]
    master, mistakes = alert_settings.told(pillar)
    return {"beacon": {"look": look, "mistakes": wrong}, "master": dict(master, mistakes=mistakes)}
