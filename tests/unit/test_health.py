"""What of the storage deserves an alert, as tables."""

import json
import subprocess
import time

import pytest
from saltrbd import health, health_look, health_watch
from saltrbd.errors import CephTimeout, PermissionDenied
from saltrbd.health_probe import Probe


def told(items):
    return [(one["area"], one["subject"], one["level"]) for one in items]


def check(text="x", severity="HEALTH_WARN"):
    return {"severity": severity, "text": text}


OSD = ("health", "availability", "fault")


@pytest.mark.parametrize(
    ("codes", "silent", "expected"),
    [
        ([], [], []),
        (["OSD_DOWN"], [], [OSD]),
        # What one dead OSD brings, in whatever order, is one event.
        (["OSD_DOWN", "OSD_HOST_DOWN", "OSD_ROOT_DOWN", "PG_AVAILABILITY", "PG_DEGRADED", "SLOW_OPS"], ["rbd"], [OSD]),
        ([], ["rbd"], [OSD]),
        (["PG_DEGRADED"], [], [("health", "availability", "warning")]),
        (["OBJECT_MISPLACED"], [], [("health", "availability", "warning")]),
        (["OSDMAP_FLAGS"], [], [("health", "OSDMAP_FLAGS", "fault")]),
        (["OSD_NEARFULL", "POOL_NEARFULL"], [], [("health", "space", "warning")]),
        (["OSD_BACKFILLFULL", "PG_BACKFILL_FULL", "POOL_NEAR_FULL", "PG_RECOVERY_FULL"], [], [("health", "space", "warning")]),
        (["OSD_FULL", "POOL_FULL"], [], [("health", "space", "fault")]),
        (["MON_DOWN"], [], [("health", "monitors", "warning")]),
        (["MON_DISK_LOW", "MON_CLOCK_SKEW"], [], [("health", "monitors", "warning")]),
        (["MGR_DOWN"], [], [("health", "manager", "warning")]),
        (["RECENT_CRASH"], [], [("health", "RECENT_CRASH", "warning")]),
        (["MON_DOWN", "OSD_DOWN", "RECENT_CRASH"], [], [OSD, ("health", "monitors", "warning"), ("health", "RECENT_CRASH", "warning")]),
    ],
)
def test_health(codes, silent, expected):
    found = health.judge_checks({code: check(code.lower()) for code in codes}, {pool: f"The pool {pool} is silent." for pool in silent})
    assert told(found) == expected
    assert all(one["text"].endswith(".") and "ceph" in one["text"] for one in found)
    assert all(code in " ".join(one["text"] for one in found) for code in codes)


def test_an_error_of_cephs_is_a_fault():
    assert told(health.judge_checks({"PG_DAMAGED": check(severity="HEALTH_ERR")}, {})) == [("health", "damage", "fault")]


def test_pools():
    found = health.judge_pools({"a": 79.9, "b": 80.0, "c": 100.0}, 80)
    assert told(found) == [("pools", "b", "warning"), ("pools", "c", "warning")]
    assert found[0]["text"].startswith("The pool b is 80 % full; told from 80 % on.")


def image(*ages, created=100000, kind="user"):
    return {"created": 10**6 - created, "snapshots": [{"name": f"s{age}", "type": kind, "created": 10**6 - age} for age in ages]}


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (image(3600, 90000), None, ""),
        (image(86400), None, ""),
        (image(86401, 90000), "warning", "The newest snapshot of rbd/a (s86401) is 24 h old; it may be 1d old."),
        (image(200000), "warning", "is 2 d old"),
        # Those of groups and mirrors are nobody's schedule.
        (
            image(60, kind="group", created=90000),
            "warning",
            "rbd/a has no snapshot and is 25 h old; the newest snapshot of it may be 1d old.",
        ),
        (image(created=3600), None, ""),
        (None, "warning", "rbd/a does not exist"),
        (CephTimeout("Reading had no answer."), "unknown", "no answer"),
        (PermissionDenied("Reading failed."), "warning", "Whether rbd/a has its snapshots cannot be seen: Reading failed."),
    ],
)
def test_snapshots(facts, level, words):
    found = health.judge_snapshots({"rbd/a": 86400}, {"rbd/a": facts}, 10**6)
    assert told(found) == ([("snapshots", "rbd/a", level)] if level else [])
    assert words in "".join(one["text"] for one in found)


def probe(full=10.0, inodes=1.0, frozen_for=None, ours=False, hangs=False):
    return Probe(full, inodes, frozen_for, ours, hangs)


@pytest.mark.parametrize(
    ("seen", "volumes", "frozen", "words"),
    [
        (probe(), None, None, ""),
        (probe(full=89.9), None, None, ""),
        (probe(full=90.0), "warning", None, "is 90 % full; told from 90 % on."),
        (probe(inodes=95.0), "warning", None, "is 95 % full of files (its inodes)"),
        (None, "unknown", "unknown", ""),
        (probe(full=None, hangs=True), "unknown", "unknown", ""),
        (probe(hangs=True), None, "unknown", ""),
        (probe(frozen_for=59), None, "unknown", ""),
        (probe(frozen_for=60), None, "fault", "Whoever froze it must end it: fsfreeze --unfreeze /srv."),
        (
            probe(frozen_for=9000, ours=True),
            None,
            "fault",
            "2 h at least, so that everything that writes there waits. If rbd_filesystem.freeze did it, rbd_filesystem.thaw rbd/a ends it.",
        ),
    ],
)
def test_filesystems(seen, volumes, frozen, words):
    mounts, probes = {"/srv": "rbd/a"}, {"/srv": seen} if seen else {}
    found = health.judge_volumes(mounts, probes, 90) + health.judge_frozen(mounts, probes, 60)
    expected = [(area, "/srv", level) for area, level in (("volumes", volumes), ("frozen", frozen)) if level]
    assert told(found) == expected
    assert words in " ".join(one["text"] for one in found)


@pytest.mark.parametrize(
    ("mapped", "points", "words"),
    [
        ({"rbd/a": None}, {"/srv": "rbd/a"}, []),
        ({"rbd/a": None, "rbd/b": None}, {"/srv": "rbd/a"}, []),
        ({}, {}, ["is declared for /srv here and is not mapped"]),
        ({"rbd/a": None}, {}, ["is mapped here and not mounted on /srv"]),
        ({"rbd/a": None}, {"/srv": "rbd/b"}, ["not mounted on /srv"]),
        ({"rbd/a": "its daemon is dead"}, {}, ["is of no use: its daemon is dead. Unmount it"]),
        ({"rbd/a": None, "rbd/b": "its daemon is dead"}, {"/srv": "rbd/a"}, ["The device of rbd/b"]),
    ],
)
def test_mappings(mapped, points, words):
    found = health.judge_mappings(mapped, {"rbd/a": "/srv"}, points)
    assert len(found) == len(words)
    assert all(word in one["text"] for word, one in zip(words, found))


def test_a_pillar_with_mistakes_is_all_that_is_told():
    request = {"opts": {"id": "n"}, "pillar": {"rbd": {"volumes": {"a": {"size": "much"}}}}, "look": {}}
    report = health_look.look(request)
    assert told(report["found"]) == [("pillar", "pillar", "fault")]
    assert report["looked"] == ["pillar"]
    assert "rbd:volumes:a" in report["found"][0]["text"]


REPORT = {"cluster": "c", "looked": ["health"], "found": []}
OTHER = {"cluster": "c", "looked": ["health"], "found": [{"area": "health", "subject": "x", "level": "fault", "text": "1"}]}
NEARLY = {**OTHER, "found": [{**OTHER["found"][0], "text": "2"}]}


def test_what_is_sent(tmp_path):
    """News three times, as the first may be lost; the rest after its time; other figures are no news."""
    watch = health_watch.Watch(str(tmp_path))
    steps = [
        (0, REPORT),
        (60, REPORT),
        (120, REPORT),
        (180, REPORT),
        (419, REPORT),
        (420, REPORT),
        (480, OTHER),
        (540, NEARLY),
        (600, OTHER),
    ]
    assert [watch.to_send(report, 300, now) for now, report in steps] == [True, True, True, False, False, True, True, True, True]
    assert watch.to_send(NEARLY, 300, 660) is False


class Fake:
    """Stands for a process of the look: one that cannot be ended cannot be made here at will."""

    def __init__(self, code=None):
        self.returncode, self.pid, self.killed = code, 1, 0

    def poll(self):
        return self.returncode

    def kill(self):
        self.killed += 1


REQUEST = {"opts": {}, "pillar": {}, "look": {"interval": 60}}


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """A watch whose processes are fakes: ``watch.processes``."""
    found, processes = health_watch.Watch(str(tmp_path)), []

    def start(*_, **__):
        processes.append(Fake())
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    found.processes = processes
    return found


def test_looks_follow_each_other(watch):
    for now in (0, 5, 10, 59):
        assert watch.turn(lambda: REQUEST, 60, now) is None
    (first,) = watch.processes
    first.returncode = 0
    report = watch.turn(lambda: REQUEST, 60, 59)
    assert report["found"][0]["text"].startswith("The look of this host at its storage ended with code 0.")  # the fake wrote nothing
    watch.turn(lambda: REQUEST, 60, 60)
    assert len(watch.processes) == 2


def test_a_look_that_does_not_end_is_killed_and_told(watch):
    watch.turn(lambda: REQUEST, 60, 0)
    (look,) = watch.processes
    assert [watch.turn(lambda: REQUEST, 60, now) for now in (30, 59.9)] == [None, None]
    assert look.killed == 0
    assert watch.turn(lambda: REQUEST, 60, 60) is None
    assert look.killed == 1
    report = watch.turn(lambda: REQUEST, 60, 65)
    assert told(report["found"]) == [("look", "look", "fault")]
    assert "does not end, even when it is killed: pid 1" in report["found"][0]["text"]
    # No second one beside it, and it is not told at each turn.
    assert [watch.turn(lambda: REQUEST, 60, now) for now in (70, 120)] == [None, None]
    assert watch.turn(lambda: REQUEST, 60, 130) is not None
    assert (len(watch.processes), look.killed) == (1, 1)
    look.returncode = -9
    assert "did not end within 60 s" in watch.turn(lambda: REQUEST, 60, 195)["found"][0]["text"]
    assert len(watch.processes) == 2


def test_a_report_of_an_earlier_look_is_none(watch, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({**REPORT, "started": "0.1"}))
    watch.turn(lambda: REQUEST, 60, 0)
    watch.processes[0].returncode = 1
    assert "ended with code 1" in watch.turn(lambda: REQUEST, 60, 5)["found"][0]["text"]


def test_a_turn_takes_no_time_and_the_look_comes(tmp_path, monkeypatch):
    """The real process, with a pillar that lets it end at once."""
    found = health_watch.Watch(str(tmp_path))
    request = {"opts": {"id": "n"}, "pillar": {"ceph": {"no": 1}}, "look": {"interval": 3600}}
    longest, report, until = 0.0, None, time.monotonic() + 60
    while report is None and time.monotonic() < until:
        began = time.monotonic()
        report = found.turn(lambda: request, 3600)
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.05)
    assert told(report["found"]) == [("pillar", "pillar", "fault")]
    assert longest < 2, longest
