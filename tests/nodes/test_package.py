"""The packages of ``./lab rpm`` and ``./lab deb``: installed, they give what the checkout gives; removed, nothing of them is left."""

import hashlib
import json
import os

import pytest

from labkit import nodes, package
from labkit.commands import run

pytestmark = pytest.mark.timeout(1500)

CHECKOUT = "/srv/checkout"
PILLAR = "/srv/pillar"
TOP = "/srv/salt/top.sls"
SHARE = "/usr/share/salt-rbd"

# What the checkout serves and the packages do not: the top file of the example, and the lab's demo.
NOT_SERVED = ("top.sls", "demo")


@pytest.fixture(scope="module", params=["rpm", "deb"])
def built(request, tmp_path_factory):
    """(kind, the packages to install) of the last commit."""
    folder = tmp_path_factory.mktemp(request.param)
    made = {"rpm": package.rpms, "deb": package.debs}[request.param](folder)
    return request.param, [path for path in made if not path.name.endswith(".src.rpm")]


@pytest.fixture(scope="module")
def host(module_node, lab_home, tmp_path_factory):
    """A node with the last commit's files, the example pillar for the lab's cluster, and a top file of its own."""
    tree, _ = package.export(tmp_path_factory.mktemp("checkout"))
    run(["cp", "--recursive", "--no-dereference", tree, f"{module_node.root}{CHECKOUT}"])
    known = nodes.facts(lab_home)
    for path in (tree / "pillar").glob("*.sls"):
        module_node.write(f"{PILLAR}/{path.name}", path.read_text())
    names = ["ceph", "salt", "management", "postgresql", "diamond", "graphite", "rbd"]
    module_node.write(f"{PILLAR}/top.sls", json.dumps({"base": {"*": names}}))
    cluster = {key: known[key] for key in ("fsid", "monitors", "pool", "user")}
    with open(known["keyring"]) as keyring:
        module_node.write(f"{PILLAR}/ceph.sls", json.dumps({"ceph": {**cluster, "keyring_text": keyring.read()}}), 0o600)
    volume = {"size": "64M", "mount": "/mnt/volume", "snapshots": {"snap1": {"protected": True, "consistency": "filesystem"}}}
    module_node.write(f"{PILLAR}/rbd.sls", json.dumps({"rbd": {"volumes": {"packaged": volume}}}))
    module_node.write(TOP, json.dumps({"base": {"*": ["ceph", "rbd"]}}))
    return module_node


def _install(host, kind, packages):
    if kind == "deb":
        for path in packages:
            run(["cp", path, f"{host.root}/root/"])
        host.run("apt-get", "--yes", "--quiet", "install", *(f"/root/{path.name}" for path in packages), timeout=120)
        host.run("rm", *(f"/root/{path.name}" for path in packages))
        return
    rpm = ["rpm", f"--root={host.root}", "--install"]
    # The node is a Debian, of whose shell RPM knows nothing; it is all that the packages ask for.
    missing = run([*rpm, "--test", *packages], check=False)[2].partition("Failed dependencies:")[2].splitlines()
    assert [line.strip() for line in missing if line.strip()] == [f"/bin/sh is needed by {package.NAME}-{package.version()}-1.noarch"]
    run([*rpm, "--nodeps", *packages])
    assert run(["rpm", f"--root={host.root}", "--verify", "--nodeps", *_names()])[1] == ""


def _remove(host, kind):
    if kind == "deb":
        host.run("apt-get", "--yes", "--quiet", "purge", *_names(), timeout=120)
    else:
        run(["rpm", f"--root={host.root}", "--erase", *_names()])


def _names():
    return [package.NAME, f"{package.NAME}-config"]


@pytest.fixture
def installed(host, built):
    """The node with one kind of the packages; their end is the test's, or this one's."""
    kind, packages = built
    _install(host, kind, packages)
    yield host
    if host.run("test", "-e", SHARE, check=False)[0] == 0:
        _remove(host, kind)


def _call(host, *words, check=True, timeout=300):
    """Run salt-call without a master, as it finds its configuration; return what the function returns."""
    words = ["salt-call", "--local", "--out=json", f"--pillar-root={PILLAR}", *words]
    return json.loads(host.run(*words, check=check, timeout=timeout)[1])["local"]


def _files(host):
    """Return what lies in the folders that packages write to."""
    places = ["/usr", "/etc", "/srv", "/opt"]
    return set(host.run("find", *places, "-xdev", "-path", CHECKOUT, "-prune", "-o", "-print", timeout=120)[1].splitlines())


def _served(host, *root):
    return {path for path in _call(host, *root, "cp.list_master") if path.split("/")[0] not in NOT_SERVED}


def _shown(host, *root):
    """Return what every SLS says on this node: those that set up, and their clean twins."""
    _call(host, *root, "saltutil.sync_all")
    names = sorted(path[: -len("/init.sls")] for path in _served(host, *root) if path.endswith("/init.sls"))
    assert {"ceph", "rbd", "salt_master", "postgresql", "diamond", "graphite"} <= set(names)
    clean = sorted(path[: -len(".sls")].replace("/", ".") for path in _served(host, *root) if path.endswith("/clean.sls"))
    return [_call(host, *root, "state.show_sls", ",".join(group)) for group in (names, clean)]


def test_the_states_are_those_of_the_checkout(built, host):
    kind, packages = built
    from_checkout = f"--file-root={CHECKOUT}/salt"
    # Salt itself writes an id and makes folders, once.
    assert _call(host, "test.ping") is True
    before = _files(host)
    expected = _shown(host, from_checkout)
    assert all(isinstance(answer, dict) and len(answer) > 10 for answer in expected)
    served = _served(host, from_checkout)
    host.run("rm", "-rf", "/var/cache/salt")
    assert _modules(host) == set()
    _install(host, kind, packages)
    # As it comes: the drop-in alone says where the states are.
    assert _served(host) == served
    assert _shown(host) == expected
    assert _modules(host) >= {"rbd_image", "rbd_snapshot", "rbd_clone", "rbd_device", "rbd_filesystem", "postgresql_server"}
    # The modules from their folder, without a sync.
    host.run("rm", "-rf", "/var/cache/salt")
    host.write("/etc/salt/minion.d/modules.conf", json.dumps({"module_dirs": [SHARE]}))
    assert "rbd_image" in _modules(host)
    assert host.run("find", SHARE, "-name", "*.pyc")[1] != ""
    host.run("rm", "/etc/salt/minion.d/modules.conf")
    _remove(host, kind)
    # RPM's folder of licences is the system's, and no package's.
    assert _files(host) - before - {"/usr/share/licenses"} == set()
    assert before - _files(host) == set()


def _modules(host):
    return {name for name in _call(host, "sys.list_modules") if name.startswith(("rbd_", "postgresql_"))}


def test_a_volume_is_made(installed, lab_home):
    host = installed
    conf = nodes.facts(lab_home)["conf"]
    first = _call(host, "state.highstate", timeout=900)
    assert {row["__id__"]: row["comment"] for row in first.values() if row["result"] is not True} == {}
    assert host.run("findmnt", "--noheadings", "--output=FSTYPE", "/mnt/volume")[1].strip() == "ext4"
    host.write("/mnt/volume/edit", "edit1\n")
    snapshots = json.loads(run(["rbd", "-c", conf, "snap", "ls", "--format=json", "rbd/packaged"])[1])
    assert [(one["name"], one["protected"]) for one in snapshots] == [("snap1", "true")]
    assert _call(host, "rbd_image.list")
    second = _call(host, "state.highstate", timeout=300)
    assert [row["__id__"] for row in second.values() if row["result"] is not True or row["changes"]] == []
    for words in (
        ("rbd_filesystem.unmounted", "/mnt/volume"),
        ("rbd_device.unmapped", "packaged"),
        ("rbd_snapshot.unprotected", "packaged@snap1"),
        ("rbd_snapshot.absent", "packaged@snap1"),
        ("rbd_image.absent", "packaged", "trash=False"),
    ):
        gone = _call(host, "state.single", *words)
        assert [row["comment"] for row in gone.values() if row["result"] is not True] == []
    assert run(["rbd", "-c", conf, "ls", "rbd"])[1] == ""


def test_a_changed_drop_in_is_kept(installed, built):
    kind, packages = built
    path = "/etc/salt/minion.d/00-salt-rbd.conf"
    mine = "file_roots: {base: [/srv/mine, /usr/share/salt-rbd/salt]}\n"
    installed.write(path, mine)
    if kind == "rpm":
        run(["rpm", f"--root={installed.root}", "--upgrade", "--force", "--nodeps", *packages])
    else:
        _install(installed, kind, packages)
    assert installed.run("cat", path)[1] == mine


def test_two_builds_are_the_same(built, tmp_path, monkeypatch):
    kind, packages = built
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mask = os.umask(0o077)
    try:
        again = {"rpm": package.rpms, "deb": package.debs}[kind](tmp_path / "again")
    finally:
        os.umask(mask)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in again}
    for path in packages:
        assert digests[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
