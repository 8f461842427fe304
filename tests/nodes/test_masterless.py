"""What needs no master, on the Salt of this run: its environment with a minion, a client of the cluster, a volume; and the end of these."""

import os
import time

import pytest
from masterless import Host
from node_end import ending

from labkit import nodes
from labkit.commands import run

pytestmark = pytest.mark.timeout(1800)

STATES = "salt_environment,salt_minion,ceph,rbd"
USER = "masterless"
MOUNT = "/srv/masterless"


def restarted(node, seconds=120):
    """Wait until the restart is over that comes after the job which asked for it."""
    deadline = time.monotonic() + seconds
    while node.run("systemctl", "list-units", "--plain", "--no-legend", "salt-*-restart@*")[1].strip():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert node.run("systemctl", "is-active", "salt-minion")[1].strip() == "active"


@pytest.fixture(scope="module")
def host(lab_home):
    """A node, and what the first dry run, the first run and the second said (``runs``)."""
    found = Host(lab_home, 7)
    with ending(found.node):
        # A pool of its own: its image stays, and the other tests' pool is theirs.
        known = {**nodes.facts(lab_home), "pool": USER}
        run(["ceph", "-c", known["conf"], "osd", "pool", "create", USER], timeout=60)
        run(["rbd", "-c", known["conf"], "pool", "init", USER], timeout=60)
        capabilities = ["mon", "profile rbd", "osd", "profile rbd"]
        keyring = run(["ceph", "-c", known["conf"], "auth", "get-or-create", f"client.{USER}", *capabilities])[1]
        found.pillar(
            {
                "salt_environment": {"version": os.environ["RBD_LAB_SALT"], "build_packages": []},
                # There is no master here to wait for.
                "salt_minion": {"settings": {"master_type": "disable"}},
                "ceph": {**{key: known[key] for key in ("fsid", "monitors", "pool")}, "user": USER, "keyring_text": keyring},
                "rbd": {"volumes": {"masterless": {"size": "64M", "mount": MOUNT, "fs_type": "ext4"}}},
            }
        )
        found.runs = [found.apply("salt_environment,salt_minion,ceph", test=True), found.apply(STATES)]
        restarted(found.node)
        found.runs.append(found.apply(STATES))
        found.known = known
        yield found


def test_first_and_second_run(host):
    dry, first, second = host.runs
    assert [found.failed() for found in host.runs] == [{}, {}, {}]
    # What the volume needs is only there after the client is.
    assert dry.changed() == {key for key in first.changed() if first[key]["__sls__"].split(".")[0] != "rbd"}
    assert second.changed() == set()


def test_the_minion_runs_on_that_salt(host):
    version = host.node.run("/usr/local/bin/salt-minion", "--version")[1]
    assert version.split()[1] == os.environ["RBD_LAB_SALT"]
    assert host.node.run("systemctl", "is-active", "salt-minion")[1].strip() == "active"


def test_the_client_and_its_volume(host):
    assert host.node.run("stat", "-c", "%a %U", f"/etc/ceph/ceph.client.{USER}.keyring")[1].split() == ["600", "root"]
    assert host.node.run("findmnt", "--noheadings", "--output", "FSTYPE", MOUNT)[1].strip() == "ext4"
    assert host.node.reboot() == []
    assert host.node.run("findmnt", "--noheadings", "--output", "FSTYPE", MOUNT)[1].strip() == "ext4"
    assert host.apply(STATES).changed() == set()


def test_it_goes_and_leaves_the_data(host):
    host.node.write(f"{MOUNT}/kept", "still here\n")
    for sls in ("rbd.clean", "ceph.clean,salt_environment.clean"):
        dry, real = host.apply(sls, test=True), host.applied(sls)
        assert dry.failed() == {}
        assert dry.changed() == real.changed() != set()
        assert host.applied(sls).changed() == set()
    for path in ("/opt/salt", "/etc/salt/minion.d/50-site.conf", "/etc/ceph/ceph.conf", f"/etc/ceph/ceph.client.{USER}.keyring"):
        assert host.node.run("ls", path, check=False)[0] != 0, path
    assert MOUNT not in host.node.run("cat", "/etc/fstab")[1]
    assert host.node.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "rbd-volume@*")[1].strip() == ""
    assert "masterless" in run(["rbd", "-c", host.known["conf"], "ls", host.known["pool"]])[1].split()
    host.applied("ceph,rbd")
    assert host.node.run("cat", f"{MOUNT}/kept")[1] == "still here\n"
