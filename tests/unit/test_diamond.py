"""Diamond's RbdCollector: what it decides without a cluster; and the patches of the release's source."""

import ast
import os
import sys
import threading
import time
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "salt/diamond/files"
sys.path[:0] = [str(FILES / "rbd"), str(FILES / "collectors/rbd")]

import measure  # noqa: E402
import rbdpoints  # noqa: E402


def parent(name, pool="rbd", namespace=""):
    return {"pool": pool, "namespace": namespace, "id": name, "image": name}


def info(size=8, snapshots=(), of=None, watchers=()):
    return {
        "size": size,
        "snapshots": [{"type": kind, "created": created} for kind, created in snapshots],
        "parent": of,
        "watchers": [{"address": address} for address in watchers],
    }


PARENTS = {("rbd", "", "b"): ("rbd", "n", "b"), ("rbd", "n", "b"): ("rbd", "", "a"), ("rbd", "", "a"): None}


@pytest.mark.parametrize(
    ("of", "depth"),
    [
        (None, 0),
        (parent("a"), 1),
        (parent("b", namespace="n"), 2),
        (parent("b"), 3),
        # One that could not be read ends the chain, and counts.
        (parent("gone"), 1),
    ],
)
def test_clone_depth(of, depth):
    assert measure.facts(info(of=of), PARENTS, 0)["clone_depth"] == depth


@pytest.mark.parametrize(
    ("snapshots", "count", "age"),
    [
        ([], 0, None),
        ([("user", 100)], 1, 900),
        ([("user", 100), ("user", 990), ("user", 500)], 3, 10),
        # What rbd snap ls does not show.
        ([("user", 100), ("trash", 999), ("group", 998), ("mirror", 997)], 1, 900),
        ([("trash", 999)], 0, None),
        # The cluster's clock may be ahead.
        ([("user", 1003)], 1, 0),
    ],
)
def test_snapshots(snapshots, count, age):
    found = measure.facts(info(snapshots=snapshots), {}, 1000.4)
    assert (found["snapshots"], found.get("newest_snapshot_age")) == (count, age)


@pytest.mark.parametrize(("watchers", "users"), [([], 0), (["a:0/1"], 1), (["a:0/1", "a:0/2"], 2), (["a:0/1", "a:0/1"], 1)])
def test_users(watchers, users):
    assert measure.facts(info(watchers=watchers), {}, 0)["users"] == users


class Answers:
    """Answers image_info of parents from a table, and counts the batches."""

    def __init__(self, parents):
        self.parents, self.batches = parents, 0

    def batch(self, requests):
        self.batches += 1
        assert {op for op, _ in requests} == {"image_info"}
        return [self.outcome(where["image_id"]) for _, where in requests]

    def outcome(self, name):
        if name not in self.parents:
            return measure.client.Outcome(None, measure.errors.ImageNotFound("gone"))
        return measure.client.Outcome({"parent": self.parents[name]}, None)


def test_lineage_asks_once_for_each_level():
    ceph = Answers({"a": None, "b": parent("a"), "c": parent("b")})
    images = {"x": info(of=parent("c")), "y": info(of=parent("c")), "z": info(of=parent("b")), "w": info(), "v": info(of=parent("lost"))}
    parents = measure.lineage(ceph, images)
    assert [measure.depth(images[name], parents) for name in "xyzwv"] == [3, 3, 2, 0, 1]
    assert ceph.batches == 2


def test_lineage_without_clones_asks_nothing():
    ceph = Answers({})
    assert measure.lineage(ceph, {"w": info()}) == {}
    assert ceph.batches == 0


@pytest.mark.parametrize(
    ("used", "wanted"),
    [
        ({}, ["a", "b", "c"]),
        ({"a": (1, 901), "b": (1, 500), "c": (1, 400)}, ["c", "b"]),
        ({"a": (1, 901), "b": (1, 990), "c": (1, 1000)}, []),
        ({"a": (1, 800), "x": (1, 0)}, ["b", "c", "a"]),
    ],
)
def test_the_oldest_measurement_comes_first(used, wanted):
    assert rbdpoints.due(["a", "b", "c"], used, 100, 1000) == wanted


def test_points():
    known = {"rbd/v1": {"size": 8, "users": 0}, "tank/n s/a.b": {"size": 9}}
    assert list(rbdpoints.metrics(known, {"rbd/v1": (4, 0), "rbd/away": (5, 0)})) == [
        ("rbd.v1.size", 8),
        ("rbd.v1.users", 0),
        ("rbd.v1.used", 4),
        ("tank.n_s.a_b.size", 9),
    ]


@pytest.mark.parametrize(("value", "wanted"), [("", []), ("a", ["a"]), (["a", "b"], ["a", "b"]), ((), [])])
def test_lists_of_configobj(value, wanted):
    assert rbdpoints.as_list(value) == wanted


def test_lines_come_as_they_are_written_and_end_in_time():
    read, write = os.pipe()
    with os.fdopen(read, "rb", 0) as stream:
        os.write(write, b"one\ntw")
        found = rbdpoints.lines(stream, time.time() + 30)
        assert next(found) == b"one"
        threading.Timer(0.05, os.write, (write, b"o\nunfinished")).start()
        assert next(found) == b"two"
        # The writer is still there, and silent.
        assert list(rbdpoints.lines(stream, time.time() + 0.2)) == []
        os.close(write)


@pytest.mark.parametrize("name", ["build.py", "collectors/rbd/rbdvolumes.py", "collectors/rbd/rbdpoints.py"])
def test_what_python_2_runs_keeps_to_its_syntax(name):
    """Python 3.0's grammar is the nearest that ast knows: no f-string, no yield from, no annotation of a variable."""
    tree = ast.parse((FILES / name).read_text())
    newer = (ast.JoinedStr, ast.YieldFrom, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal, ast.AsyncFunctionDef, ast.Starred)
    allowed = {id(argument) for call in ast.walk(tree) if isinstance(call, ast.Call) for argument in call.args}
    assert [node for node in ast.walk(tree) if isinstance(node, newer) and id(node) not in allowed] == []
    assert [node for node in ast.walk(tree) if isinstance(node, ast.arguments) and node.kwonlyargs] == []
    assert "super()" not in (FILES / name).read_text()
