"""The client without a cluster: what it says, and that it waits no longer than it must."""

import os
import threading
import time

import pytest
from saltrbd import client, errors, settings
from saltrbd.client import Client

IMAGE = {"pool": "rbd", "namespace": "", "image": "db", "snapshot": ""}


@pytest.fixture
def nobody(tmp_path):
    """Settings for a port that nobody serves."""
    keyring = tmp_path / "keyring"
    keyring.write_text("[client.admin]\n\tkey = AQBSdFhfAAAAABAAZ0a8Q1VbGm1yCqLJf3mQdg==\n")
    ceph = {"monitors": ["127.0.0.1:1"], "keyring": str(keyring)}
    return settings.load({"id": "tests"}, {"ceph": ceph, "rbd": {"timeout": 3}})


def test_one_client_for_the_same_settings(nobody):
    assert client.get(nobody) is client.get(nobody)
    assert client.get(nobody) is not client.get(nobody._replace(timeout=4.0))


def test_unreachable_says_for_what(nobody):
    requests = [("image_create", dict(IMAGE, size=1)), ("snapshot_create", dict(IMAGE, snapshot="s")), ("cluster_info", {})]
    outcomes = Client(nobody).batch(requests)
    assert {type(outcome.error) for outcome in outcomes} == {errors.ClusterUnreachable}
    said = [str(outcome.error) for outcome in outcomes]
    assert all("127.0.0.1:1" in text for text in said)
    assert said[0].endswith("(This was for creating the image rbd/db; nothing was done.)")
    assert said[1].endswith("(This was for creating the snapshot rbd/db@s; nothing was done.)")
    assert said[2].endswith("(This was for asking for the cluster's settings; nothing was done.)")
    with pytest.raises(errors.ClusterUnreachable):
        outcomes[0].get()


def test_a_highstate_does_not_wait_for_each_state(nobody):
    """The first connection has the whole limit; the next ones, while nobody answers, a part of it."""
    ceph, waited = Client(nobody), []
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(errors.ClusterUnreachable):
            ceph.call("cluster_info")
        waited.append(time.monotonic() - began)
    assert 2.9 < waited[0] < 4.5
    assert all(1.9 < seconds < 2.9 for seconds in waited[1:])


def test_fork_while_another_thread_waits(nobody):
    """The child has a lock of its own: the other thread, which held it, is not there any more."""
    ceph = client.get(nobody)
    thread = threading.Thread(target=ceph.batch, args=([("cluster_info", {})],))
    thread.start()
    time.sleep(0.5)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            free = ceph._mine().acquire(timeout=0.5)
            code = 0 if free and client.get(nobody) is not ceph and ceph._worker is None else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join(10)
    assert not thread.is_alive()


def test_close_without_a_worker(nobody):
    Client(nobody).close()
    client.close_all()
    client.close_idle()
    assert client._clients == {}


def looked(op, snapshot="", error=None, **facts):
    """The sentence for a write that had no answer, after a second look."""
    flight = client._Flight(0, op, dict(IMAGE, snapshot=snapshot, image_id="1f"), 1, settings.load({}, {}))
    flight.lost = errors.CephTimeout, "had no answer"
    whole = {"id": "1f", "size": 1 << 30, "snapshots": [], "watchers": [], **facts}
    return str(client._lost(flight, client.Outcome(None if error else whole, error)))


SNAP = {"name": "s", "protected": True}
HELD = {"address": "192.0.2.7:0/1"}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (looked("image_create"), "had no answer. Its outcome is unknown: a new worker finds the image, 1G, with 0 snapshots."),
        (looked("image_remove", error=errors.ImageNotFound("x")), "unknown: a new worker finds no such image."),
        (looked("image_remove", error=errors.CephTimeout("Nobody.")), "unknown: a second look was not possible either (Nobody)."),
        (
            looked("image_remove"),
            "with 0 snapshots; if its name is gone it lies in the trash, where 'rbd trash rm' by the id 1f ends the removal.",
        ),
        (looked("snapshot_create", "s"), "Its outcome is unknown: a new worker finds the image without that snapshot."),
        (looked("snapshot_create", "s", snapshots=[SNAP]), "a new worker finds the snapshot, protected."),
        (looked("snapshot_create", "t", snapshots=[SNAP]), "a new worker finds the image without that snapshot."),
        (looked("snapshot_protect", "s", snapshots=[dict(SNAP, protected=False)]), "a new worker finds the snapshot, not protected."),
        (
            looked("image_resize", watchers=[HELD, HELD]),
            "with 0 snapshots; it is in use by 192.0.2.7:0/1 (one that has died holds up writes for 30 s).",
        ),
    ],
)
def test_second_look(made, words):
    assert made.endswith(words)


def test_a_lost_question_has_no_outcome():
    flight = client._Flight(0, "image_info", IMAGE, 1, settings.load({}, {}))
    flight.lost = errors.WorkerDied, "was cut off"
    assert str(client._lost(flight, None)) == "Reading the image rbd/db was cut off."


@pytest.mark.parametrize(
    ("args", "grants"),
    [
        ({}, "profile rbd"),
        (IMAGE, "profile rbd pool=rbd"),
        (dict(IMAGE, data_pool="ec", parent={"pool": "rbd"}), "profile rbd pool=rbd, profile rbd pool=ec"),
        (dict(IMAGE, data_pool=None, parent={"pool": "gold"}), "profile rbd pool=rbd, profile rbd pool=gold"),
    ],
)
def test_what_is_not_permitted_names_its_pools(nobody, args, grants):
    told = Client(nobody)._hint("PermissionDenied", args)
    assert told == f" Give client.admin the capabilities mon 'profile rbd' and osd '{grants}'."


def test_limits():
    given = settings.load({}, {"rbd": {"timeout": 7, "progress_timeout": 70}})
    assert client._Flight(0, "image_info", IMAGE, 1, given).limit == 7
    assert client._Flight(0, "image_remove", IMAGE, 1, given).limit == 70
