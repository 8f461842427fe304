"""The records of what rbd-nbd serves: which of them tell of a dead daemon's device. (The real ones die in the machines of ``./lab vm``.)"""

import json
import os

import pytest
from saltrbd import device_nbd, device_users, proc
from saltrbd.spec import Spec

FSID = "00000000-1111-2222-3333-444444444444"
GONE = {"pid": 1 << 30, "start": 7}


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Keep a record: ``record(name, pid=..., start=...)``; every device counts as mounted, as none of them exists."""
    monkeypatch.setattr(device_nbd, "RECORDS", str(tmp_path))
    monkeypatch.setattr(device_users, "users", lambda mapping: ["it is mounted on /mnt/a"])

    def write(name, text=None, **more):
        kept = {"spec": ["rbd", "n", "a", ""], "device": "/dev/nbd3", "read_only": False, **GONE, **more}
        (tmp_path / name).write_text(json.dumps(kept) if text is None else text)

    return write


def test_a_dead_one_is_told(record):
    record(f"{FSID}.12ab.0")
    (mapping,) = device_nbd._dead(set())
    assert mapping.fault == f"its rbd-nbd (pid {1 << 30}) is dead"
    assert mapping._replace(fault=None) == (Spec("rbd", "n", "a", ""), "/dev/nbd3", "nbd", False, None, FSID, "12ab", None, None, "", None)


def test_a_snapshot_has_its_id(record):
    record(f"{FSID}.12ab.4", spec=["rbd", "", "a", "s"], read_only=True)
    (mapping,) = device_nbd._dead(set())
    assert (str(mapping.spec), mapping.snapshot_id, mapping.read_only) == ("rbd/a@s", 4, True)


@pytest.mark.parametrize(
    ("name", "more", "served"),
    [
        (f"{FSID}.12ab.0", {"pid": os.getpid(), "start": proc.start_of(os.getpid())}, set()),
        (f"{FSID}.12ab.0", {}, {"/dev/nbd3"}),
        (f"{FSID}.12ab.0.4711", {}, set()),
        (f"{FSID}.12ab.0", {"text": "{"}, set()),
    ],
    ids=["alive", "the device is another's by now", "being written", "cut off"],
)
def test_what_tells_of_no_dead_one(record, name, more, served):
    record(name, **more)
    assert device_nbd._dead(served) == []


def test_a_pid_that_another_process_has_by_now(record):
    record(f"{FSID}.12ab.0", pid=os.getpid(), start=1)
    assert len(device_nbd._dead(set())) == 1


def test_a_device_that_nobody_uses_is_the_kernels(record, monkeypatch):
    monkeypatch.setattr(device_users, "users", lambda mapping: [])
    record(f"{FSID}.12ab.0")
    assert device_nbd._dead(set()) == []
