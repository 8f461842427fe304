"""The runner: reports in, mails out, by a real SMTP server; what is open outlives every process, and a dead mail server only delays."""

import json
import logging
import threading
from types import SimpleNamespace

import pytest
from mailhost import Mailhost

from labkit import golden

GROUPS = {
    "storage": [
        {"name": "A", "address": "a@example.net", "admin": True},
        {"name": "B", "address": "b@example.net", "admin": False},
    ],
    "office": [{"name": "C", "address": "c@example.net", "admin": True}],
}
RULES = {"hold": 60, "calm": 300, "report_every": 300, "mails_per_hour": 12}
DOWN = {"area": "health", "subject": "availability", "level": "fault", "text": "OSD_DOWN: 1 osds down."}
TAG = "salt/beacon/{}/rbd_health/"


@pytest.fixture
def mailhost():
    found = Mailhost().come()
    yield found
    found.go()


@pytest.fixture
def runner(repo, tmp_path, mailhost, monkeypatch):
    """The runner's module, as the master's loader makes it; ``runner.clock.now`` is its time."""
    state = tmp_path / "state"
    state.mkdir()
    mail = {"host": "localhost", "port": mailhost.port, "security": "none", "sender": "storage@example.net"}
    (tmp_path / "settings.json").write_text(json.dumps({"rules": RULES, "groups": GROUPS, "mail": mail}))
    golden.module.cache_clear()
    found = golden.module(repo / "_runners/platform_alerts.py")
    found.__opts__ = {"platform_alerts": {"settings": str(tmp_path / "settings.json"), "folder": str(state)}}
    found.clock = SimpleNamespace(now=1000000.0)
    found.time = SimpleNamespace(time=lambda: found.clock.now)

    def say(after, node, *found_now):
        found.clock.now += after
        data = {"cluster": "c", "looked": ["health"], "found": list(found_now), "id": node, "_stamp": "now"}
        return found.report(TAG.format(node), data)

    found.say = say
    return found


NEW = "[storage] new: Ceph's health, availability (cluster c)"
STORAGE, OFFICE = "a@example.net b@example.net", "c@example.net"
OVER = "[storage] over: Ceph's health, availability (cluster c)"


def test_one_mail_for_each_group_and_one_at_the_end(runner, mailhost):
    for node in ("n1", "n2", "n3"):
        assert runner.say(0, node, DOWN)
    for _ in range(5):
        for node in ("n1", "n2", "n3"):
            runner.say(20, node, DOWN)
    assert mailhost.inbox.subjects() == {OFFICE: [NEW], STORAGE: [NEW]}
    assert list(runner.show()["alerts"]) == ["cluster c|health|availability"]
    for node in ("n1", "n2", "n3"):
        runner.say(20, node)
    runner.clock.now += 301
    assert runner.tick() is True
    runner.tick()
    assert mailhost.inbox.subjects() == {OFFICE: [NEW, OVER], STORAGE: [NEW, OVER]}
    assert runner.show() == {"alerts": {}, "waiting": []}


def test_a_dead_mail_server_delays_and_is_told_in_the_log(runner, mailhost, caplog):
    caplog.set_level(logging.INFO)
    mailhost.go()
    runner.say(0, "n1", DOWN)
    runner.say(61, "n1", DOWN)
    assert [(mail["group"], mail["tries"]) for mail in runner.show()["waiting"]] == [("office", 1), ("storage", 1)]
    assert caplog.text.count("could not be sent: localhost:") == 2
    assert "It is tried again in 60 s." in caplog.text
    runner.tick()
    assert runner.show()["waiting"][0]["tries"] == 1, "not before its time"
    mailhost.come()
    runner.clock.now += 61
    runner.tick()
    assert mailhost.inbox.subjects() == {OFFICE: [NEW], STORAGE: [NEW]}
    assert runner.show()["waiting"] == []
    assert "was sent to the group storage" in caplog.text


def test_many_reports_at_once(runner, mailhost):
    """As the reactor's threads bring them."""
    runner.say(0, "n0", DOWN)
    runner.clock.now += 61
    threads = [threading.Thread(target=runner.say, args=(0, f"n{number}", DOWN)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    runner.tick()
    assert mailhost.inbox.subjects() == {OFFICE: [NEW], STORAGE: [NEW]}
    assert runner.show()["alerts"]["cluster c|health|availability"]["nodes"] == sorted(f"n{number}" for number in range(12))


@pytest.mark.parametrize(
    "tag",
    ["salt/beacon/n1/rbd_health/x", "salt/beacon/a/b/rbd_health/", "salt/beacon/n1/other/", "salt/beacon/n\n1/rbd_health/", "x" * 9999, ""],
)
def test_what_is_no_report_is_left_out(runner, tag, caplog):
    assert runner.report(tag, {"cluster": "c", "looked": ["health"], "found": [DOWN]}) is False
    assert runner.report(TAG.format("n1"), {"found": "x"}) is False
    assert "is left out" in caplog.text
    assert runner.show() == {"alerts": {}, "waiting": []}


def test_a_password_that_cannot_be_read(runner, tmp_path, caplog):
    runner.__opts__["platform_alerts"]["password"] = str(tmp_path / "none")
    runner.say(0, "n1", DOWN)
    runner.say(61, "n1", DOWN)
    assert "the password of the mail server cannot be read" in runner.show()["waiting"][0]["error"]
    assert runner.probe("storage").startswith("the password of the mail server cannot be read")


def test_probe(runner, mailhost):
    assert runner.probe("storage") is True
    assert mailhost.inbox.subjects() == {STORAGE: ["[storage] a test"]}
    assert runner.probe("nobody") == "There is no group nobody; there are office, storage."
    mailhost.go()
    assert runner.probe("storage").startswith("localhost:")


def test_a_node_that_is_no_more(runner, mailhost):
    runner.say(0, "n1", DOWN)
    runner.say(61, "n1", DOWN)
    assert runner.forget("n1") == ["cluster c|health|availability"]
    runner.tick()
    runner.clock.now += 301
    runner.tick()
    assert mailhost.inbox.subjects() == {OFFICE: [NEW, OVER], STORAGE: [NEW, OVER]}


def test_without_its_configuration_it_says_so(runner):
    runner.__opts__ = {}
    with pytest.raises(ValueError, match="alerts/master.sls"):
        runner.tick()
