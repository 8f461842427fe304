"""A snapshot that somebody else makes: Ceph's quiesce hook of images mapped by rbd-nbd, and the hook alone by every driver."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from freeze_checks import helpers, is_frozen, no_helper_is_left, targets, tool, wait_thawed
from saltrbd import client, device, errors, freeze, quiesce, quiesce_program
from saltrbd import spec as specs
from worker_watch import until

from labkit import commands

DATA = os.urandom(3 << 20)


@pytest.fixture
def hook(repo, tmp_path, monkeypatch):
    """Run the hook as rbd-nbd does: ``hook(device, "quiesce")`` returns its exit code; ``hook.words`` is the command without these."""
    monkeypatch.setattr(quiesce_program, "FOLDER", str(tmp_path / "hooks"))
    path = quiesce_program.hook()

    def run(device, action, limit=15, before=()):
        settings = f'{{"freeze_timeout": {limit}}}'
        closed = ["sh", "-c", 'exec "$@" <&- >/dev/null', "sh", path, device, action]
        return subprocess.Popen([*before, *closed], stderr=subprocess.PIPE, env={**os.environ, quiesce_program.ENV: settings}, text=True)

    def call(device, action, limit=15, says=""):
        process = run(device, action, limit)
        told = process.communicate(timeout=60)[1]
        assert says in told and bool(says) == bool(told), told
        return process.returncode

    call.start = run
    yield call
    no_helper_is_left(30)


def device_of(ceph, spec):
    return device.mapped(ceph, spec).device


def quiesced(ceph, spec):
    """The path that is there while the hook has frozen the image's filesystem."""
    return os.path.join(quiesce.QUIESCED, os.path.basename(device_of(ceph, spec)))


def snap_create(cluster, snapshot):
    """The command of another client that makes a snapshot."""
    return ["rbd", "--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "snap", "create", snapshot]


@pytest.mark.parametrize(("fs_type", "size"), [("ext4", "64M"), ("xfs", "320M")])
def test_frozen_from_quiesce_to_unquiesce(fs_type, size, ceph, mounted, hook):
    spec, point = mounted(fs_type, size)
    for _ in range(2):
        assert hook(device_of(ceph, spec), "quiesce") == 0
        assert is_frozen(point)
        assert hook(device_of(ceph, spec), "unquiesce") == 0
        assert not is_frozen(point)
    found = targets(ceph, spec)[spec]
    assert os.path.basename(found.device) not in os.listdir(quiesce.QUIESCED) and found.number not in os.listdir(freeze.PASSING)


def test_its_time_is_up_and_that_is_told(ceph, mounted, hook):
    spec, point = mounted()
    assert hook(device_of(ceph, spec), "quiesce", limit=1) == 0
    wait_thawed(point, 20)
    assert hook(device_of(ceph, spec), "unquiesce", limit=1, says="was thawed before the snapshot was made") == 0


def test_whoever_asked_is_killed(ceph, mounted, hook):
    """The test's rbd-nbd is a shell."""
    spec, point = mounted()
    shell = hook.start(device_of(ceph, spec), "quiesce", limit=60, before=["sh", "-c", '"$@"; sleep 60', "sh"])
    until(lambda: os.path.exists(quiesced(ceph, spec)), 60, "it is not quiesced")
    assert is_frozen(point)
    shell.kill()
    shell.wait()
    wait_thawed(point, 20)
    shell.stderr.close()
    assert hook(device_of(ceph, spec), "unquiesce", says="was thawed before") == 0


def test_what_somebody_else_froze_is_left_so(ceph, mounted, hook):
    spec, point = mounted()
    tool("fsfreeze", "--freeze", point)
    try:
        assert hook(device_of(ceph, spec), "quiesce", says="frozen already, by somebody else, and left so") == 0
        assert hook(device_of(ceph, spec), "unquiesce") == 0
        assert is_frozen(point)
    finally:
        tool("fsfreeze", "--unfreeze", point)


def test_what_salt_froze_for_its_own_snapshot_is_kept(ceph, mounted, holder, hook):
    """Salt's snapshot may wait for this one, so its thaw is not waited for; but it must not come too early."""
    spec, point = mounted()
    ours = holder(spec, 60)
    assert hook(device_of(ceph, spec), "quiesce") == 0
    ours.kill()
    time.sleep(1)
    assert is_frozen(point)
    assert hook(device_of(ceph, spec), "unquiesce") == 0
    wait_thawed(point, 20)
    assert not any(name.startswith(targets(ceph, spec)[spec].number) for name in os.listdir(freeze.PASSING))


def test_two_that_others_make_while_salt_holds_it(ceph, mounted, holder, hook):
    """Each keeps it frozen, and gives it back; it is Salt's all the time, and another run of Salt would wait for it."""
    spec, point = mounted()
    ours, number = holder(spec, 60), targets(ceph, spec)[spec].number
    for _ in range(2):
        assert hook(device_of(ceph, spec), "quiesce") == 0
        assert hook(device_of(ceph, spec), "unquiesce") == 0
        assert is_frozen(point) and number in os.listdir(freeze.PASSING)
    ours.kill()
    wait_thawed(point, 5)


def test_what_salt_froze_is_not_kept_for_ever(ceph, mounted, holder, hook):
    spec, point = mounted()
    holder(spec, 10)
    assert hook(device_of(ceph, spec), "quiesce") == 0
    wait_thawed(point, 30)
    assert hook(device_of(ceph, spec), "unquiesce", says="was thawed before the snapshot was made") == 0


def test_salt_waits_for_what_is_frozen_for_others(ceph, mounted, hook):
    spec, point = mounted()
    assert hook(device_of(ceph, spec), "quiesce", limit=60) == 0
    with ThreadPoolExecutor(1) as pool:
        thawed = pool.submit(lambda: time.sleep(1) or hook(device_of(ceph, spec), "unquiesce"))
        with freeze.held(targets(ceph, spec), ceph.settings) as hold:
            assert thawed.result() == 0 and is_frozen(point)
    assert hold.intact and not is_frozen(point)


def test_salt_does_not_wait_for_ever(ceph, mounted, hook):
    spec, point = mounted()
    assert hook(device_of(ceph, spec), "quiesce", limit=60) == 0
    with pytest.raises(errors.FreezeFailed), freeze.held(targets(ceph, spec), ceph.settings._replace(freeze_timeout=0.1)):
        pytest.fail("it was held")  # what passes is waited for, not for ever
    assert hook(device_of(ceph, spec), "unquiesce") == 0
    assert not is_frozen(point)


@pytest.mark.parametrize("how", ["not mounted", "read-only"])
def test_where_nothing_can_be_dirty_nothing_is_frozen(how, ceph, mounted, hook):
    spec, point = mounted()
    tool(*(["umount", point] if how == "not mounted" else ["mount", "-o", "remount,ro", point]))
    says = {"not mounted": "no filesystem of it is mounted", "read-only": "is mounted read-only"}[how]
    assert hook(device_of(ceph, spec), "quiesce", says=says) == 0
    assert helpers() == []
    assert hook(device_of(ceph, spec), "unquiesce") == 0


def test_what_cannot_be_frozen_fails(ceph, mounted, hook):
    spec, point = mounted()
    tool("mount", "-t", "tmpfs", "none", point)
    try:
        assert hook(device_of(ceph, spec), "quiesce", says="something else is mounted over it") == 16
    finally:
        tool("umount", point)
    assert not is_frozen(point)


def refusal(point):
    """What a freeze says of a filesystem whose device is dead: an error of input and output, unless it is frozen."""
    return tool("fsfreeze", "--freeze", point, check=False).stderr.strip()


@pytest.fixture
def only_nbd(driver):
    if driver != "nbd":
        pytest.skip(f"mapped by {driver}")


@pytest.fixture
def by_nbd(only_nbd, ceph, rbd_cli, spec, tmp_path):
    """Map an image by nbd and mount its ext4: ``by_nbd(options, freeze_timeout=15)`` returns (spec, mount point, pid of rbd-nbd)."""

    def make(options=None, ceph=ceph):
        rbd_cli("create", spec, "--size", "64M")
        mapping = device.map_image(ceph, specs.parse(spec), driver="nbd", options=options)
        point = tmp_path / "point"
        point.mkdir()
        tool("mkfs.ext4", "-q", mapping.device)
        tool("mount", mapping.device, str(point))
        return specs.parse(spec), str(point), mapping.pid

    return make


@pytest.fixture
def counted(only_nbd, tmp_path, monkeypatch):
    """Let images be mapped with a hook that counts and calls ours; returns a function: the words it was called with since."""
    log = tmp_path / "calls"
    path = tmp_path / "counted"
    path.write_text(f'#!/bin/sh\necho "$2" >>{log}\nexec {quiesce_program.hook()} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(quiesce_program, "hook", lambda: str(path))

    def calls():
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    return calls


def content_at(ceph, snapshot, tmp_path):
    """What the file "data" has at a snapshot, without any recovery of its filesystem; None where there is none."""
    mapping = device.map_image(ceph, snapshot, driver="nbd")
    point = tmp_path / snapshot.snapshot
    point.mkdir()
    tool("mount", "-o", "ro,noload", mapping.device, str(point))
    try:
        return (point / "data").read_bytes() if (point / "data").exists() else None
    finally:
        tool("umount", str(point))
        device.unmap(ceph, snapshot)


def test_a_snapshot_that_somebody_else_makes_has_what_was_not_synced(by_nbd, ceph, rbd_cli, tmp_path, modules):
    spec, point, _ = by_nbd()
    assert modules.rbd_device.info(str(spec))["quiesce"].startswith(quiesce_program.FOLDER + "/")
    Path(point, "data").write_bytes(DATA)
    rbd_cli("snap", "create", f"{spec}@theirs")
    assert content_at(ceph, spec.at("theirs"), tmp_path) == DATA
    assert not is_frozen(point)
    no_helper_is_left(30)


def test_without_the_hook_it_has_not(by_nbd, ceph, rbd_cli, tmp_path, states, modules):
    """What shows that the hook makes the difference."""
    spec, point, _ = by_nbd({"quiesce": False})
    assert modules.rbd_device.info(str(spec))["quiesce"] == ""
    tool("sync", "-f", point)
    Path(point, "data").write_bytes(DATA)
    rbd_cli("snap", "create", f"{spec}@theirs")
    assert content_at(ceph, spec.at("theirs"), tmp_path) != DATA
    for options, told in ((None, True), ({"quiesce": False}, False)):
        ran = states.rbd_device.mapped(str(spec), driver="nbd", options=options, persist=False)
        assert ran.result is True and not ran.changes
        assert ("was mapped without Ceph's quiesce hook" in ran.comment) == told
    made = modules.rbd_snapshot.create(f"{spec}@ours", consistency="filesystem")[f"{spec}@ours"]
    assert made["consistency"] == "filesystem"
    assert content_at(ceph, spec.at("ours"), tmp_path) == DATA


def test_our_own_snapshot_freezes_once(counted, by_nbd, ceph, rbd_cli, tmp_path, modules):
    spec, point, _ = by_nbd()
    Path(point, "data").write_bytes(DATA)
    made = modules.rbd_snapshot.create(f"{spec}@ours", consistency="filesystem")[f"{spec}@ours"]
    assert made["consistency"] == "filesystem" and 0 < made["seconds"] < ceph.settings.freeze_timeout
    assert counted() == []
    assert content_at(ceph, spec.at("ours"), tmp_path) == DATA
    assert modules.rbd_snapshot.create(f"{spec}@crash", consistency="crash")[f"{spec}@crash"]["consistency"] == "crash"
    assert counted() == []
    for number in range(3):
        rbd_cli("snap", "create", f"{spec}@theirs{number}")
    wait_thawed(point, 15)
    no_helper_is_left(30)
    assert counted() == ["quiesce", "unquiesce"] * 3


def test_ours_and_theirs_at_once(counted, by_nbd, cluster, make_loaders, monkeypatch):
    """Neither waits for the other for ever, and both are made: librbd makes them one after the other, while ours holds the freeze."""
    spec, point, _ = by_nbd()
    modules = make_loaders(pillar={"rbd": {"freeze_timeout": 60}}).modules  # another client's start takes its time in a machine
    started, batch = [], client.Client.batch

    def meanwhile(one, requests):
        """Ours is frozen, and begins when theirs has come as far as its hook."""
        if any(op == "snapshot_create" for op, _ in requests):
            assert is_frozen(point)
            started.append(subprocess.Popen(snap_create(cluster, f"{spec}@theirs{len(started)}")))
            until(lambda: "quiesce" in counted(), 60, "theirs is not quiesced")
        return batch(one, requests)

    monkeypatch.setattr(client.Client, "batch", meanwhile)
    try:
        for number in range(2):
            made = modules.rbd_snapshot.create(f"{spec}@ours{number}", consistency="filesystem")[f"{spec}@ours{number}"]
            assert made["consistency"] == "filesystem"
            assert len(started) == number + 1 and started[-1].wait(timeout=120) == 0
    finally:
        for theirs in started:
            theirs.kill()
            theirs.wait()
    wait_thawed(point, 20)
    no_helper_is_left(30)


def test_a_hook_may_take_longer_than_a_call(by_nbd, make_client, rbd_cli, tmp_path, monkeypatch):
    """That of another host, which writes back first: no worker is given up over it."""
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\n[ "$2" = unquiesce ] || sleep 8\n')
    slow.chmod(0o755)
    monkeypatch.setattr(quiesce_program, "hook", lambda: str(slow))
    spec, _, _ = by_nbd()
    began = time.monotonic()
    assert make_client(timeout=4).call("snapshot_create", spec.at("s"), quiesce="try")["id"]
    assert time.monotonic() - began > 8
    assert [item["name"] for item in rbd_cli.json("snap", "ls", str(spec))] == ["s"]


def test_a_hook_that_fails(by_nbd, rbd_cli, cluster, modules, monkeypatch):
    """librbd makes no snapshot; with consistency: auto it is made all the same, and is called what it is."""
    monkeypatch.setattr(quiesce_program, "hook", lambda: "/bin/false")
    spec, _, _ = by_nbd()
    code, _, said = commands.run(snap_create(cluster, f"{spec}@theirs"), timeout=60, check=False)
    assert code == 1 and "Operation not permitted" in said  # what the hook ended with
    # A client on another host can freeze nothing, and asks that hook.
    monkeypatch.setattr(freeze, "targets", lambda *_: {spec: "it is not mapped on this host"})
    made = modules.rbd_snapshot.create(f"{spec}@ours")[f"{spec}@ours"]
    assert made["consistency"] == "crash"
    assert [item["name"] for item in rbd_cli.json("snap", "ls", str(spec))] == ["ours"]


def test_rbd_nbd_is_killed_in_the_quiesced_time(by_nbd, cluster, make_client):
    """It is thawed at once, long before its time is up."""
    ceph = make_client(freeze_timeout=60)
    spec, point, pid = by_nbd(ceph=ceph)
    path = quiesced(ceph, spec)
    theirs = subprocess.Popen(snap_create(cluster, f"{spec}@theirs"), stderr=subprocess.DEVNULL)
    try:
        until(lambda: os.path.exists(path), 120, "it is not quiesced")
        assert refusal(point).endswith("busy")
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: not refusal(point).endswith("busy"), 10, "it is frozen still")
        print(f"thawed {time.monotonic() - began:.1f} s after the kill; then: {refusal(point)}")
        no_helper_is_left(30)
    finally:
        theirs.kill()
        theirs.wait()
        tool("umount", point)
