"""What Carbon on the management host has received: of every collector, from every node where its subject is."""

import json
import time

import pytest

pytestmark = pytest.mark.timeout(2800)

WHISPER = "/var/lib/graphite/whisper"
SYSTEM = ("cpu.total.user", "memory.MemTotal", "diskspace.root.byte_used", "network.host0.rx_byte")
VOLUMES = {"node1": ["rbd0001", "rbd0002"], "node2": ["data2", "logs2"]}


class Carbon:
    """The points that the management host has."""

    def __init__(self, site):
        self.node = site.management

    def newest(self, host, metric, since):
        """Return the newest value of a metric since then (seconds since 1970), or None."""
        path = f"{WHISPER}/servers/{host}/{metric.replace('.', '/')}.wsp"
        lines = self.node.run("whisper-fetch", f"--from={int(since)}", path, check=False)[1].splitlines()
        values = [float(value) for _, value in map(str.split, lines) if value != "None"]
        return values[-1] if values else None

    def wait(self, host, metric, wanted=lambda value: True, seconds=120):
        """Wait for a point of a metric that is as wanted and was made from now on, and return it."""
        since, value = time.time() + 1, None
        while time.time() < since + seconds:
            value = self.newest(host, metric, since)
            if value is not None and wanted(value):
                return value
            time.sleep(1)
        pytest.fail(f"No such point of {metric} from {host} within {seconds} s; the newest is {value}.")
        return None

    def kinds(self, host):
        """Return what the metrics of a host begin with."""
        return set(self.node.run("ls", f"{WHISPER}/servers/{host}")[1].split())


@pytest.fixture
def carbon(applied):
    return Carbon(applied)


def test_the_systems(applied, carbon):
    for node in applied.nodes:
        total = int(node.shell("sed -n 's/^MemTotal: *//p' /proc/meminfo")[1].split()[0]) * 1024
        for metric in SYSTEM:
            value = carbon.wait(node.name, metric)
            assert metric != "memory.MemTotal" or value == total


def test_the_database(applied, carbon):
    sql = "SELECT pg_database_size('configs')"
    ask = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "-XAtqc", sql]
    size = int(applied.management.run(*ask)[1])
    carbon.wait("management", "postgres.database.configs.size", lambda value: value == size)
    # Of the server as a whole; and no other node has one.
    assert "postgres" in carbon.kinds("management")
    assert [name for name in ("node1", "node2") if "postgres" in carbon.kinds(name)] == []


def test_the_daemons(applied, carbon):
    """Ceph's, from the node that has them and from no other."""
    groups = json.loads(applied.ceph_node.run("ceph", "status", "--format=json")[1])["pgmap"]["num_pgs"]
    carbon.wait("node1", "ceph.osd.0.osd.numpg", lambda value: value == groups)
    for metric in ("ceph.mon.node1.mon.num_sessions", "ceph.mgr.node1.mgr.cache_hit"):
        carbon.wait("node1", metric)
    assert [name for name in ("management", "node2") if "ceph" in carbon.kinds(name)] == []


@pytest.mark.parametrize("host", VOLUMES)
def test_the_volumes(applied, carbon, host):
    """As the rbd command of another user says it."""

    def rbd(*words):
        return json.loads(applied.ceph_node.run("rbd", "--format=json", *words)[1])

    for name in VOLUMES[host]:
        snapshots, clone = rbd("snap", "ls", name), "parent" in rbd("info", name)
        wanted = {
            "size": rbd("info", name)["size"],
            "snapshots": len(snapshots),
            "clone_depth": int(clone),
            "users": len(rbd("status", name)["watchers"]),
        }
        assert wanted["users"] == 1
        for key, value in wanted.items():
            carbon.wait(host, f"rbd.rbd.{name}.{key}", lambda found, value=value: found == value)
        # Of a mounted filesystem, which may write at any time: what is said now.
        carbon.wait(host, f"rbd.rbd.{name}.used", lambda found, name=name: found == used(rbd("du", name)))
        if snapshots:
            made = max(time.mktime(time.strptime(one["timestamp"])) for one in snapshots)
            age = carbon.wait(host, f"rbd.rbd.{name}.newest_snapshot_age")
            assert abs(time.time() - made - age) < 60
    carbon.wait(host, "rbd.unreadable", lambda value: value == 0)


def used(usage):
    return sum(image["used_size"] for image in usage["images"])
