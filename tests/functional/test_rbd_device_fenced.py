"""rbd_device.fenced and unfenced: the OSDs' blocklist, on the real cluster; test_two_clients.py locks out a client of another host."""

import json
import uuid

import pytest
from saltrbd import client, errors, owner, users
from saltrbd import spec as specs
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


def test_never_a_session_of_this_host(states, modules, held, spec, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    number = held(spec)
    mine = rbd_cli.json("status", spec)["watchers"][0]["address"]
    for name, who in ((mine, None), (spec, mine), (spec, f"client.{number}"), (spec, "tests"), ("127.0.0.1", None)):
        assert "is an address of this host" in refused(states.rbd_device.fenced, name, **({"who": who} if who else {}))
        with pytest.raises(errors.Refused, match=users.DEAD.split(",")[0]):
            modules.rbd_device.fence(name, who)
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


@pytest.fixture
def dead(ceph, rbd_cli, spec, address):
    """The image has the lock of a host db1 that mapped it, and is gone."""
    rbd_cli("create", spec, "--size", "16M")
    rbd_cli("snap", "create", f"{spec}@s")
    facts = json.dumps({"host": "db1", "boot": "b", "pids": "p", "address": address, "client": 7})
    where = {"image_id": rbd_cli.json("info", spec)["id"], "name": owner.LOCK, "cookie": "c", "description": facts}
    ceph.call("image_lock", specs.parse(spec), **where)
    return spec


FREED = {"lock": {"old": "held by the host db1", "new": None}}


def test_the_lock_of_the_dead_goes_too(states, state_run, dead, address, other_client, rbd_cli):
    """A rollback and a removal that follow in the same run are foreseen."""
    assert f"the lock 'saltrbd' held by the host db1 at {address}" in refused(states.rbd_image.absent, dead)
    other_client(dead, "image.write(b'after', 0)")
    text = f"""
fenced:
  rbd_device.fenced: [{{name: {dead}}}, {{who: db1}}, {{seconds: 60}}]
back:
  rbd_snapshot.rolled_back: [{{name: {dead}@s}}, {{discard_changes: true}}]
gone:
  rbd_image.absent: [{{name: {dead}}}]
"""
    dry, real = state_run(text, test=True), state_run(text)
    assert [one.result for one in dry] == [None] * 3 and [one.result for one in real] == [True] * 3, [one.comment for one in real]
    assert [one.changes for one in dry] == [one.changes for one in real]
    assert real[0].changes == {address: {"fenced": {"old": False, "new": True}}, dead: FREED}


def test_the_lock_of_one_that_is_out_already(states, modules, dead, address):
    both(states.rbd_device.fenced, address, seconds=60)
    assert "the lock 'saltrbd' held by the host db1" in refused(states.rbd_image.absent, dead)
    assert both(states.rbd_device.fenced, dead, who=address, seconds=60).changes == {dead: FREED}
    assert modules.rbd_device.users(dead)["owner"] is None
    both(states.rbd_image.absent, dead)


def test_a_dry_run_maps_what_it_has_freed(state_run, states, dead, address):
    text = f"""
fenced:
  rbd_device.fenced: [{{name: {dead}}}, {{who: db1}}, {{seconds: 60}}]
mapped:
  rbd_device.mapped: [{{name: {dead}}}, {{persist: false}}]
"""
    dry, real = state_run(text, test=True), state_run(text)
    assert [one.result for one in real] == [True] * 2 and [one.changes for one in dry] == [one.changes for one in real]
    assert not any("is locked out of the cluster" in one.comment for one in (dry[1], real[1]))
    both(states.rbd_device.unmapped, dead)


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
