"""What the states of Salt and Ceph have put on a node is taken away by their clean twins, and comes back."""

import pytest
import site_checks

pytestmark = pytest.mark.timeout(2800)

DAEMONS = ("salt-api", "salt-master", "salt-minion")


def _there(node, *paths):
    return [path for path in paths if node.run("test", "-e", path, check=False)[0] == 0]


def test_salt_goes_and_comes_back(applied):
    node = applied.management
    ours = [f"/etc/systemd/system/{name}.service" for name in DAEMONS]
    ours += ["/opt/salt", "/etc/salt/master.d/50-site.conf", "/etc/salt/master.d/60-api.conf", "/etc/salt/minion.d/50-site.conf"]
    ours += ["/usr/local/bin/salt-call", "/usr/local/bin/salt"]
    kept = ["/etc/salt/pki/master/minions/node1", "/etc/salt/pki/minion/minion.pem", "/srv/site/pillar/top.sls"]
    assert _there(node, *ours, *kept) == [*ours, *kept]
    try:
        applied.masterless("state.apply", "salt_environment.clean")
        assert _there(node, *ours, *kept) == kept
        assert node.run("systemctl", "is-active", *DAEMONS, check=False)[1].split() == ["inactive"] * len(DAEMONS)
    finally:
        applied.masterless("state.apply", "salt_master,salt_api,salt_minion")
        applied.ready()
    answer = applied.salt("*", "state.apply")
    assert site_checks.failed(answer) == {}
    assert set().union(*site_checks.changed(answer).values()) == set()


def test_a_client_goes_and_comes_back(applied):
    node = applied.management
    ours = ["/etc/ceph/ceph.conf", "/etc/ceph/ceph.client.volumes.keyring", "/etc/systemd/system/rbd-volume@.service.d/ceph.conf"]
    assert _there(node, *ours) == ours
    try:
        assert site_checks.failed(applied.salt(node.name, "state.apply", "ceph.clean")) == {}
        assert _there(node, *ours) == []
    finally:
        again = applied.salt(node.name, "state.apply", "ceph")
    assert site_checks.failed(again) == {}
    assert len(site_checks.changed(again)[node.name]) == len(ours)
