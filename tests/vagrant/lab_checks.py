"""What a lab of Vagrant must be, whatever its provider is."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "nodes"))

import site_checks  # noqa: E402 # of the booted nodes: the questions are the same


def changes_nothing(lab):
    """A highstate of all machines, and the states of the cluster, succeed and change nothing."""
    for target, words in (("*", ["state.apply"]), ("node*", ["state.apply", "lab_ceph"])):
        answer = lab.salt(target, *words)
        expected = lab.names if target == "*" else lab.names[:-1]
        assert sorted(answer) == sorted(expected)
        assert site_checks.failed(answer) == {}
        assert site_checks.changed(answer) == {name: set() for name in expected}


def is_whole(lab):
    """No unit failed, the cluster has all its parts, and the volumes that node1 declares are mounted."""
    for name in lab.names:
        assert lab.run(name, "systemctl", "list-units", "--failed", "--plain", "--no-legend")[1].split() == []
    status = lab.run("node1", "ceph", "status")[1]
    monitors = lab.names[: 3 if lab.nodes > 2 else 1]
    assert f"{len(monitors)} daemons, quorum {','.join(monitors)}" in status, status
    assert f"{lab.nodes} osds: {lab.nodes} up" in status, status
    for path in ("/mnt/test0001", "/mnt/test0002"):
        lab.run("node1", "findmnt", "--mountpoint", path)


def keys_are_preseeded(lab):
    """The master accepts nobody by itself, and knows its minions all the same."""
    assert sorted(lab.run("management", "ls", "/etc/salt/pki/master/minions")[1].split()) == sorted(lab.names)
    settings = lab.salt("management", "cmd.run", "cat /etc/salt/master.d/50-site.conf")["management"]
    assert "auto_accept: false" in settings.lower()


def leaves_nothing(lab):
    """Destroyed, no machine, network, disk or key is left."""
    lab.vagrant("destroy", "--force")
    assert lab.left() == []
