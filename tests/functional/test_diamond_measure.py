"""What Diamond's RbdCollector asks the cluster: measure.py as the collector runs it, beside what the rbd command says."""

import json
import shutil
import subprocess
import time

import pytest


@pytest.fixture(scope="module")
def reader(ceph_cli, tmp_path_factory, cluster):
    """The keyring of a Ceph user who can read volumes and no more."""
    name = "client.measures"
    made = ceph_cli("auth", "get-or-create", name, "mon", "profile rbd-read-only", "osd", "profile rbd-read-only")
    path = tmp_path_factory.mktemp("keyring") / "keyring"
    path.write_text(f"[{name}]\n  key = {made[0]['key']}\n")
    yield {"user": "measures", "keyring": str(path), "monitors": cluster.monitors, "fsid": cluster.fsid}
    ceph_cli("auth", "rm", name)


@pytest.fixture(scope="module")
def measure(repo, reader, tmp_path_factory):
    """Run measure.py: ``measure(volumes, space=[...], user=...)`` returns its answers, each kind merged."""
    folder = tmp_path_factory.mktemp("diamond")
    shutil.copy(repo / "salt/diamond/files/rbd/measure.py", folder)
    shutil.copytree(repo / "_utils/saltrbd", folder / "saltrbd")

    def ask(volumes, space=(), timeout=30, **ceph):
        request = {"ceph": {**reader, **ceph}, "timeout": timeout, "volumes": volumes, "space": list(space)}
        argv = ["/usr/bin/python3", "-E", "-s", str(folder / "measure.py")]
        done = subprocess.run(argv, input=json.dumps(request), capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        found = {}
        for line in done.stdout.splitlines():
            for key, value in json.loads(line).items():
                found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) else value
        return found

    return ask


def used(rbd_cli, spec, *options):
    return sum(image["used_size"] for image in rbd_cli.json("du", *options, spec)["images"])


def write(rbd_cli, spec, size="1M", total="5M"):
    rbd_cli("bench", "--io-type", "write", "--io-size", size, "--io-total", total, "--io-pattern", "rand", spec)


def test_volumes_with_snapshots_and_clones(rbd_cli, measure, pool, spec):
    """Also where there is no fast-diff map, where the parent lies in the trash, and where nothing was ever written."""
    plain, clone, empty = f"{spec}-plain", f"{spec}-clone", f"{spec}-empty"
    for name, options in ((spec, []), (plain, ["--image-feature", "layering"]), (empty, [])):
        rbd_cli("create", name, "--size", "64M", *options)
    for name in (spec, plain):
        write(rbd_cli, name)
        rbd_cli("snap", "create", f"{name}@s1")
        write(rbd_cli, name, "8K", "64K")
        rbd_cli("snap", "create", f"{name}@s2")
        write(rbd_cli, name, "8K", "64K")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s1", clone)
    write(rbd_cli, clone, "8K", "64K")
    names = [spec, plain, clone, empty]
    found = measure(names, names)
    now = time.time()
    assert {name: found["space"][name] for name in (spec, clone, empty)} == {name: used(rbd_cli, name) for name in (spec, clone, empty)}
    assert found["space"][plain] == used(rbd_cli, plain, "--exact")
    assert found["space"][empty] == 0
    assert 0 < found["space"][plain] < found["space"][spec]
    volumes = found["volumes"]
    assert {volumes[name]["size"] for name in names} == {64 << 20}
    assert [volumes[name]["snapshots"] for name in names] == [2, 2, 0, 0]
    assert [volumes[name]["clone_depth"] for name in names] == [0, 0, 1, 0]
    assert [volumes[name]["users"] for name in names] == [0] * 4
    made = [time.mktime(time.strptime(item["timestamp"])) for item in rbd_cli.json("snap", "ls", spec)]
    assert abs(volumes[spec]["newest_snapshot_age"] - (now - max(made))) < 10
    assert "newest_snapshot_age" not in volumes[empty]
    rbd_cli("trash", "mv", spec)
    assert measure([clone])["volumes"][clone]["clone_depth"] == 1


def test_a_volume_that_is_not_there_hides_no_other(rbd_cli, measure, spec):
    rbd_cli("create", spec, "--size", "8M")
    found = measure([f"{spec}-gone", spec, "no-such-pool/a"], [f"{spec}-gone", spec])
    assert list(found["volumes"]) == [spec]
    assert found["space"] == {spec: 0}
    assert sorted(found["unreadable"]) == sorted([f"{spec}-gone", "no-such-pool/a"])
    assert all(name in why for name, why in found["unreadable"].items() if name != "no-such-pool/a")
    assert "error" not in found


@pytest.mark.parametrize(
    ("ceph", "stop"),
    [
        ({"keyring": "/nonexistent/keyring"}, True),
        ({"fsid": "00000000-0000-0000-0000-000000000000"}, True),
        ({"monitors": ["127.0.0.1:9"]}, False),
    ],
)
def test_what_is_hopeless_stops_the_collector(measure, spec, ceph, stop):
    found = measure([spec], timeout=5, **ceph)
    assert (found["stop"], "volumes" in found) == (stop, False)
    assert found["error"].endswith(".") or found["error"].endswith(")")
