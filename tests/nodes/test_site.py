"""The example site as a whole: a real master and three minions on booted systems, the cluster's volumes, a reboot."""

import json

import pytest
import site_checks

pytestmark = pytest.mark.timeout(1500)


def test_a_dry_run_predicts_the_first_highstate(first_highstate):
    assert site_checks.failed(first_highstate["dry"]) == {}
    assert site_checks.failed(first_highstate["real"]) == {}
    assert sorted(first_highstate["real"]) == ["management", "node1", "node2"]
    assert site_checks.predicted(first_highstate["dry"]) == site_checks.changed(first_highstate["real"])
    assert all(site_checks.changed(first_highstate["real"]).values())


def test_the_second_highstate_changes_nothing(first_highstate):
    assert site_checks.failed(first_highstate["second"]) == {}
    assert set(map(frozenset, site_checks.changed(first_highstate["second"]).values())) == {frozenset()}


def test_what_is_there(applied):
    for node in applied.nodes:
        assert node.failed_units() == []
    for node, points in zip(applied.nodes[1:], (["/mnt/test0001", "/mnt/test0002"], ["/srv/data", "/srv/logs"])):
        for point in points:
            assert node.run("findmnt", "--noheadings", "--output", "SOURCE", point)[1].startswith("/dev/loop")
    # Each minion is the one in its own environment now, with the bindings for PostgreSQL there.
    answer = applied.salt("*", "cmd.run", "systemctl show --property=ExecStart,KillMode salt-minion.service")
    assert all("/opt/salt/3008.3-" in text and "KillMode=process" in text for text in answer.values()), answer
    for node in applied.nodes:
        version = node.shell("/opt/salt/3008.3-*/bin/python -c 'import psycopg2; print(psycopg2.__version__)'")[1]
        assert version.startswith("2.")


def test_the_key_is_in_its_file_and_nowhere_else(applied, first_highstate):
    text = applied.management.run("cat", "/etc/ceph/ceph.client.volumes.keyring")[1]
    key = text.split("key = ")[1].split()[0]
    for name in ("dry", "real", "second"):
        assert key not in json.dumps(first_highstate[name])
    for node in applied.nodes:
        said = node.run("stat", "--format", "%a %U %G", "/etc/ceph/ceph.client.volumes.keyring")[1].strip()
        assert said == "600 root root"
        assert key not in node.run("journalctl", "--no-pager")[1]
        assert key not in node.shell("cat /var/log/salt/* 2>/dev/null", check=False)[1]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_reboot_of_a_node(applied, number):
    """Daemons, mappings and mounts come back by themselves."""
    node = applied.nodes[number]
    mounted = _mounted(node)
    assert node.reboot() == []
    assert _mounted(node) == mounted
    applied.ready()
    answer = applied.salt(node.name, "state.apply")
    assert site_checks.failed(answer) == {}
    assert site_checks.changed(answer)[node.name] == set()


def _mounted(node):
    said = node.run("findmnt", "--noheadings", "--raw", "--output", "TARGET", "--types", "ext4,xfs", check=False)[1]
    return sorted(point for point in said.split() if point.startswith(("/mnt/", "/srv/data", "/srv/logs")))
