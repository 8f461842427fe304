"""The example pillar as a whole, with the demo's write: predicted on an empty pool, applied, applied again."""

import json
import os
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def example(repo, make_loaders, tmp_path):
    """(loaders, mount points) for the example's volumes, below a folder of the test's instead of /mnt."""
    pillar = yaml.safe_load((repo / "pillar/rbd.sls").read_text().replace("/mnt/", f"{tmp_path}/"))
    demo = (repo / "salt/demo/init.sls").read_text().replace("/mnt/", f"{tmp_path}/")
    loaders = make_loaders(pillar)
    states = Path(loaders.opts["file_roots"]["base"][0])
    (states / "rbd").symlink_to(repo / "salt/rbd")
    (states / "demo.sls").write_text(demo.replace("rbd/rbd0001@", f"{loaders.opts['pillar']['ceph']['pool']}/rbd0001@"))
    points = [tmp_path / "test0001", tmp_path / "test0002"]
    yield loaders, points
    for point in reversed(points):
        loaders.states.rbd_filesystem.unmounted(str(point))


def _apply(loaders, test):
    ran = loaders.modules.state.apply("demo", test=test)
    assert not ran.failed, ran.errors
    return {(result.id, result.name): result for result in ran}


def test_example(example, rbd_cli, pool):
    loaders, points = example
    predicted = _apply(loaders, True)
    assert [result.comment for result in predicted.values() if result.result is not None] == []
    assert rbd_cli.json("ls", pool) == []
    real = _apply(loaders, False)
    assert [result.comment for result in real.values() if result.result is not True] == []
    ours = [key for key in real if key[0].startswith("rbd ")]
    assert len(ours) == 8
    assert {key: predicted[key].changes for key in ours} == {key: real[key].changes for key in ours}
    assert (points[1] / "edit").read_text().strip() == "edit1"
    assert all(os.path.ismount(point) for point in points)
    comment = real[(f"rbd snapshot {pool}/rbd0001@snap1", f"{pool}/rbd0001@snap1")].comment
    assert "Filesystem-consistent" in comment
    snapshots = rbd_cli.json("snap", "ls", f"{pool}/rbd0001")
    assert [(item["name"], item["protected"]) for item in snapshots] == [("snap1", "true")]
    parent = rbd_cli.json("info", f"{pool}/rbd0002")["parent"]
    assert (parent["pool"], parent["image"], parent["snapshot"]) == (pool, "rbd0001", "snap1")
    for test in (False, True):
        again = _apply(loaders, test)
        assert [result.comment for result in again.values() if result.result is not True or result.changes] == []


MISTAKES = {
    "rbd": {
        "volumes": {"a": {"sise": "1G", "size": "ten", "mount": "/srv/x"}, "b": {"size": "1G", "mount": "/srv/x"}},
        "clones": {"c": {"parent": "nothing@s"}, "d": {"parent": "b@none"}},
    }
}


@pytest.mark.parametrize("test", [True, False])
def test_a_pillar_with_mistakes_is_refused_in_one_message(repo, make_loaders, rbd_cli, pool, test):
    loaders = make_loaders(MISTAKES)
    (Path(loaders.opts["file_roots"]["base"][0]) / "rbd").symlink_to(repo / "salt/rbd")
    before = rbd_cli.json("ls", pool)
    ran = list(loaders.modules.state.apply("rbd", test=test))
    assert len(ran) == 1
    assert ran[0].result is False
    for part in ("unknown key 'sise'", "'ten' is not a size", "the mount point /srv/x", "nothing@s", "b@none"):
        assert part in ran[0].comment, json.dumps(ran[0].comment)
    assert rbd_cli.json("ls", pool) == before


@pytest.mark.parametrize("test", [True, False])
def test_unknown_keys_of_the_cluster_are_refused(make_minion_config, test):
    """Also keys that YAML makes no text of."""
    import salt_loaders

    folder = make_minion_config()
    (folder / "pillar/all.sls").write_text("ceph: {2: x, on: y, foo: z}\nrbd: {volumes: {a: {size: ten}}}\n")
    loaders = salt_loaders.make_loaders(folder / "minion")
    ran = loaders.states.rbd_volumes.declared("x", test=test)
    assert (ran.result, ran.changes) == (False, {})
    assert "The pillar has mistakes, so nothing was touched. ceph: unknown keys 'foo', 2, True (there are conf, fs_type, " in ran.comment
    assert "'ten' is not a size" in ran.comment


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("pillar", "told"),
    [
        ({"rbd": {"volumes": {}}}, ": rbd:volumes and rbd:clones are empty."),
        ({}, ": it has no section rbd."),
        ({"RDB": {"volumes": {}}}, ": it has no section rbd. Its section RDB is read by nobody here; write rbd where rbd is meant."),
    ],
)
def test_a_pillar_without_volumes_is_told(pillar, told, test, repo, make_loaders, monkeypatch):
    monkeypatch.delenv("RBD_LAB_DRIVER", raising=False)  # which would make a section of its own
    loaders = make_loaders(pillar)
    (Path(loaders.opts["file_roots"]["base"][0]) / "rbd").symlink_to(repo / "salt/rbd")
    (ran,) = loaders.modules.state.apply("rbd", test=test)
    assert (ran.result, ran.changes) == (True, {})
    assert ran.comment == "The pillar of this node declares no volume" + told


def test_volumes_are_counted(make_loaders):
    loaders = make_loaders({"rbd": {"volumes": {"a": {"size": "1G", "snapshots": {"s": None}}}, "clones": {"b": {"parent": "a@s"}}}})
    for test in (True, False):
        ran = loaders.states.rbd_volumes.declared("x", test=test)
        assert (ran.result, ran.changes, ran.comment) == (True, {}, "The pillar declares 2 images.")
