"""Alerts as the states set them up: master and minion under systemd in a node, the OSD stopped, the mails at a server of the host."""

import json
import os
import signal
import time

import pytest
from mailhost import Mailhost
from masterless import PILLAR, STATES, Host
from node_end import ending

from labkit import bridge, nodes
from labkit import cluster as lab_cluster
from labkit.commands import run

pytestmark = pytest.mark.timeout(2800)

WANTED = "salt_environment,salt_master,salt_minion,ceph,alerts.master,alerts"
USER = "alerts"
PASSWORD = "a-planted-Pa55word"
PATIENCE = 600


@pytest.fixture(scope="module")
def host(lab_home):
    """The node, and what the dry run, the first and the second run said (``runs``); ``inbox`` has the mails."""
    found = Host(lab_home, 6)
    with ending(found.node):
        found.known = nodes.facts(lab_home)
        server = Mailhost(address=bridge.address(found.node.network)).come()
        found.inbox = server.inbox
        capabilities = ["mon", "profile rbd", "osd", "profile rbd"]
        keyring = run(["ceph", "-c", found.known["conf"], "auth", "get-or-create", f"client.{USER}", *capabilities])[1]
        member = {"name": "A. Admin", "address": "a@example.net", "admin": True}
        # aiosmtpd lets nobody in without TLS, so nobody logs in here; the password is that of a second row.
        mail = {"host": bridge.address(found.node.network), "port": server.port, "security": "none", "sender": "storage@example.net"}
        found.wanted = {
            "salt_environment": {"version": os.environ["RBD_LAB_SALT"], "build_packages": []},
            "salt_master": {"file_roots": [f"{STATES}/salt"], "pillar_roots": [PILLAR]},
            "salt_minion": {"master": "127.0.0.1"},
            "ceph": {**{key: found.known[key] for key in ("fsid", "monitors", "pool")}, "user": USER, "keyring_text": keyring},
            "platform": {
                "settings": {"mail": [{"id": "u1", "name": "relay", **mail}]},
                "contact_groups": {
                    "storage": {"members": [member, {"name": "B. Other", "address": "b@example.net"}]},
                    "office": {"members": [member]},
                },
                "alerts": {"interval": 10, "report_every": 20, "hold": 5, "calm": 30},
            },
        }
        found.pillar(found.wanted)
        found.runs = [found.apply(WANTED, test=True), found.apply(WANTED)]
        settled(found.node)
        found.node.run("salt-key", "--yes", f"--accept={found.node.name}")
        found.runs.append(found.apply(WANTED))
        try:
            yield found
        finally:
            server.go()


def settled(node, seconds=300):
    """Wait until the restarts are over that come after a job, and both daemons run."""
    until(lambda: not node.run("systemctl", "list-units", "--plain", "--no-legend", "salt-*-restart@*")[1].strip(), "restarts", seconds)
    until(lambda: node.run("systemctl", "is-active", "salt-master", "salt-minion", check=False)[0] == 0, "daemons", seconds)


def until(true, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(1)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def runner(node, *words):
    return json.loads(node.run("salt-run", "--out=json", *words, timeout=120)[1])


def test_the_runs(host):
    dry, first, second = host.runs
    assert [found.failed() for found in host.runs] == [{}, {}, {}]
    assert dry.changed() == first.changed()
    assert second.changed() == set()
    modes = host.node.run("stat", "-c", "%a %U %G", "/etc/salt/alerts", "/etc/salt/alerts/settings.json", "/var/lib/salt-alerts")[1]
    assert modes.split("\n")[:3] == ["750 root salt", "640 root salt", "700 salt salt"]


def test_a_mail_now(host):
    assert runner(host.node, "platform_alerts.probe", "storage") is True
    assert host.inbox.subjects() == {"a@example.net b@example.net": ["[storage] a test"]}
    host.inbox.mails.clear()


def test_the_osd_goes_and_comes_back(host):
    """The mails for each group: one when it goes, one when it is back, none for a restart in between."""
    osd = lab_cluster.daemons(host.known["folder"])["ceph-osd"]
    os.kill(osd, signal.SIGSTOP)
    try:
        until(lambda: len(host.inbox.mails) >= 2, "the mails of a stopped OSD")
        host.node.run("systemctl", "restart", "salt-minion", "salt-master", timeout=300)
        key = f"cluster {host.known['fsid']}|health|availability"
        assert list(runner(host.node, "platform_alerts.show")["alerts"]) == [key]
        time.sleep(60)
        assert len(host.inbox.mails) == 2
    finally:
        os.kill(osd, signal.SIGCONT)
    until(lambda: len(host.inbox.mails) >= 4, "the mails of an OSD that is back")
    time.sleep(90)
    new, over = (f"[storage] {what}: Ceph's health, availability (cluster {host.known['fsid']})" for what in ("new", "over"))
    assert host.inbox.subjects() == {"a@example.net b@example.net": [new, over], "a@example.net": [new, over]}


def test_a_password_stands_in_its_file_alone(host):
    wanted = json.loads(json.dumps(host.wanted))
    wanted["platform"]["settings"]["mail"][0].update(security="starttls", user="storage", password=PASSWORD)
    host.pillar(wanted)
    dry, real = host.apply("alerts.master", test=True), host.applied("alerts.master")
    assert dry.failed() == {}
    assert dry.changed() == real.changed() != set()
    settled(host.node)
    assert PASSWORD not in json.dumps([dry, real])
    assert host.node.run("cat", "/etc/salt/alerts/password")[1].strip() == PASSWORD
    assert host.node.run("stat", "-c", "%a %U %G", "/etc/salt/alerts/password")[1].strip() == "640 root salt"
    # The server offers no STARTTLS, so it gets neither.
    assert "STARTTLS extension not supported" in runner(host.node, "platform_alerts.probe", "storage")
    found = host.node.run("grep", "-rlF", PASSWORD, "/etc", "/var/log", "/var/lib/salt-alerts", "/usr/local", check=False)[1].split()
    assert found == ["/etc/salt/alerts/password"]
    assert PASSWORD not in host.node.run("journalctl", "--no-pager")[1]


def test_a_mistake_is_refused_and_changes_nothing(host):
    wanted = json.loads(json.dumps(host.wanted))
    wanted["platform"]["contact_groups"]["storage"]["members"][0]["admin"] = False
    host.pillar(wanted)
    for test in (True, False):
        said = host.apply("alerts.master", test=test)
        assert "platform:contact_groups:storage: the group has no admin" in " ".join(said.failed().values())
        assert said.changed() == set()
    host.pillar(host.wanted)


def test_it_goes(host):
    for sls in ("alerts.clean,alerts.master_clean",):
        dry, real = host.apply(sls, test=True), host.applied(sls)
        assert dry.changed() == real.changed() != set()
        settled(host.node)
        assert host.applied(sls).changed() == set()
    left = host.node.run("ls", "/etc/salt/alerts", "/var/lib/salt-alerts", "/etc/salt/master.d/70-alerts.conf", check=False)[1]
    assert left == ""
