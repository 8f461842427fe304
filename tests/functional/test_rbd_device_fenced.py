"""rbd_device.fenced and unfenced: the OSDs' blocklist, on the real cluster; test_two_clients.py locks out a client of another host."""

import uuid

import pytest
from saltrbd import client, errors, users
from state_checks import both, refused, unchanged


@pytest.fixture
def address():
    """The address of a client that is none: of the range that is kept for documentation."""
    return f"192.0.2.7:0/{uuid.uuid4().int % 10**9 + 1}"


def test_an_address_is_locked_out_and_let_in_again(states, modules, ceph_cli, address):
    unchanged(states.rbd_device.unfenced, address)
    ran = both(states.rbd_device.fenced, address, seconds=600)
    assert ran.changes == {address: {"fenced": {"old": False, "new": True}}}
    assert address in modules.rbd_device.fenced()
    assert address in ceph_cli("osd", "blocklist", "ls")
    assert modules.rbd_device.fence(address) == []
    ran = both(states.rbd_device.unfenced, address)
    assert ran.changes == {address: {"fenced": {"old": True, "new": False}}}
    assert address not in modules.rbd_device.fenced()
    assert modules.rbd_device.unfence(address) == []


def test_a_whole_host(states, modules):
    both(states.rbd_device.fenced, "192.0.2.9")
    unchanged(states.rbd_device.fenced, "192.0.2.9:0/5")
    assert "with its whole host" in refused(states.rbd_device.unfenced, "192.0.2.9:0/5")
    both(states.rbd_device.unfenced, "192.0.2.9:0/0")
    assert not [entry for entry in modules.rbd_device.fenced() if entry.startswith("192.0.2.9:")]


@pytest.fixture
def let_in(modules, ceph_cli):
    """Should the refusal ever break: what was locked out of this host is let in again, so that the other tests have a cluster."""
    before = modules.rbd_device.fenced()
    yield
    client.close_all()
    for entry in set(modules.rbd_device.fenced()) - set(before):
        if entry.startswith("127.0.0.1:"):
            ceph_cli("osd", "blocklist", "rm", entry)


def test_never_a_session_of_this_host(states, modules, let_in, held, spec, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    number = held(spec)
    mine = rbd_cli.json("status", spec)["watchers"][0]["address"]
    for name, who in ((mine, None), (spec, mine), (spec, f"client.{number}"), (spec, "tests"), ("127.0.0.1", None)):
        assert "is an address of this host" in refused(states.rbd_device.fenced, name, who=who, seconds=5)
        with pytest.raises(errors.Refused, match=users.DEAD.split(",")[0]):
            modules.rbd_device.fence(name, who, seconds=5)
    assert rbd_cli.json("status", spec)["watchers"][0]["address"] == mine
    assert mine not in modules.rbd_device.fenced()


def test_nobody_who_is_called_so(states, spec, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    for state in (states.rbd_device.fenced, states.rbd_device.unfenced):
        unchanged(state, spec, who="db1")
        assert f"Nobody who is called db1 uses {spec}." in state(spec, who="db1").comment
    assert "the image does not exist" in refused(states.rbd_device.fenced, f"{spec}-none", who="db1")
    assert "say who of its users" in refused(states.rbd_device.fenced, spec)
    assert "who is not to be given" in refused(states.rbd_device.fenced, "192.0.2.7", who="db1")


def test_what_the_capabilities_allow(make_user, make_loaders, cluster, pool, ceph_cli, address):
    """Profile rbd may lock out, and not let in again; the message names what may."""

    def loaders(user, keyring):
        client.close_all()  # a session keeps the capabilities that it began with
        return make_loaders({"ceph": {"conf": cluster.conf, "user": user, "keyring": keyring, "fsid": cluster.fsid, "pool": pool}})

    user, keyring = make_user("profile rbd")
    theirs = loaders(user, keyring)
    both(theirs.states.rbd_device.fenced, address)
    failed = theirs.states.rbd_device.unfenced(address)
    assert failed.result is False and failed.changes == {}
    more = 'profile rbd, allow command "osd blocklist"'
    assert f"give client.{user} mon '{more}'" in failed.comment
    ceph_cli("auth", "caps", f"client.{user}", "mon", more, "osd", "profile rbd")
    both(loaders(user, keyring).states.rbd_device.unfenced, address)
    ceph_cli("auth", "caps", f"client.{user}", "mon", "allow r", "osd", "profile rbd")
    failed = loaders(user, keyring).states.rbd_device.fenced(address)
    assert failed.result is False and f"Give client.{user} the capabilities mon 'profile rbd'" in failed.comment
