"""The management host as a container image: built where no systemd runs, everything up at its first boot."""

import json
import os
import secrets
import stat
import tarfile
import time

import pytest
import site_checks
from node_end import ending

from labkit import bridge, container, guests, node_image, prepare
from labkit.commands import run
from labkit.node import Node

pytestmark = pytest.mark.timeout(3000)

STATES = "salt_master,salt_api,salt_minion,postgresql,graphite,diamond,first_boot"
SERVICES = ("salt-master", "salt-minion", "salt-api", "carbon-cache", "diamond", "postgresql-backup.timer")
PORTS = {"salt-master": 4505, "its answers": 4506, "salt-api": 8000, "postgresql": 5432, "carbon": 2003}

QUERY = """\
import json, sys, psycopg2
try:
    with psycopg2.connect(**json.load(sys.stdin)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT version(), (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())")
        print(json.dumps(cursor.fetchone()))
except psycopg2.OperationalError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def debian(lab_home):
    """The folder of the nodes' Debian."""
    venv = prepare.salt_environment(lab_home, prepare.SALT)
    return node_image.ready(lab_home.venvs.parent / "node-images", venv)


@pytest.fixture(scope="module")
def archive(debian, tmp_path_factory):
    """The image that ``./lab image`` builds."""
    return container.build(tmp_path_factory.mktemp("images"), debian)


@pytest.fixture(scope="module")
def unpacked(archive, debian, tmp_path_factory):
    """A folder as a node boots it: the image's files as ``root``, beside them what the lab's nodes may install."""
    folder = tmp_path_factory.mktemp("unpacked")
    container.unpack(archive, folder / "root")
    for name in ("packages", "wheels"):
        (folder / name).symlink_to(debian / name)
    return folder


@pytest.fixture(scope="module")
def password():
    return secrets.token_urlsafe(20)


@pytest.fixture(scope="module")
def host(lab_home, unpacked, debian, password):
    """The image, booted for the first time, with its pillar where a container has a volume."""
    root = unpacked / "root"
    run(["systemctl", f"--root={root}", "--quiet", "enable", container.NETWORK])
    pillar = container.pillar_for(debian)
    pillar["postgresql"]["roles"] = {"configs": {"password": password}}
    container.write_pillar(root / "srv/site/pillar", pillar)
    (group,) = [line.split(":")[2] for line in (root / "etc/group").read_text().splitlines() if line.startswith("salt:")]
    for path in (root / "srv/site/pillar").iterdir():
        os.chown(path, 0, int(group))
        path.chmod(0o640)
    own = lab_home.nodes()
    own.make()
    with own.locked():
        network = guests.network(own)
        bridge.up(network)
        node = Node(own, 7, network)
        node.start(unpacked, prepare.salt_environment(lab_home, prepare.SALT))
        failed = node.wait()
    assert failed == []
    with ending(node):
        yield node


def _salt(host, *words, timeout=600):
    """Return what the management host's minion answers its master, or the text that is no answer."""
    argv = ["/usr/local/bin/salt", "--out=json", "--static", f"--timeout={timeout}", "management", *words]
    out = host.run(*argv, timeout=timeout + 30, check=False)[1]
    try:
        return json.loads(out)
    except ValueError:
        return out


def _listening(host):
    """Return the TCP ports that something listens at."""
    return {int(line.split()[3].rpartition(":")[2]) for line in host.run("ss", "-Hltn")[1].splitlines()}


def _soon(question, wanted, seconds=120):
    """Ask until the answer is the wanted one: a daemon of Salt's that is up still opens its ports."""
    deadline = time.monotonic() + seconds
    while question() != wanted and time.monotonic() < deadline:
        time.sleep(1)
    assert question() == wanted


def _version(host):
    return host.shell("ls /etc/postgresql")[1].strip()


def _up(host):
    """Look at every service and port."""
    database = f"postgresql@{_version(host)}-main"
    for service in (*SERVICES, database):
        assert host.run("systemctl", "is-enabled", service, check=False)[1].strip() == "enabled", service
        assert host.run("systemctl", "is-active", service, check=False)[1].strip() == "active", service
    _soon(lambda: {name for name, port in PORTS.items() if port in _listening(host)}, set(PORTS))
    assert host.run("systemctl", "is-system-running")[1].strip() == "running"


def _connect(node, system_user="root", **where):
    """Return (version, by TLS) as psycopg2 in Salt's own environment gets it, or what the server refuses with."""
    python = node.shell("ls -d /opt/salt/*/bin/python")[1].strip()
    argv = ["setpriv", f"--reuid={system_user}", "--clear-groups", f"--regid={system_user}", python, "-c", QUERY]
    return json.loads(node.run(*argv, stdin_text=json.dumps({"connect_timeout": 10, **where}))[1])


def test_the_archive_is_a_container_image(archive):
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))
        manifest = _blob(tar, index["manifests"][0])
        config = _blob(tar, manifest["config"])
    assert config["os"] == "linux"
    assert config["config"]["Cmd"] == ["/sbin/init"]
    assert config["config"]["StopSignal"] == "SIGRTMIN+3"


def _blob(tar, descriptor):
    return json.load(tar.extractfile("blobs/" + descriptor["digest"].replace(":", "/")))


def test_the_image_has_nothing_of_one_host(unpacked):
    """No keys, no system's id, no Salt that only built it; a cluster that nobody has started."""
    root = unpacked / "root"
    places = [root / "etc", root / "var/lib", root / "srv", root / "root"]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if b"PRIVATE KEY" in path.read_bytes()] == []
    assert (root / "etc/machine-id").read_text() == ""
    assert not (root / "opt/bootstrap/bin").exists()
    assert not (root / "run/systemd/system").exists()
    assert [path.read_text().strip() for path in root.glob("var/lib/postgresql/*/main/PG_VERSION")] != []
    assert list(root.glob("var/lib/postgresql/*/main/postmaster.pid")) == []


def test_everything_is_up_at_the_first_boot(host):
    _up(host)
    version, tls = _connect(host, "postgres", user="postgres", host="/var/run/postgresql", dbname="postgres")
    assert version.startswith("PostgreSQL ")
    assert tls is False
    # The keys are this host's.
    assert host.run("openssl", "x509", "-noout", "-in", "/etc/salt/pki/api/certificate.pem")[0] == 0


def test_the_master_and_the_first_highstate(host, password):
    _soon(lambda: host.shell("/usr/local/bin/salt-key --list=unaccepted")[1].split()[-1], "management")
    host.run("/usr/local/bin/salt-key", "--yes", "--accept=management")
    _soon(lambda: _salt(host, "test.ping", timeout=10), {"management": True})
    dry = _salt(host, "state.apply", STATES, "test=True")
    first = _salt(host, "state.apply", STATES)
    assert site_checks.failed(first) == {}
    # What needs a running server and a password; nothing else.
    changed = {tag.split("_|-")[1] for tag in site_checks.changed(first)["management"]}
    assert changed == {"postgresql role configs", "postgresql database configs"}
    assert {tag.split("_|-")[1] for tag in site_checks.predicted(dry)["management"]} == changed
    second = _salt(host, "state.apply", STATES)
    assert (site_checks.failed(second), site_checks.changed(second)) == ({}, {"management": set()})
    where = {"host": "127.0.0.1", "user": "configs", "dbname": "configs", "sslmode": "require"}
    version, tls = _connect(host, password=password, **where)
    assert version.startswith("PostgreSQL ")
    assert tls is True
    assert "password authentication failed" in _connect(host, password="not this one", **where)


def test_a_later_boot_makes_no_new_keys(host):
    before = host.run("sha256sum", "/etc/salt/pki/api/certificate.pem", "/etc/salt/pki/master/master.pub")[1]
    assert host.reboot() == []
    _up(host)
    assert host.run("systemctl", "show", "--property=ConditionResult", "--value", "salt-first-boot")[1].strip() == "no"
    assert host.run("sha256sum", "/etc/salt/pki/api/certificate.pem", "/etc/salt/pki/master/master.pub")[1] == before
    _soon(lambda: _salt(host, "test.ping", timeout=10), {"management": True})
