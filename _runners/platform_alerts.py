"""
Who is told when something is wrong with the storage: takes what the beacon ``rbd_health`` of the nodes reports, and mails contact groups.

The master's configuration has ``platform_alerts``: ``settings`` is the path of a JSON file with rules, groups and mail server,
``password`` that of the mail server's password, ``folder`` the one in which the state lies. ``salt/alerts/master.sls`` writes all of
them: see docs/alerts.md.
"""

import json
import logging
import re
import time

from saltplatform import alert_mail, alerts, outbox, smtp
from saltplatform.store import Busy, Store

__virtualname__ = "platform_alerts"

log = logging.getLogger(__name__)
_TAG = re.compile(r"salt/beacon/([\w.@:-]{1,255})/rbd_health/", re.ASCII)
# Mails that one connection carries.
_AT_ONCE = 20


def __virtual__():
    return __virtualname__


def _places():
    places = __opts__.get("platform_alerts")
    if not isinstance(places, dict) or not {"settings", "folder"} <= set(places):
        raise ValueError("The master's configuration has no platform_alerts; salt/alerts/master.sls writes it.")
    return places


def _settings(places):
    """Read anew each time: people change the groups, and the master need not be restarted for it."""
    with open(places["settings"], encoding="utf-8") as file:
        return json.load(file)


def _password(places):
    if not places.get("password"):
        return None
    with open(places["password"], encoding="utf-8") as file:
        return file.read().rstrip("\n")


def report(tag, data):
    """
    Take what a node's beacon reports. The reactor calls it, with the event's tag and data.

    CLI Example:

    .. code-block:: bash

        salt-run platform_alerts.report salt/beacon/node1/rbd_health/ '{cluster: c, looked: [health], found: []}'
    """
    node = _TAG.fullmatch(tag)
    try:
        if node is None:
            raise alerts.InvalidReport("its tag is none of the beacon rbd_health")
        known = alerts.checked(data)
    except alerts.InvalidReport as error:
        log.warning("A report with the tag %s is left out: %s.", tag, error)
        return False
    _turned(lambda state, rules, now: alerts.take(state, node.group(1), known, now, rules))
    return True


def tick():
    """
    Move the open alerts on to now, and send what waits. The master's schedule calls it every minute: some changes come by time alone.

    CLI Example:

    .. code-block:: bash

        salt-run platform_alerts.tick
    """
    _turned(lambda state, rules, now: None)
    return True


def _turned(change):
    places = _places()
    settings, store = _settings(places), Store(places["folder"])
    now = time.time()
    with store.changed() as state:
        change(state, settings["rules"], now)
        changes = alerts.turn(state, now, settings["rules"])
        told = alert_mail.enqueue(state, changes, settings["groups"], settings["rules"], now)
        waiting = bool(outbox.due(state["outbox"], now))
    for one in changes:
        log.warning("Alert %s: %s: %s", one.what, one.alert["key"], one.alert["text"])
    for sentence in told:
        log.warning("%s", sentence)
    if waiting:
        _deliver(places, settings, store)


def _deliver(places, settings, store):
    """Send what is due. Nobody waits for the mail server with the state locked, and only one sends."""
    try:
        with store.locked("delivery", patience=0.0):
            while True:
                with store.locked():
                    due = outbox.due(store.read()["outbox"], time.time())[:_AT_ONCE]
                if not due:
                    return
                outcomes = _sent(places, settings, due)
                with store.changed() as state:
                    for entry in due:
                        outcome = outcomes[entry["number"]]._asdict()
                        for level, sentence in outbox.settle(state["outbox"], entry["number"], outcome, time.time()):
                            getattr(log, level)("%s", sentence)
    except Busy:
        return  # who is sending takes this along, or the next minute does


def _sent(places, settings, due):
    try:
        password = _password(places)
    except OSError as error:
        words = "the password of the mail server cannot be read ({}: {}).".format(places["password"], error.strerror)
        return {entry["number"]: smtp.Outcome(words, False, {}) for entry in due}
    return smtp.send(settings["mail"], password, due, settings["groups"])


def show():
    """
    Return what is open and what waits to be sent.

    alerts: {key: {"since" (seconds since 1970), "level", "text", "nodes"}}; waiting: [{"group", "subject", "tries", "error"}].

    CLI Example:

    .. code-block:: bash

        salt-run platform_alerts.show
    """
    store = Store(_places()["folder"])
    with store.locked():
        state = store.read()
    found = {
        key: {"since": alert["first"], "level": alert["level"], "text": alert["text"], "nodes": sorted(alert["nodes"])}
        for key, alert in alerts.open_alerts(state).items()
    }
    return {"alerts": found, "waiting": [{key: entry[key] for key in ("group", "subject", "tries", "error")} for entry in state["outbox"]]}


def forget(node):
    """
    Take away what a node that is no more has found; what nobody else has found is over after its time. Returns the keys.

    CLI Example:

    .. code-block:: bash

        salt-run platform_alerts.forget node7
    """
    with Store(_places()["folder"]).changed() as state:
        return alerts.forget(state, node)


def probe(group):
    """
    Send a mail to a group now, and return what became of it: True, or why not.

    CLI Example:

    .. code-block:: bash

        salt-run platform_alerts.probe storage
    """
    places = _places()
    settings = _settings(places)
    if group not in settings["groups"]:
        return "There is no group {}; there are {}.".format(group, ", ".join(sorted(settings["groups"])))
    entry = {"number": 0, "group": group, "created": time.time(), "to": [member["address"] for member in settings["groups"][group]]}
    entry.update(subject="[storage] a test", body="This is a test, asked for by salt-run platform_alerts.probe {}.\n".format(group))
    outcome = _sent(places, settings, [entry])[0]
    if outcome.error:
        return outcome.error
    return " ".join("{}: {}".format(address, sentence) for address, (sentence, _) in sorted(outcome.refused.items())) or True
