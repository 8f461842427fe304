"""The pillar's platform:alerts, and by which mail server people are told: what is refused, with its path."""

import json

import pytest
from saltplatform import alert_settings
from saltrbd import settings

CEPH = settings.load({}, {})
ROW = {"id": "u1", "name": "relay", "host": "smtp.example.net", "port": 587, "security": "starttls"}
ROW.update(user="storage@example.net", password="a planted password", sender="storage@example.net")
GROUPS = {name: {"members": [{"name": "A", "address": f"{name}@example.net", "admin": True}]} for name in ("storage", "office")}


def pillar(alerts=None, mail=(ROW,), groups=GROUPS):
    return {"platform": {"settings": {"mail": list(mail)}, "contact_groups": groups, "alerts": alerts}}


def test_what_a_node_looks_for():
    look, mistakes = alert_settings.watched(pillar({"interval": "2m", "snapshots": {"rbd0001": "26h", "fast/a": 3600}}), CEPH)
    assert mistakes == []
    assert look == {
        "interval": 120,
        "report_every": 300,
        "pool_full": 80,
        "volume_full": 90,
        "frozen": 60,
        "snapshots": {"rbd/rbd0001": 93600, "fast/a": 3600},
    }


@pytest.mark.parametrize("nothing", [{}, {"platform": None}, {"platform": {}}, {"platform": {"alerts": None}}])
def test_a_node_without_a_word_of_it_looks_all_the_same(nothing):
    look, mistakes = alert_settings.watched(nothing, CEPH)
    assert (look["interval"], look["snapshots"], mistakes) == (60, {}, [])


def test_how_the_master_tells():
    told, mistakes = alert_settings.told(pillar({"ca_file": "/etc/ssl/own.pem", "hold": 0}))
    assert mistakes == []
    assert told["rules"] == {"hold": 0, "calm": 300, "mails_per_hour": 12, "report_every": 300}
    assert sorted(told["groups"]) == ["office", "storage"]
    without = {key: ROW[key] for key in ("host", "port", "security", "user", "sender")}
    assert told["mail"] == {**without, "ca_file": "/etc/ssl/own.pem"}
    assert told["password"] == "platform:settings:mail:0:password"
    assert "planted" not in json.dumps(told)


@pytest.mark.parametrize("wanted", ["u1", "relay"])
def test_one_of_several_mail_servers(wanted):
    told, mistakes = alert_settings.told(pillar({"mail": wanted}, mail=[{"id": "u0", "name": "other"}, ROW]))
    assert (mistakes, told["password"]) == ([], "platform:settings:mail:1:password")


def test_one_of_the_groups():
    told, mistakes = alert_settings.told(pillar({"groups": ["office"]}))
    assert (list(told["groups"]), mistakes) == (["office"], [])


MAIL = "platform:settings:mail:0"


def row(**changes):
    found = {**ROW, **changes}
    return {"mail": [{key: value for key, value in found.items() if value != "-"}]}


@pytest.mark.parametrize(
    ("alerts", "more", "told"),
    [
        ([], {}, "platform:alerts: it must be a mapping, not []."),
        ({"intervall": 60}, {}, "platform:alerts: unknown key 'intervall' (there are "),
        ({"hold": "soon"}, {}, "platform:alerts:hold: it must be a span of time from 0 s to 86400 s such as 1m, not 'soon'."),
        ({"calm": -1}, {}, "platform:alerts:calm: it must be a span"),
        ({"mails_per_hour": 0}, {}, "platform:alerts:mails_per_hour: it must be a number from 1 to 1000, not 0."),
        ({"ca_file": "own.pem"}, {}, "platform:alerts:ca_file: it must be the absolute path"),
        ({"groups": "storage"}, {}, "platform:alerts:groups: it must be a list of contact groups, not 'storage'."),
        ({"groups": ["stroage"]}, {}, "platform:alerts:groups: there is no contact group 'stroage' (there are office, storage)."),
        ({}, {"groups": {}}, "platform:contact_groups: there is no group, so nobody could be told"),
        ({}, {"mail": []}, "platform:settings:mail: it must be a list of mail servers with at least one"),
        ({}, {"mail": [ROW, ROW]}, "platform:alerts:mail: there are 2 mail servers; name one by its id or name."),
        ({"mail": "u2"}, {}, "platform:alerts:mail: none of the rows of platform:settings:mail have 'u2' as id or name"),
        ({"mail": "relay"}, {"mail": [ROW, ROW]}, "platform:alerts:mail: 2 of the rows"),
        ({}, row(host="-"), f"{MAIL}:host: it must be the name or address of a mail server, not None."),
        ({}, row(host="a b"), f"{MAIL}:host: it must be the name"),
        ({}, row(port="587"), f"{MAIL}:port: it must be a number from 1 to 65535"),
        ({}, row(security="ssl"), f"{MAIL}:security: it must be one of none, starttls, tls, not 'ssl'."),
        ({}, row(sender="storage"), f"{MAIL}:sender: 'storage' is no address"),
        ({}, row(password="-"), f"{MAIL}: user and password go together; declare both or none."),
        ({}, row(user="-"), f"{MAIL}: user and password go together; declare both or none."),
        ({}, row(password=""), f"{MAIL}:password: it must be one line of ASCII text, and not empty"),
        ({}, row(password="a planted pässword"), f"{MAIL}:password: it must be one line of ASCII text"),
        ({}, row(security="none"), f"{MAIL}:security: with none the password of 'storage@example.net' would be sent in the clear"),
    ],
)
def test_what_the_master_is_refused(alerts, more, told):
    found, mistakes = alert_settings.told(pillar(alerts, **more))
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].startswith(told), mistakes
    assert "planted" not in str(mistakes) + str(found)


def test_in_the_clear_to_this_host_only():
    assert alert_settings.told(pillar(mail=[{**ROW, "security": "none", "host": "127.0.0.1"}]))[1] == []


@pytest.mark.parametrize(
    ("alerts", "told"),
    [
        ({"interval": 1}, "platform:alerts:interval: it must be a span of time from 10 s to 3600 s such as 1m, not 1."),
        ({"pool_full": 101}, "platform:alerts:pool_full: it must be a number from 1 to 100, not 101."),
        ({"volume_full": "90%"}, "platform:alerts:volume_full: it must be a number from 1 to 100, not '90%'."),
        ({"volume_full": True}, "platform:alerts:volume_full: it must be a number"),
        ({"frozen": 0}, "platform:alerts:frozen: it must be a span"),
        ({"snapshots": ["rbd0001"]}, "platform:alerts:snapshots: it must be a mapping of images"),
        ({"snapshots": {"a/b/c/d": "1d"}}, "platform:alerts:snapshots:a/b/c/d: "),
        ({"snapshots": {"rbd0001": "daily"}}, "platform:alerts:snapshots:rbd0001: The age must be seconds"),
        ({"snapshots": {"rbd0001": 5}}, "platform:alerts:snapshots:rbd0001: The age 5 is less than a minute."),
    ],
)
def test_what_a_node_is_refused(alerts, told):
    _, mistakes = alert_settings.watched(pillar(alerts), CEPH)
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].startswith(told), mistakes
