"""The OSD of a real cluster stops: the beacon's events, by Salt's reactor and the runner, become one mail for each group when it goes, and
one when it is back. What goes through whole daemons is in test_alerts_end_to_end."""

import json
import time

import pytest
from beacon_minion import make_minion  # noqa: F401 -- a fixture
from faults import stopped
from mailhost import Mailhost
from saltrbd import health_watch

from labkit import cluster as lab_cluster

RULES = {"hold": 2, "calm": 6, "report_every": 1, "mails_per_hour": 50}
GROUPS = {
    "storage": [
        {"name": "A", "address": "a@example.net", "admin": True},
        {"name": "B", "address": "b@example.net", "admin": False},
    ],
    "office": [{"name": "C", "address": "c@example.net", "admin": True}],
}
STORAGE, OFFICE = "a@example.net b@example.net", "c@example.net"


class Master:
    """What a master does with an event: Salt's reactor reads the reaction, Salt's loader has the runner that it names."""

    def __init__(self, folder, repo):
        import salt.config
        import salt.loader
        import salt.utils.reactor

        opts = salt.config.master_config(None)
        opts.update(
            root_dir=str(folder), cachedir=str(folder), sock_dir=str(folder), pki_dir=str(folder), extension_modules=str(folder / "extmods")
        )
        opts.update(runner_dirs=[str(repo / "_runners")], file_client="local", reactor=[], file_roots={"base": [str(folder)]})
        opts["platform_alerts"] = {"settings": str(folder / "settings.json"), "folder": str(folder / "state")}
        self._reactor = salt.utils.reactor.Reactor(opts)
        self._reactor.rend = salt.loader.render(opts, {})
        self._runners = salt.loader.runner(opts)
        self._reaction = str(repo / "salt/alerts/files/reactor.py")

    def hear(self, minion, event):
        """React to an event of that minion's beacon."""
        (chunk,) = self._reactor.reactions(f"salt/beacon/{minion}/rbd_health/", dict(event, _stamp="now"), [self._reaction])
        assert (chunk["state"], chunk["fun"]) == ("runner", "platform_alerts.report")
        arguments = {key: value for part in chunk["args"] for key, value in part.items()}
        assert self._runners["platform_alerts.report"](**arguments) is True
        return self.show()

    def tick(self):
        """What the master's schedule does each minute."""
        self._runners["platform_alerts.tick"]()
        return self.show()

    def show(self):
        return self._runners["platform_alerts.show"]()


@pytest.fixture
def mailhost():
    server = Mailhost().come()
    yield server
    server.go()


@pytest.fixture
def make_master(tmp_path, repo, mailhost):
    """A master, or the same one after a restart."""
    folder = tmp_path / "master"
    (folder / "state").mkdir(parents=True)
    mail = {"host": "localhost", "port": mailhost.port, "security": "none", "sender": "storage@example.net"}
    (folder / "settings.json").write_text(json.dumps({"rules": RULES, "groups": GROUPS, "mail": mail}))
    return lambda: Master(folder, repo)


def test_the_osd_goes_and_comes_back(make_minion, make_master, whole, mailhost):  # noqa: F811
    minion, master = make_minion(whole, "rbd", report_every=1), make_master()
    heard = []

    def until(wanted, seconds=180):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for event in minion.turn():
                heard.append(event)
                # Three nodes of one cluster see the same.
                for name in ("n1", "n2", "n3"):
                    master.hear(name, event)
            if wanted(master.tick()):
                return
            time.sleep(0.3)
        raise AssertionError(f"waited {seconds} s in vain; {mailhost.inbox.subjects()}")

    until(lambda shown: heard)
    assert master.show() == {"alerts": {}, "waiting": []}
    key = f"cluster {whole.fsid}|health|availability"
    new, over = (f"[storage] {what}: Ceph's health, availability (cluster {whole.fsid})" for what in ("new", "over"))
    with stopped(whole, "ceph-osd"):
        until(lambda shown: len(mailhost.inbox.mails) == 2)
        assert mailhost.inbox.subjects() == {STORAGE: [new], OFFICE: [new]}
        # What the monitor finds out about it later is the same event; a restart of minion and master tells nothing twice.
        lab_cluster.ceph(whole.folder, "osd", "down", "0")
        health_watch._watches.clear()
        minion, master = make_minion(whole, "rbd", report_every=1), make_master()
        until(lambda shown: "OSD_DOWN" in shown["alerts"][key]["text"])
        assert master.show()["alerts"][key]["nodes"] == ["n1", "n2", "n3"]
        assert mailhost.inbox.subjects() == {STORAGE: [new], OFFICE: [new]}
    until(lambda shown: len(mailhost.inbox.mails) == 4)
    began = time.monotonic()
    until(lambda shown: time.monotonic() - began > 2 * RULES["calm"])
    assert mailhost.inbox.subjects() == {STORAGE: [new, over], OFFICE: [new, over]}
    assert master.show() == {"alerts": {}, "waiting": []}
    bodies = [mail.get_content() for _, mail in mailhost.inbox.mails]
    assert "Seen by n1, n2, n3." in bodies[0] and "no answer within" in bodies[0]
    assert "it is over; it lasted" in bodies[-1] and "OSD_DOWN" in bodies[-1]
