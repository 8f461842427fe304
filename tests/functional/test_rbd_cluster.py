"""The doctor before real breakages: it names the part that is broken, in time, without a traceback and without a key."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest
from conftest import ceph_pillar
from faults import stopped
from saltrbd import doctor
from saltrbd.client import Client
from worker_watch import chosen, until, workers

from labkit import cluster as lab_cluster

KEY = re.compile(r"AQ[A-Za-z0-9+/]{38}")


class Examination(dict):
    """The findings by name: ``found["keyring"].status``; ``broken`` are the names of the faults."""

    def __init__(self, findings):
        super().__init__((finding.name, finding) for finding in findings)
        assert len(self) == len(findings), "a name twice"
        assert not KEY.search(str(findings))
        assert "Traceback" not in str(findings)
        assert all(finding.status in ("ok", "warning", "fault", "unknown") for finding in findings)
        assert all(finding.text.endswith(".") for finding in findings), findings
        self.broken = [finding.name for finding in findings if finding.status == doctor.FAULT]


@pytest.fixture
def examined(cluster, pool):
    """Examine: ``examined(keyring="/x")`` with keys of the pillar's ``ceph:``, ``rbd={...}`` its ``rbd:``, and within a limit."""

    def examine(rbd=None, within=30, limit=30, sick=cluster, **options):
        pillar = {"ceph": {**ceph_pillar(sick, pool), **options}, "rbd": rbd or {}}
        began = time.monotonic()
        found = Examination(doctor.examine({"id": "tests"}, pillar, limit))
        assert time.monotonic() - began < within + 3
        return found

    return examine


@pytest.fixture
def file_of(tmp_path):
    """Write a file and return its path: ``file_of(b"text", mode=0o600)``."""

    def write(content, mode=0o600):
        path = tmp_path / uuid.uuid4().hex
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    return write


def test_healthy(examined, pool, cluster):
    found = examined()
    assert found.broken == []
    assert [name for name, finding in found.items() if finding.status == doctor.UNKNOWN] == []
    for name in ("pillar", "python", "configuration", "keyring", f"monitor {cluster.monitors[0]}", "session", "fsid", "clock"):
        assert found[name].status == doctor.OK, found[name]
    assert found[f"pool {pool}"].status == found[f"capabilities {pool}"].status == doctor.OK


def test_as_salt_shows_it(loaders, pool):
    told = loaders.modules.rbd_cluster.doctor()
    assert {finding["name"] for finding in told["findings"]} >= {"session", f"pool {pool}", "tools", "mappings"}
    assert told["summary"].endswith("ok.")
    with pytest.raises(Exception, match="limit must be seconds"):
        loaders.modules.rbd_cluster.doctor(limit="long")


def test_salt_call_ends_with_one_where_something_is_broken(make_minion_config, cluster):
    """The way of a person: without a keyring and with a garbage configuration, salt-call says so and ends with 1."""
    broken = {**ceph_pillar(cluster, "rbd"), "keyring": "/nowhere/keyring", "monitors": []}
    folder = make_minion_config({"ceph": broken})
    argv = [str(Path(sys.executable).parent / "salt-call"), "--local", "-c", str(folder), "--retcode-passthrough", "--out=json"]
    ran = subprocess.run([*argv, "rbd_cluster.doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=90)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stdout + ran.stderr
    told = {finding["name"]: finding for finding in json.loads(ran.stdout)["local"]["findings"]}
    assert "/nowhere/keyring" in told["keyring"]["text"]


def test_without_a_pillar():
    """Whatever this machine has in /etc/ceph: it ends, and says that the defaults are examined."""
    began = time.monotonic()
    found = Examination(doctor.examine({}, {}, limit=10))
    assert time.monotonic() - began < 13
    assert found["pillar"].status == doctor.WARNING
    assert {"python", "configuration", "keyring", "tools"} <= set(found)


def test_without_bindings(examined, file_of):
    found = examined(rbd={"python": "/bin/false"})
    assert found.broken == ["python"]
    assert "python3-rados" in found["python"].text
    assert found["session"].status == doctor.UNKNOWN
    # A Python that has none, which is what the tests run on.
    found = examined(rbd={"python": file_of(f'#!/bin/sh\nexec {sys.executable} -I "$@"\n'.encode(), 0o700)})
    assert "No module named 'rados'" in found["python"].text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"\x00\xff" * 5000, "is no text"),
        (b"this is no configuration\n" + b"AQ" + b"x" * 38, "Line 1"),
        (b"[global]\nmon_host = 127.0.0.1:1\nAQ" + b"B" * 38, "Line 3"),
    ],
)
def test_garbage_configuration(examined, file_of, content, word):
    found = examined(conf=file_of(content), monitors=[])
    assert "configuration" in found.broken
    assert word in found["configuration"].text
    assert found["session"].status == doctor.FAULT


def test_configuration_that_would_wait_for_ever(examined, tmp_path):
    """A pipe that nobody writes into: opening it never ends."""
    os.mkfifo(tmp_path / "conf")
    found = examined(conf=str(tmp_path / "conf"), keyring=str(tmp_path / "conf"), limit=20)
    assert {"configuration", "keyring"} <= set(found.broken)
    assert "is no file" in found["configuration"].text


def test_keyrings(examined, file_of, cluster, tmp_path):
    good = Path(cluster.keyring).read_bytes()
    found = examined(keyring=file_of(good, 0o644))
    assert found["keyring"].status == doctor.WARNING
    assert "0644" in found["keyring"].text
    for content, word in [(b"", "no key of client.admin"), (b"garbage", "Line 1"), (good.replace(b"AQ", b"A!"), "no key of Ceph's")]:
        found = examined(keyring=file_of(content))
        assert found.broken[:2] == ["keyring", "session"]
        assert word in found["keyring"].text
    found = examined(keyring=str(tmp_path))
    assert "is no file" in found["keyring"].text
    other = re.sub(rb"(AQ.{14}).{8}", rb"\1BBBBBBBB", good)  # behind the time at which it was made
    found = examined(keyring=file_of(other))
    assert found["keyring"].status == doctor.OK
    assert found.broken == ["session"], "a key that is well-formed and wrong"


@pytest.fixture
def repo_for_all(repo):
    """A copy that any user can read, wherever the checkout lies."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copytree(repo, folder / "repo", ignore=shutil.ignore_patterns(".git", "__pycache__"))
    yield folder / "repo"
    shutil.rmtree(folder)


def test_unreadable_keyring(cluster, pool, file_of, repo_for_all):
    """By a user who may not read it: root reads everything."""
    path = file_of(Path(cluster.keyring).read_bytes(), 0o600)
    code = (
        "import json, os, sys\nsys.path.insert(0, sys.argv[1])\nfrom saltrbd import doctor\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps([list(one) for one in doctor.examine({}, json.loads(sys.argv[2]))]))"
    )
    pillar = {"ceph": {**ceph_pillar(cluster, pool), "keyring": path}}
    argv = ["/usr/bin/python3", "-B", "-c", code, str(repo_for_all / "_utils"), json.dumps(pillar)]
    ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = Examination([doctor.Finding(*one) for one in json.loads(ran.stdout)])
    assert "Permission denied" in found["keyring"].text
    assert {"keyring", "session", "root"} <= set(found.broken)


@pytest.fixture
def listener():
    """A port at which somebody says something: ``listener(b"SSH-2.0")``."""
    made = []

    def listen(words):
        server = socket.create_server(("127.0.0.1", 0))
        made.append(server)

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                    connection.sendall(words)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield listen
    for server in made:
        server.close()


def test_monitors(examined, listener, cluster):
    with socket.create_server(("127.0.0.1", 0)) as once:
        closed = f"127.0.0.1:{once.getsockname()[1]}"
    ssh = listener(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    found = examined(monitors=[closed, ssh])
    assert {f"monitor {closed}", f"monitor {ssh}", "session"} <= set(found.broken)
    assert "refuses the connection" in found[f"monitor {closed}"].text
    assert "no Ceph monitor" in found[f"monitor {ssh}"].text
    assert found["fsid"].status == found["capabilities"].status == doctor.UNKNOWN
    found = examined(monitors=[closed, cluster.monitors[0]])
    assert found[f"monitor {closed}"].status == doctor.WARNING
    found = examined(monitors=["no-such-host.invalid", "192.0.2.1:6789"])
    assert {"monitor no-such-host.invalid", "monitor 192.0.2.1:6789"} <= set(found.broken)
    found = examined(monitors=["¿?"])
    assert "make no sense" in found["monitors"].text


def test_both_versions_of_the_protocol(examined, cluster):
    host, _, port = cluster.monitors[0].rpartition(":")
    first = f"v1:{host}:{int(port) + 1}"
    found = examined(monitors=[f"[v2:{cluster.monitors[0]}/0,{first}/0]"])
    assert "speaks v2" in found[f"monitor v2:{cluster.monitors[0]}"].text
    assert "speaks v1" in found[f"monitor {first}"].text
    assert found.broken == []


def test_fsid(examined, cluster):
    found = examined(fsid="00000000-1111-2222-3333-444444444444")
    assert found.broken == ["fsid"]
    assert cluster.fsid in found["fsid"].text


CLOCK = """#!/bin/sh
exec /usr/bin/python3 -c 'import runpy, sys, time
real = time.time
time.time = lambda: real() - 1000
sys.argv = sys.argv[1:] if sys.argv[1] != "-E" else sys.argv[3:]
exec(sys.argv[1]) if sys.argv[0] == "-c" else runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


def test_clock(examined, file_of):
    """The worker runs on a Python whose clock is 1000 s late: a stand-in for a host that is."""
    found = examined(rbd={"python": file_of(CLOCK.encode(), 0o700)})
    assert found.broken == ["clock"], found
    assert re.search(r"at least (99[0-9]|1000) s behind", found["clock"].text)


def test_pools(examined, ceph_cli):
    bare = f"t-{uuid.uuid4().hex[:6]}"
    found = examined(pool=bare)
    assert found.broken == [f"pool {bare}"]
    assert f"rbd pool init {bare}" in found[f"pool {bare}"].text
    ceph_cli("osd", "pool", "create", bare)
    try:
        found = examined(pool=bare)
        assert found[f"pool {bare}"].status == doctor.WARNING
        assert f"rbd pool init {bare}" in found[f"pool {bare}"].text
    finally:
        ceph_cli("osd", "pool", "rm", bare, bare, "--yes-i-really-really-mean-it")


@pytest.fixture
def user_with(ceph_cli, file_of):
    """Make a Ceph user: ``user_with(mon, osd)`` returns (name, keyring)."""
    made = []

    def make(mon, osd):
        name = f"u-{uuid.uuid4().hex[:6]}"
        key = ceph_cli("auth", "get-or-create-key", f"client.{name}", "mon", mon, "osd", osd)["key"]
        made.append(name)
        return name, file_of(f"[client.{name}]\n\tkey = {key}\n".encode())

    yield make
    for name in made:
        ceph_cli("auth", "rm", f"client.{name}")


def test_capabilities(examined, user_with, pool, other_pool):
    """What the pillar's volumes need, pool by pool; a parent is only read."""
    user, keyring = user_with("allow r", f"profile rbd pool={pool}, profile rbd-read-only pool={other_pool}")
    found = examined(user=user, keyring=keyring, rbd={"clones": {"c": {"parent": f"{other_pool}/x@s"}}})
    assert found.broken == []
    assert found["capabilities mon"].status == doctor.WARNING
    found = examined(user=user, keyring=keyring, rbd={"volumes": {"v": {"size": "1G", "pool": other_pool, "namespace": "n"}}})
    assert found.broken == [f"capabilities {other_pool}/n"]
    assert f"profile rbd pool={other_pool} namespace=n" in found[f"capabilities {other_pool}/n"].text
    user, keyring = user_with("profile rbd", "profile rbd pool=elsewhere")
    found = examined(user=user, keyring=keyring)
    assert found.broken == [f"capabilities {pool}"]
    assert "list images nor write nor call" in found[f"capabilities {pool}"].text
    assert found["capabilities mon"].status == doctor.OK


def test_a_dead_mapping(examined, spec, modules, only_fuse):
    modules.rbd_image.create(spec, size="64M")
    mapped = modules.rbd_device.map(spec)
    os.kill(mapped["pid"], signal.SIGKILL)
    until(lambda: modules.rbd_device.info(spec)["fault"], 10, "the daemon is dead")
    found = examined()
    assert found.broken == [f"mapping {spec}"]
    assert "its daemon is dead" in found[f"mapping {spec}"].text
    modules.rbd_device.unmap(spec)
    assert examined().broken == []


def test_daemons_that_hang(private_cluster, examined):
    """Stopped, not killed: connections are taken, and nobody answers."""
    before = set(workers())
    with stopped(private_cluster, "ceph-osd"):
        found = examined(sick=private_cluster, pool="rbd")
        assert set(found.broken) - {"health"} == {"capabilities rbd"}  # the monitor notices it later
        assert "an OSD that is down or full" in found["capabilities rbd"].text
        assert found["pool rbd"].status == doctor.OK
    with stopped(private_cluster, "ceph-mon"):
        found = examined(sick=private_cluster, pool="rbd", within=15)
        assert found.broken == [f"monitor {private_cluster.monitors[0]}", "session"]
        assert "says nothing" in found[f"monitor {private_cluster.monitors[0]}"].text
    until(lambda: set(workers()) <= before, 5, "no worker is left")
    assert lab_cluster.revive(private_cluster.folder)
    until(lambda: examined(sick=private_cluster, pool="rbd").broken == [], 60, "all is well again")


def test_nothing_is_changed(cluster, pool, examined, ceph_cli, modules, spec):
    """Neither objects nor the list of who is shut out."""
    modules.rbd_image.create(spec, size="8M")

    def state():
        objects = subprocess.run(
            ["rados", "--conf", cluster.conf, "--keyring", cluster.keyring, "-p", pool, "ls"], stdout=subprocess.PIPE, text=True, timeout=30
        )
        return sorted(objects.stdout.split()), ceph_cli("osd", "dump")["blocklist"]

    before = state()
    examined()
    assert state() == before


def test_lab_doctor(repo_for_all, tmp_path):
    """Where no lab runs, by root and by another user: sentences, an exit code, no traceback."""
    tmp_path.chmod(0o755)
    for user in (0, 65534):
        env = {"PATH": "/usr/bin:/bin", "RBD_LAB_HOME": str(tmp_path / "lab"), "RBD_LAB_VENVS": str(tmp_path / "venvs")}
        began = time.monotonic()
        ran = subprocess.run(
            ["/bin/sh", str(repo_for_all / "lab"), "doctor"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            preexec_fn=lambda user=user: user and os.setuid(user),
        )
        assert time.monotonic() - began < 35
        assert ran.returncode in (0, 1)
        assert "Traceback" not in ran.stdout + ran.stderr
        assert "The lab is not running; ./lab up starts it." in ran.stdout


def test_no_client_is_shared(examined, cluster):
    """The doctor's session is its own: a client that Salt has in use is not touched."""
    client = Client(chosen(cluster))
    client.call("cluster_info")
    before = set(workers())
    examined()
    assert set(workers()) == before
    client.close()
