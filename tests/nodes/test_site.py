"""The example site as a whole: a real master and three minions on booted systems, the cluster in one of them, a reboot of each."""

import json

import pytest
import site_checks

from labkit import node_ceph

pytestmark = pytest.mark.timeout(2800)

MOUNTS = {"management": [], "node1": ["/mnt/test0001", "/mnt/test0002"], "node2": ["/srv/data", "/srv/logs"]}
UNITS = {
    "management": ["salt-master", "salt-api", "salt-minion", "carbon-cache", "diamond", "postgresql-backup.timer"],
    "node1": ["salt-minion", "diamond", "diamond-sockets.path", "ceph-mon@node1", "ceph-mgr@node1", "ceph-osd@0"],
    "node2": ["salt-minion", "diamond", "diamond-sockets.path"],
}


def test_a_dry_run_predicts_the_first_highstate(first_highstate):
    assert site_checks.failed(first_highstate["dry"]) == {}
    assert site_checks.failed(first_highstate["real"]) == {}
    assert sorted(first_highstate["real"]) == ["management", "node1", "node2"]
    assert site_checks.predicted(first_highstate["dry"]) == site_checks.changed(first_highstate["real"])
    assert all(site_checks.changed(first_highstate["real"]).values())


def test_the_second_highstate_changes_nothing(first_highstate):
    assert site_checks.failed(first_highstate["second"]) == {}
    assert site_checks.changed(first_highstate["second"]) == {"management": set(), "node1": set(), "node2": set()}


def test_what_is_there(applied):
    for node in applied.nodes:
        assert_whole(applied, node)
    # Each minion is the one in its own environment now, with the bindings for PostgreSQL there.
    answer = applied.salt("*", "cmd.run", "systemctl show --property=ExecStart,KillMode salt-minion.service")
    assert all("/opt/salt/3008.3-" in text and "KillMode=process" in text for text in answer.values()), answer
    for node in applied.nodes:
        version = node.shell("/opt/salt/3008.3-*/bin/python -c 'import psycopg2; print(psycopg2.__version__)'")[1]
        assert version.startswith("2.")


def test_secrets_are_in_their_files_and_nowhere_else(applied, first_highstate):
    keyrings = {"volumes": "600 root root", "diamond": "640 root diamond"}
    keys = {name: node_ceph.ceph(applied.ceph_node, "auth", "print-key", f"client.{name}") for name in keyrings}
    for name in ("dry", "real", "second"):
        for secret in (*keys.values(), applied.password):
            assert secret not in json.dumps(first_highstate[name])
    for node in applied.nodes:
        for name in keyrings if node is not applied.management else ["volumes"]:
            path = f"/etc/ceph/ceph.client.{name}.keyring"
            assert node.run("stat", "--format", "%a %U %G", path)[1].strip() == keyrings[name]
            assert keys[name] in node.run("cat", path)[1]
        said = node.run("journalctl", "--no-pager")[1] + node.shell("cat /var/log/salt/* 2>/dev/null", check=False)[1]
        for secret in (*keys.values(), applied.password):
            assert secret not in said
    assert applied.management.run("test", "-e", "/etc/ceph/ceph.client.diamond.keyring", check=False)[0] == 1


def test_the_database_over_tls(applied):
    """From another node, by psycopg2 of Salt's environment, with a password, the certificate checked."""
    node, server = applied.nodes[2], applied.management
    layout = applied.salt("management", "postgresql_server.layout")["management"]
    node.write("/root/server.crt", server.run("cat", layout["tls"]["certificate"])[1])
    where = {"host": server.address, "dbname": "configs", "user": "configs", "password": applied.password, "connect_timeout": 10}
    where.update(sslmode="verify-full", sslrootcert="/root/server.crt")
    program = (
        "import json, sys, psycopg2\n"
        "with psycopg2.connect(**json.load(sys.stdin)) as connection, connection.cursor() as cursor:\n"
        "    cursor.execute('SELECT version()')\n"
        "    print(cursor.fetchone()[0])\n"
    )
    said = node.shell("ls -d /opt/salt/3008.3-*/bin/python")[1].split()[0]
    version = node.run(said, "-c", program, stdin_text=json.dumps(where))[1]
    assert version.startswith(f"PostgreSQL {applied.postgresql_version}"), version


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_reboot_of_a_node(applied, number):
    """Daemons, mappings and mounts come back by themselves; with node1 the cluster goes and comes too, under node2's mounts."""
    node = applied.nodes[number]
    other = applied.nodes[2]
    other.shell("dd if=/dev/urandom of=/srv/data/kept bs=1M count=4 conv=fsync status=none")
    kept = other.run("sha256sum", "/srv/data/kept")[1]
    assert node.reboot() == []
    assert_whole(applied, node)
    node_ceph.wait(applied.ceph_node)
    assert other.run("sha256sum", "/srv/data/kept")[1] == kept
    other.shell("echo again >/srv/data/again && sync /srv/data/again")
    applied.ready()
    answer = applied.salt("*", "state.apply")
    assert site_checks.failed(answer) == {}
    assert site_checks.changed(answer) == {"management": set(), "node1": set(), "node2": set()}


def assert_whole(site, node):
    """No unit failed, the services run, and exactly what is declared is mounted, from a mapped image."""
    assert node.failed_units() == []
    units = list(UNITS[node.name])
    if node is site.management:
        units.append(site.postgresql_unit)
    states = node.run("systemctl", "is-active", *units, check=False)[1].split()
    assert dict(zip(units, states)) == dict.fromkeys(units, "active")
    said = node.run("findmnt", "--noheadings", "--raw", "--output", "TARGET,SOURCE", "--types", "ext4,xfs", check=False)[1]
    mounted = [line.split()[0] for line in said.splitlines() if line.split()[1].startswith("/dev/loop")]
    assert sorted(mounted) == MOUNTS[node.name]
