"""The package works in the three ways that people install it: module_dirs, sync from file_roots, and pip."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 180


@pytest.fixture(scope="module")
def wheel_folder(repo, tmp_path_factory):
    """The package as pip installs it, in a folder of its own; built from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=repo, check=True, stdout=subprocess.PIPE, timeout=LIMIT).stdout
    for name in tracked.decode().split("\0"):
        if name.startswith(
            ("_beacons/", "_modules/", "_runners/", "_states/", "_utils/", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
        ):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((repo / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "site"), str(source)]
    subprocess.run(pip, check=True, timeout=LIMIT)
    return folder / "site"


@pytest.fixture(params=["module_dirs", "file_roots", "pip"])
def installed(request, repo, make_minion_config, cluster, pool, tmp_path):
    """(salt-call's arguments, its environment) for a minion that has the package in one of the three ways."""
    mount = tmp_path / "mnt"
    pillar = {
        "rbd": {
            "volumes": {
                request.param: {"size": "64M", "mount": str(mount), "snapshots": {"snap1": {"protected": True}}},
                request.param + "-plain": {"size": "8M", "snapshots": {"snap1": {}}},
            },
            "clones": {request.param + "-clone": {"parent": request.param + "@snap1", "mount": str(mount) + "-clone"}},
        }
    }
    config = {"module_dirs": [], "file_roots": {"base": [str(tmp_path / "salt")]}}
    tree = tmp_path / "salt"
    tree.mkdir()
    # A top file of the site's own, for the volumes alone.
    (tree / "top.sls").write_text(json.dumps({"base": {"*": ["rbd"]}}))
    (tree / "rbd").symlink_to(repo / "salt/rbd")
    environment = {**os.environ, "PYTHONPATH": ""}
    if request.param == "module_dirs":
        config["module_dirs"] = [str(repo)]
    elif request.param == "file_roots":
        config["file_roots"] = {"base": [str(tree), str(repo / "salt")]}
    else:
        environment["PYTHONPATH"] = str(request.getfixturevalue("wheel_folder"))
    folder = make_minion_config(pillar, config)
    call = [str(Path(sys.executable).parent / "salt-call"), "--local", "-c", str(folder), "--out=json"]
    yield call, environment, mount
    for path in (str(mount) + "-clone", str(mount)):
        _salt(call, environment, "state.single", "rbd_filesystem.unmounted", path)


def _salt(call, environment, *words):
    ran = subprocess.run([*call, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT)
    assert ran.stdout, ran.stderr.decode()
    return json.loads(ran.stdout)["local"]


def test_highstate(installed, pool, rbd_cli):
    call, environment, mount = installed
    first = _salt(call, environment, "state.highstate")
    assert isinstance(first, dict), first
    failed = [result["comment"] for result in first.values() if result["result"] is not True]
    assert not failed
    assert len(first) == 10
    assert all(result["changes"] for result in first.values())
    assert os.path.ismount(mount)
    second = _salt(call, environment, "state.highstate")
    assert [result["comment"] for result in second.values() if result["result"] is not True or result["changes"]] == []
