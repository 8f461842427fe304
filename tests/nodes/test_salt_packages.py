"""Salt by its project's packages: master, minion and API on one node, from a repository that is built as the project's is."""

import json
import os
import time

import pytest
from masterless import Host
from node_end import ending

from labkit import salt_packages

pytestmark = pytest.mark.timeout(1800)

STATES = "salt_master,salt_minion,salt_api"
UNITS = ("salt-master", "salt-minion", "salt-api")
PYTHON = "/opt/saltstack/salt/bin/python3"
VERSION = os.environ.get("RBD_LAB_SALT", "")
# The same Salt, in packages of another version.
NEWER = f"{VERSION}+lab1"


def restarted(node, seconds=120):
    """Wait until the restarts are over that come after the job which asked for them."""
    deadline = time.monotonic() + seconds
    while node.run("systemctl", "list-units", "--plain", "--no-legend", "salt-*-restart@*")[1].strip():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert node.run("systemctl", "is-active", *UNITS)[1].split() == ["active"] * 3


def through_the_master(node, *words):
    """Run ``salt`` of the package on all minions and return what this one answers."""
    out = node.run("/usr/bin/salt", "--out=json", "--static", "--timeout=300", "*", *words, timeout=400, check=False)[1]
    return json.loads(out)[node.name]


def changed(answer):
    assert isinstance(answer, dict), answer
    assert {row["__id__"]: row["comment"] for row in answer.values() if not row["result"]} == {}
    return {row["__id__"] for row in answer.values() if row["changes"]}


@pytest.fixture(scope="module")
def host(lab_home):
    """A node, and what the first dry run, the first run and the second said (``runs``)."""
    found = Host(lab_home, 5)
    with ending(found.node):
        repository = salt_packages.make(found.node, VERSION, [NEWER])
        found.wanted = {
            "salt_environment": {"source": "package", "version": VERSION, "repository": repository},
            "salt_master": {"file_roots": ["/srv/states/salt"], "interface": "127.0.0.1"},
            "salt_minion": {"master": "127.0.0.1"},
            "salt_api": {},
        }
        found.pillar(found.wanted)
        found.runs = [found.apply(STATES, test=True), found.apply(STATES)]
        restarted(found.node)
        found.runs.append(found.apply(STATES))
        # Its minion is the master's from here on.
        found.node.run("rm", "-r", "/etc/salt/minion", "/var/cache/salt/minion")
        found.node.run("systemctl", "restart", "salt-minion")
        deadline = time.monotonic() + 60
        while found.node.name not in found.node.run("/usr/bin/salt-key", "--list=unaccepted")[1]:
            assert time.monotonic() < deadline
            time.sleep(1)
        found.node.run("/usr/bin/salt-key", "--yes", f"--accept={found.node.name}")
        while "true" not in found.node.run("/usr/bin/salt", "--out=json", "--timeout=10", "*", "test.ping", timeout=60, check=False)[1]:
            assert time.monotonic() < deadline + 60
        yield found


def test_first_and_second_run(host):
    dry, first, second = host.runs
    assert [found.failed() for found in host.runs] == [{}, {}, {}]
    assert dry.changed() == first.changed()
    assert second.changed() == set()


def test_the_packages_units_run_with_the_sites_configuration(host):
    for unit in UNITS:
        words = ["systemctl", "show", "--property=FragmentPath,DropInPaths,KillMode,ActiveState,UnitFileState,MainPID", unit]
        shown = dict(line.split("=", 1) for line in host.node.run(*words)[1].splitlines())
        assert shown["FragmentPath"].endswith(f"/lib/systemd/system/{unit}.service"), shown
        assert shown["DropInPaths"] == f"/etc/systemd/system/{unit}.service.d/50-site.conf"
        assert (shown["KillMode"], shown["ActiveState"], shown["UnitFileState"]) == ("process", "active", "enabled")
        user = host.node.run("ps", "-o", "user=", "-p", shown["MainPID"])[1].strip()
        assert user == ("root" if unit == "salt-minion" else "salt"), unit
    assert host.node.run("dpkg-query", "--show", "--showformat=${Version}", "salt-minion")[1] == VERSION
    assert json.loads(host.node.run("/usr/bin/salt-run", "--out=json", "config.get", "state_events")[1]) is False
    of_pip = ["/usr/local/bin/salt*", "/opt/salt", *(f"/etc/systemd/system/{unit}.service" for unit in UNITS)]
    assert host.node.shell(f"ls -d {' '.join(of_pip)}", check=False)[1] == ""
    assert host.node.run("stat", "-c", "%a %U", "/etc/salt/pki/master", "/etc/salt/pki/minion")[1].split() == ["700", "salt", "700", "root"]


def test_psycopg2_is_in_salts_python(host):
    where = host.node.run(PYTHON, "-c", "import psycopg2; print(psycopg2.__file__)")[1]
    assert where.startswith("/opt/saltstack/salt/extras-3."), where
    # Nothing of it came by the packages.
    assert host.node.run("dpkg-query", "--search", where.strip(), check=False)[0] != 0


def test_the_master_serves_its_minion(host):
    synced = through_the_master(host.node, "saltutil.sync_all")
    assert "modules.rbd_image" in synced["modules"] and "states.salt_config" in synced["states"]
    assert changed(through_the_master(host.node, "state.apply", STATES)) == set()


def test_another_version_under_its_own_minion(host):
    host.pillar({**host.wanted, "salt_environment": {**host.wanted["salt_environment"], "version": NEWER}})
    host.node.run("chgrp", "-R", "salt", "/srv/pillar")
    host.node.run("chmod", "640", "/srv/pillar/all.sls")
    out = host.node.run("/usr/bin/salt", "--async", "*", "state.apply", STATES, timeout=60)[1]
    job = out.split()[-1]
    # Its result is there before master and minion are replaced.
    deadline = time.monotonic() + 300
    answer = {}
    while host.node.name not in answer:
        assert time.monotonic() < deadline
        time.sleep(3)
        out = host.node.run("/usr/bin/salt-run", "--out=json", "jobs.lookup_jid", job, timeout=60, check=False)[1]
        answer = json.loads(out) if out.startswith("{") else {}
    assert "Salt's packages in another version after this job" in changed(answer[host.node.name])
    while host.node.run("systemctl", "is-active", "salt-packages", check=False)[1].strip() == "active":
        assert time.monotonic() < deadline
        time.sleep(1)
    restarted(host.node)
    for name in ("salt-common", *UNITS):
        assert host.node.run("dpkg-query", "--show", "--showformat=${Version}", name)[1] == NEWER
    host.node.run(PYTHON, "-c", "import psycopg2")
    deadline = time.monotonic() + 120
    while "true" not in host.node.run("/usr/bin/salt", "--out=json", "--timeout=10", "*", "test.ping", timeout=60, check=False)[1]:
        assert time.monotonic() < deadline
    assert changed(through_the_master(host.node, "state.apply", STATES)) == set()


def test_it_goes(host):
    host.configure()
    words = ["/usr/bin/salt-call", "--local", "--out=json", "state.apply", "salt_environment.clean"]
    # By the Salt that goes: its Python's files are there until the run has ended.
    dry, real = (json.loads(host.node.run(*words, f"test={test}", timeout=300)[1])["local"] for test in (True, False))
    assert {key for key, row in dry.items() if row["result"] is None} == {key for key, row in real.items() if row["changes"]} != set()
    assert [row["comment"] for row in real.values() if not row["result"]] == []
    deadline = time.monotonic() + 120
    while host.node.run("systemctl", "is-active", "salt-packages", check=False)[1].strip() == "active":
        assert time.monotonic() < deadline
        time.sleep(1)
    assert host.applied("salt_environment.clean").changed() == set()
    gone = ["/opt/saltstack/salt", "/usr/bin/salt-call", "/etc/apt/sources.list.d/salt.list", "/etc/apt/keyrings/salt-archive-keyring.asc"]
    gone += [f"/etc/systemd/system/{unit}.service.d/50-site.conf" for unit in UNITS] + ["/etc/salt/master.d/50-site.conf"]
    for path in gone:
        assert host.node.run("ls", path, check=False)[0] != 0, path
    assert host.node.run("pgrep", "--full", "/usr/bin/salt-m", check=False)[1] == ""
    assert host.node.run("ls", "/etc/salt/pki/master/master.pem", "/etc/salt/pki/minion/minion.pem")[0] == 0
