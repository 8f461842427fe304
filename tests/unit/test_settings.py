"""What pillar and minion configuration say."""

import pytest
from saltrbd import settings
from saltrbd.errors import InvalidPillar


def test_defaults():
    chosen = settings.load({"id": "node1"}, {})
    assert (chosen.pool, chosen.user, chosen.timeout, chosen.threads, chosen.host) == ("rbd", "admin", 30.0, 200, "node1")
    assert settings.conf_file(chosen) == "/etc/ceph/ceph.conf"
    assert settings.monitors_for_people(chosen) == "/etc/ceph/ceph.conf"


def test_the_pillar_wins_key_by_key():
    opts = {"ceph": {"pool": "a", "user": "client.u"}, "rbd": {"timeout": 5}}
    pillar = {"ceph": {"pool": "b", "namespace": None}, "rbd": {"threads": 2}}
    chosen = settings.load(opts, pillar)
    assert (chosen.pool, chosen.user, chosen.namespace, chosen.timeout, chosen.threads) == ("b", "u", "", 5, 2)
    # It is the key of this process's clients.
    assert hash(chosen) == hash(settings.load(opts, pillar))


def test_monitors_stand_for_a_conf_file():
    chosen = settings.load({}, {"ceph": {"monitors": ["192.0.2.1:6789", "192.0.2.2:6789"]}})
    assert settings.mon_host(chosen) == "192.0.2.1:6789,192.0.2.2:6789"
    assert settings.conf_file(chosen) == ""
    assert settings.command_args(chosen) == ["--id", "admin", "--conf", "/dev/null", "-m", "192.0.2.1:6789,192.0.2.2:6789"]
    assert settings.load({}, {"ceph": {"monitors": "192.0.2.1"}}).monitors == ("192.0.2.1",)


def test_plain_keeps_the_keys_as_they_are():
    # YAML reads 0001 as a number: a volume of that name must be told, not renamed.
    assert settings.plain({1: {"a": (1, [2])}}) == {1: {"a": [1, [2]]}}


@pytest.mark.parametrize(
    ("pillar", "words"),
    [
        ({"ceph": ["a"]}, "'ceph:' must be a mapping"),
        ({"rbd": "x"}, "'rbd:' must be a mapping"),
        ({"ceph": {"pool": 5}}, "ceph:pool must be one line of text, not 5; put it in quotes"),
        ({"ceph": {"fsid": 10**5000}}, "ceph:fsid must be one line of text"),
        ({"ceph": {"conf": "a\0b"}}, "ceph:conf must be one line of text"),
        ({"ceph": {"keyring": "a\nb"}}, "ceph:keyring must be one line of text"),
        ({"ceph": {"user": "\ud800"}}, "ceph:user must be one line of text"),
        ({"ceph": {"user": ""}}, "ceph:user is empty"),
        ({"ceph": {"user": "client."}}, "ceph:user is empty"),
        ({"ceph": {"monitors": {"a": 1}}}, "ceph:monitors must be a list"),
        ({"ceph": {"monitors": [""]}}, "ceph:monitors must be a list"),
        ({"ceph": {"monitors": [1]}}, "ceph:monitors must be a list"),
        ({"rbd": {"python": "/usr/bin/python3\0"}}, "rbd:python must be one line of text"),
        ({"rbd": {"driver": []}}, "rbd:driver must be one line of text"),
        ({"rbd": {"timeout": 0}}, "rbd:timeout must be seconds"),
        ({"rbd": {"max_depth": 0}}, "rbd:max_depth must be a number from 1 to 100, not 0"),
        ({"rbd": {"warn_depth": "4"}}, "rbd:warn_depth must be a number from 1 to 100, not '4'"),
        ({"rbd": {"max_snapshots": True}}, "rbd:max_snapshots must be a number from 1 to 16383, not True"),
        ({"rbd": {"warn_snapshots": 16384}}, "rbd:warn_snapshots must be a number from 1 to 16383, not 16384"),
        ({"rbd": {"timeout": -1}}, "rbd:timeout must be seconds"),
        ({"rbd": {"timeout": True}}, "rbd:timeout must be seconds"),
        ({"rbd": {"timeout": "30"}}, "rbd:timeout must be seconds"),
        ({"rbd": {"timeout": float("nan")}}, "rbd:timeout must be seconds"),
        ({"rbd": {"progress_timeout": float("inf")}}, "rbd:progress_timeout must be seconds"),
        ({"rbd": {"freeze_timeout": 86401}}, "rbd:freeze_timeout must be seconds"),
        ({"rbd": {"threads": 0}}, "rbd:threads must be a number from 1 to 1000"),
        ({"rbd": {"threads": 1001}}, "rbd:threads must be a number from 1 to 1000"),
        ({"rbd": {"threads": 2.0}}, "rbd:threads must be a number from 1 to 1000"),
        ({"rbd": {"threads": True}}, "rbd:threads must be a number from 1 to 1000"),
    ],
)
def test_invalid(pillar, words):
    with pytest.raises(InvalidPillar) as error:
        settings.load({}, pillar)
    assert words in str(error.value)


def test_every_mistake_is_told_at_once():
    with pytest.raises(InvalidPillar) as error:
        settings.load({"rbd": {"threads": 0}}, {"ceph": {"pool": 1, "user": 2}})
    assert all(words in str(error.value) for words in ("rbd:threads", "ceph:pool", "ceph:user"))


@pytest.mark.parametrize(
    ("section", "unknown"),
    [
        ({}, ""),
        (None, ""),
        ({"fsid": "x", "pool": "rbd", "keyring_text": "x"}, ""),
        ({"fs_id": "x", "pool": "rbd"}, "unknown key 'fs_id'"),
        ({1: "x", "foo": "y"}, "unknown keys 'foo', 1"),
        ({True: "x", None: "y", 2.5: "z", "pool": "rbd"}, "unknown keys 2.5, None, True"),
    ],
)
def test_unknown_keys(section, unknown):
    there = " (there are conf, fs_type, fsid, keyring, keyring_text, monitors, namespace, pool, user)"
    assert settings.unknown_keys({"ceph": section}) == ("ceph: " + unknown + there if unknown else "")
