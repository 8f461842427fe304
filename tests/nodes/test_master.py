"""What a minion may see of the master, and what a changed and a broken pillar do to it."""

import json
import uuid

import pytest
import site_checks
import yaml

pytestmark = pytest.mark.timeout(2800)


def _pid(node, unit):
    return node.run("systemctl", "show", "--property=MainPID", "--value", unit)[1].strip()


def _call(node, *words, check=True):
    """Run salt-call of the node's own environment."""
    out = node.run("/usr/local/bin/salt-call", "--out=json", *words, timeout=200, check=check)[1]
    return json.loads(out)["local"]


@pytest.fixture
def pillar(applied):
    """Change the site's pillar of the management host for one test."""
    kept = applied.management.run("cat", "/srv/site/pillar/management.sls")[1]

    def change(text):
        applied.management.write("/srv/site/pillar/management.sls", text, 0o640)
        applied.management.run("chgrp", "salt", "/srv/site/pillar/management.sls")
        return kept

    yield change
    change(kept)
    assert site_checks.failed(applied.salt("management", "state.apply", "salt_master")) == {}
    applied.ready()


FORBIDDEN = (
    "pillar/ceph.sls",
    "tests/conftest.py",
    "../pillar/ceph.sls",
    "../tests/conftest.py",
    "_modules/../../pillar/ceph.sls",
    "rbd/../../pillar/ceph.sls",
    "/srv/site/pillar/ceph.sls",
    "../../site/pillar/ceph.sls",
    "/srv/salt-rbd/pillar/ceph.sls",
)


def test_a_minion_reads_no_pillar_and_no_test(applied):
    node = applied.nodes[1]
    listed = _call(node, "cp.list_master")
    assert "rbd/init.sls" in listed
    assert [path for path in listed if path.split("/")[0] in ("pillar", "tests") or path.endswith(".pyc")] == []
    for path in FORBIDDEN:
        target = f"/root/{uuid.uuid4().hex}"
        assert _call(node, "cp.get_file", f"salt://{path}", target, check=False) in ("", False, None), path
        assert node.run("test", "-e", target, check=False)[0] == 1, path


def test_a_minion_has_its_own_pillar_alone(applied):
    keys = {name: sorted(pillar) for name, pillar in applied.salt("*", "pillar.items").items()}
    assert keys == {
        "management": ["ceph", "diamond", "graphite", "postgresql", "salt_api", "salt_environment", "salt_master", "salt_minion"],
        "node1": ["ceph", "diamond", "rbd", "salt_environment", "salt_minion"],
        "node2": ["ceph", "diamond", "rbd", "salt_environment", "salt_minion"],
    }
    collectors = {name: sorted(data) for name, data in applied.salt("*", "pillar.get", "diamond:collectors").items()}
    of_node = ["CephCollector", "RbdCollector"]
    assert collectors == {"management": ["PostgresqlCollector"], "node1": of_node, "node2": of_node}


def test_forged_grains_give_nothing(applied):
    node = applied.nodes[1]
    own = _call(node, "state.show_top"), sorted(_call(node, "pillar.items"))
    forged = {"id": "management", "nodename": "management", "host": "management", "fqdn": "management", "roles": ["management"]}
    node.write("/etc/salt/grains", json.dumps(forged))
    try:
        assert _call(node, "grains.get", "roles") == ["management"]
        assert (_call(node, "state.show_top"), sorted(_call(node, "pillar.items"))) == own
        # With another's name its key does not fit.
        code, out, err = node.run("/usr/local/bin/salt-call", "--id=management", "pillar.items", timeout=120, check=False)
        assert "salt_master" not in out + err
        assert code != 0 or "ceph" not in out
    finally:
        node.run("rm", "/etc/salt/grains")


def test_nobody_else_reads_the_masters_files(applied):
    node = applied.management
    node.run("useradd", "--system", "stranger")
    for path in (
        "/srv/site/pillar/ceph.sls",
        "/etc/salt/master.d/50-site.conf",
        "/etc/salt/pki/master/master.pem",
        "/etc/salt/pki/api/key.pem",
    ):
        assert node.run("test", "-e", path, check=False)[0] == 0, path
        code, _, err = node.run("setpriv", "--reuid=stranger", "--regid=stranger", "--clear-groups", "cat", path, check=False)
        assert code != 0 and "Permission denied" in err, path
    assert node.run("ps", "-o", "user=", "-p", _pid(node, "salt-master"))[1].strip() == "salt"
    assert json.loads(node.run("salt-run", "--out=json", "config.get", "auto_accept")[1]) is False


def test_a_changed_pillar_restarts_the_master(applied, pillar):
    before = _pid(applied.management, "salt-master")
    kept = pillar("")
    data = json.loads(json.dumps(_yaml(kept)))
    data["salt_master"]["settings"] = {"worker_threads": 4}
    pillar(json.dumps(data))
    answer = applied.salt("management", "state.apply", "salt_master")
    assert site_checks.failed(answer) == {}
    applied.management.shell("for i in $(seq 60); do systemctl is-active 'salt-master-restart@*' >/dev/null || break; sleep 1; done")
    applied.ready()
    assert _pid(applied.management, "salt-master") != before
    assert "worker_threads: 4" in applied.management.run("cat", "/etc/salt/master.d/50-site.conf")[1]


BROKEN = {
    "an address of another host": ({"interface": "192.0.2.77"}, "no address of this host"),
    "a wrong type": ({"settings": {"worker_threads": "many"}}, "worker_threads must be int"),
    "open to everybody": ({"settings": {"auto_accept": True}}, "auto_accept"),
    "the pillar served": ({"file_roots": ["/srv/salt-rbd"]}, "every minion could read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pillar_leaves_the_master_running(applied, pillar, name):
    settings, reason = BROKEN[name]
    conf = applied.management.run("cat", "/etc/salt/master.d/50-site.conf")[1]
    before = _pid(applied.management, "salt-master")
    data = _yaml(pillar(""))
    data["salt_master"].update(settings)
    pillar(json.dumps(data))
    for test in ("test=True", "test=False"):
        said = site_checks.failed(applied.salt("management", "state.apply", "salt_master", test))
        assert reason in said["management"]["/etc/salt/master.d/50-site.conf"]
    assert applied.management.run("cat", "/etc/salt/master.d/50-site.conf")[1] == conf
    assert _pid(applied.management, "salt-master") == before
    assert applied.salt("node1", "test.ping") == {"node1": True}


def test_a_pillar_that_is_no_yaml_leaves_the_master_running(applied, pillar):
    before = _pid(applied.management, "salt-master")
    pillar("salt_master: {interface: [\n")
    answer = applied.salt("management", "state.apply", "salt_master")
    assert isinstance(answer["management"], list) and "render" in " ".join(answer["management"])
    assert _pid(applied.management, "salt-master") == before
    assert applied.salt("node1", "test.ping") == {"node1": True}


def _yaml(text):
    return yaml.safe_load(text)
