"""The beacon rbd_health, run by Salt's own machinery of beacons: what it reports of real faults, and that it never waits."""

import json
import os
import signal
from pathlib import Path

import pytest
from faults import stopped
from freeze_checks import tool
from saltrbd import health_probe, proc

from labkit import cluster as lab_cluster

# What a turn of the minion's loop may take on a busy machine; Ceph's own limits begin at 9 s.
MOMENT = 4


@pytest.mark.usefixtures("only_fuse")
def test_a_volume(make_minion, cluster, pool, mounted, rbd_cli):
    """One volume that is well, then full, frozen, without snapshots, and without its daemon."""
    image, point = mounted(size="64M")
    rbd = {"volumes": {image.image: {"size": "64M", "mount": point}}}
    minion = make_minion(cluster, pool, rbd, volume_full=40, snapshots={str(image): 3600})
    ours = ("volumes", "frozen", "mappings", "snapshots", "pillar", "look")
    well = minion.until(lambda found, looked: "mappings" in looked)
    assert {key: one["text"] for key, one in well.items() if key[0] in ours} == {}

    before = Path(point).stat().st_mtime_ns
    (Path(point) / "file").write_bytes(os.urandom(32 << 20))
    os.sync()
    # Nobody writes there but we: the look leaves no trace.
    assert sorted(path.name for path in Path(point).iterdir()) == ["file", "lost+found"]
    found = minion.until(lambda found, _: ("volumes", point) in found)
    assert f"The filesystem of {image} on {point} is " in found["volumes", point]["text"]
    assert Path(point).stat().st_mtime_ns != before
    (Path(point) / "file").unlink()
    unchanged = Path(point).stat().st_mtime_ns
    minion.until(lambda found, looked: "volumes" in looked and ("volumes", point) not in found)
    assert Path(point).stat().st_mtime_ns == unchanged

    tool("fsfreeze", "--freeze", point)
    try:
        found = minion.until(lambda found, _: found.get(("frozen", point), {}).get("level") == "fault")
        assert f"fsfreeze --unfreeze {point}" in found["frozen", point]["text"]
        # However often it was looked at, one child waits.
        waiting = [pid for pid in proc.pids() if health_probe._waits_for_thaw(pid)]
        assert len(waiting) == 1, waiting
    finally:
        tool("fsfreeze", "--unfreeze", point)
    minion.until(lambda found, looked: "frozen" in looked and ("frozen", point) not in found)
    assert [pid for pid in waiting if proc.start_of(pid)] == []

    (daemon,) = [one.pid for one in _mappings() if one.spec == image]
    os.kill(daemon, signal.SIGKILL)
    found = minion.until(lambda found, _: ("mappings", str(image)) in found)
    assert f"The device of {image} on this host is of no use" in found["mappings", str(image)]["text"]
    assert minion.longest < MOMENT


def _mappings():
    from saltrbd import device_find

    return device_find.on_host()


def test_what_is_declared_and_not_there(make_minion, cluster, pool, rbd_cli):
    rbd = {"volumes": {"never": {"size": "8M", "mount": "/srv/never"}}}
    rbd_cli("create", f"{pool}/old", "--size", "8M")
    rbd_cli("create", f"{pool}/fresh", "--size", "8M")
    rbd_cli("snap", "create", f"{pool}/fresh@s1")
    minion = make_minion(cluster, pool, rbd, snapshots={f"{pool}/old": 0, f"{pool}/fresh": 3600, f"{pool}/no": 60}, pool_full=1)
    found = minion.until(lambda _, looked: {"snapshots", "mappings", "pools"} <= set(looked))
    told = {key[1] for key in found if key[0] in ("snapshots", "mappings")}
    assert told == {f"{pool}/old", f"{pool}/no", f"{pool}/never"}, found
    assert "is declared for /srv/never here and is not mapped" in found["mappings", f"{pool}/never"]["text"]
    assert "has no snapshot" in found["snapshots", f"{pool}/old"]["text"]
    assert "does not exist" in found["snapshots", f"{pool}/no"]["text"]


def test_a_pool_that_is_nearly_full(make_minion, cluster, make_pool, ceph_cli, rbd_cli):
    """By a quota, as the cluster itself has gigabytes."""
    pool = make_pool()
    ceph_cli("osd", "pool", "set-quota", pool, "max_objects", "4")
    minion = make_minion(cluster, pool)
    assert ("pools", pool) not in minion.until(lambda _, looked: "pools" in looked)
    for number in range(2):
        rbd_cli("create", f"{pool}/i{number}", "--size", "8M")
    found = minion.until(lambda found, _: ("pools", pool) in found)
    assert f"The pool {pool} is " in found["pools", pool]["text"]
    ceph_cli("osd", "pool", "set-quota", pool, "max_objects", "0")


def test_the_osd_stops(make_minion, whole):
    minion = make_minion(whole, "rbd")
    assert ("health", "availability") not in minion.until(lambda found, looked: "health" in looked)
    with stopped(whole, "ceph-osd"):
        found = minion.until(lambda found, _: ("health", "availability") in found)
        assert "no answer within" in found["health", "availability"]["text"]
        assert found["health", "availability"]["level"] == "fault"
        # What the monitor says of it, once it has noticed, is the same event.
        lab_cluster.ceph(whole.folder, "osd", "down", "0")
        found = minion.until(lambda found, _: "OSD_DOWN" in found.get(("health", "availability"), {}).get("text", ""))
        assert {subject for area, subject in found if area == "health"} == {"availability"}
    minion.until(lambda found, looked: "health" in looked and ("health", "availability") not in found)
    assert minion.longest < MOMENT


def test_the_monitor_stops(make_minion, whole):
    minion = make_minion(whole, "rbd")
    minion.until(lambda _, looked: "cluster" in looked)
    with stopped(whole, "ceph-mon"):
        found = minion.until(lambda found, _: ("cluster", "monitors") in found)
        assert "no answer within" in found["cluster", "monitors"]["text"]
        # What of the host can be seen without the cluster is seen.
        minion.until(lambda found, looked: ("cluster", "monitors") in found and "mappings" in looked and "health" not in looked)
    minion.until(lambda found, looked: "health" in looked and ("cluster", "monitors") not in found)
    assert minion.longest < MOMENT


def test_a_keyring_that_is_not_there_is_this_hosts_fault(make_minion, cluster, pool, tmp_path):
    blind = cluster._replace(keyring=str(tmp_path / "none"))
    found = make_minion(blind, pool).until(lambda _, looked: "look" in looked)
    assert "This host cannot look at the cluster" in found["look", "session"]["text"]
    assert not [key for key in found if key[0] in ("cluster", "health")]


def test_now(make_loaders, cluster, pool):
    """What a person asks for."""
    loaders = make_loaders({"platform": {"alerts": {"snapshots": {"nothing": "1d"}}}})
    told = loaders.modules.rbd_health.look()
    assert told["cluster"] == cluster.fsid
    assert {"cluster", "health", "pools", "snapshots", "volumes", "frozen", "mappings", "look", "pillar"} == set(told["looked"])
    assert f"{pool}/nothing does not exist" in str(told["found"])
    with pytest.raises(Exception, match="platform:alerts:interval: it must be a span"):
        make_loaders({"platform": {"alerts": {"interval": 1}}}).modules.rbd_health.look()


def test_layout(make_loaders):
    """The password stays where it is."""
    mail = {"id": "u", "host": "mail", "port": 587, "security": "tls", "user": "u", "password": "planted", "sender": "s@example.net"}
    groups = {"storage": {"members": [{"name": "A", "address": "a@example.net", "admin": True}]}}
    told = make_loaders({"platform": {"settings": {"mail": [mail]}, "contact_groups": groups}}).modules.platform_alerts.layout()
    assert told["master"]["mistakes"] == told["beacon"]["mistakes"] == []
    assert told["master"]["password"] == "platform:settings:mail:0:password"
    assert "planted" not in json.dumps(told)
    groups["storage"]["members"][0]["admin"] = False
    told = make_loaders({"platform": {"settings": {"mail": [mail]}, "contact_groups": groups}}).modules.platform_alerts.layout()
    assert "platform:contact_groups:storage: the group has no admin" in told["master"]["mistakes"][0]
