"""The management host as a container image: built where no systemd runs, everything up at its first boot."""

import json
import secrets
import stat
import tarfile
import time

import pytest
import site_checks

from labkit import bridge, container, guests, node_image, prepare
from labkit.commands import LabError
from labkit.node import Node

pytestmark = pytest.mark.timeout(3000)

STATES = "salt_master,salt_api,salt_minion,postgresql,graphite,diamond,first_boot"
SERVICES = ("salt-master", "salt-minion", "salt-api", "carbon-cache", "diamond", "postgresql-backup.timer")
PORTS = {"salt-master": 4505, "its answers": 4506, "salt-api": 8000, "postgresql": 5432, "carbon": 2003}
CERTIFICATES = ["/etc/salt/pki/api/certificate.pem"]

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
    group = next(line.split(":")[2] for line in (unpacked / "root/etc/group").read_text().splitlines() if line.startswith("salt:"))
    pillar = container.pillar_for(debian)
    pillar["postgresql"]["roles"] = {"configs": {"password": password}}
    container.write_pillar(unpacked / "root/srv/site/pillar", pillar)
    for path in (unpacked / "root/srv/site/pillar").iterdir():
        path.chmod(0o640)
        path.chmod(path.stat().st_mode)
        _chgrp(path, int(group))
    own = lab_home.nodes()
    own.make()
    with own.locked():
        network = guests.network(own)
        bridge.up(network)
        node = Node(own, 7, network)
        node.start(unpacked, prepare.salt_environment(lab_home, prepare.SALT))
        failed = node.wait()
    assert failed == []
    yield node
    problems = node.end()
    assert not problems, problems
