"""Diamond and Carbon on a booted node, beside a real cluster and a real PostgreSQL: states, points, failures, and their end."""

import json
import re
import secrets
import shutil
import time

import pytest
from node_end import ending

from labkit import nodes
from labkit.commands import run

# The first one builds Diamond.
pytestmark = pytest.mark.timeout(1800)

CLUSTER = "/var/lib/lab-ceph"
SITE = "/srv/site"
WHISPER = "/var/lib/graphite/whisper"
STATES = "graphite,diamond"
PASSWORD = secrets.token_hex()
START = f"import json; from labkit import cluster; print(json.dumps(cluster.start({CLUSTER!r})))"
STOP = f"from labkit import cluster; cluster.stop({CLUSTER!r})"

# One cannot be imported, one fails whenever it measures.
BROKEN = "import diamond.collector\nthis is no Python\n"
FAILING = """\
import diamond.collector


class FailingCollector(diamond.collector.Collector):
    def collect(self):
        raise RuntimeError("nothing to be measured here")
"""


class Site:
    """The node: its pillar, its states, its points."""

    def __init__(self, node):
        self.node = node
        self.pillar = {}
        self.cluster = {}

    def rbd(self, *words):
        return self.node.run("rbd", "--conf", self.cluster["conf"], *words)[1]

    def ceph(self, *words):
        return self.node.run("ceph", "--conf", self.cluster["conf"], *words)[1].strip()

    def apply(self, names=STATES, test=False, timeout=1200):
        """Apply states and return {state: its result}; one that failed fails the test."""
        self.node.write("/etc/salt/pillar/all.sls", json.dumps(self.pillar), 0o600)
        words = ["salt-call", "--local", "--out=json", "--log-level=quiet", "state.apply", names, *(["test=True"] if test else [])]
        said = self.node.run(*words, timeout=timeout, check=False)[1]
        results = json.loads(said[said.index("{") :])["local"]
        assert isinstance(results, dict), results
        assert [result["comment"] for result in results.values() if result["result"] is False] == []
        return results

    def points(self, metric, since):
        """Return the values that Carbon has of a metric since then (seconds since 1970)."""
        path = f"{WHISPER}/servers/{self.node.name}/{metric.replace('.', '/')}.wsp"
        lines = self.node.run("whisper-fetch", f"--from={int(since)}", path, check=False)[1].splitlines()
        return [float(value) for _, value in map(str.split, lines) if value != "None"]

    def wait(self, metric, since, seconds=60):
        """Wait until Carbon has a point of the metric since then, and return the newest."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.points(metric, since)
            if found:
                return found[-1]
            time.sleep(0.5)
        pytest.fail(f"No point of {metric} within {seconds} s. Diamond says:\n{self.log()[-3000:]}")
        return None

    def log(self, since=0):
        return self.node.run("journalctl", "--unit=diamond", "--no-pager", "--output=cat", f"--since=@{int(since)}")[1]

    def starts(self):
        return self.node.run("journalctl", "--unit=diamond", "--no-pager", "--output=cat")[1].count("Started diamond.service")


def changed(results):
    return sorted(result["__id__"] for result in results.values() if result["changes"])


def predicted(results):
    return sorted(result["__id__"] for result in results.values() if result["result"] is None)


@pytest.fixture(scope="module")
def site(lab_home, repo):
    (node,) = nodes.up(lab_home, [6])
    site = Site(node)
    with ending(node):
        for name in ("salt", "labkit"):
            shutil.copytree(repo / name, node.root / SITE[1:] / name, ignore=shutil.ignore_patterns("__pycache__"))
        minion = {"id": node.name, "file_client": "local", "enable_fqdns_grains": False, "enable_gpu_grains": False}
        minion.update(file_roots={"base": [f"{SITE}/salt"]}, pillar_roots={"base": ["/etc/salt/pillar"]})
        node.write("/etc/salt/minion", json.dumps(minion))
        node.write("/etc/salt/pillar/top.sls", "base: {'*': [all]}")
        wanted = "ceph-mon ceph-mgr ceph-osd ceph-common python3-rados python3-rbd postgresql"
        node.run("apt-get", "--yes", "--no-install-recommends", "install", *wanted.split(), DEBIAN_FRONTEND="noninteractive")
        start_postgresql(node)
        site.cluster = json.loads(node.run("/usr/bin/python3", "-B", "-c", START, PYTHONPATH=SITE)[1])
        # As the packages' /run/ceph is, but for the daemons' user: root's take the group from the folder.
        node.shell(f"chgrp ceph {CLUSTER}/run {CLUSTER}/run/*.asok && chmod 2770 {CLUSTER}/run")
        make_volumes(site)
        site.pillar = pillar(site)
        node.write("/etc/salt/pillar/all.sls", json.dumps(site.pillar), 0o600)
        node.run("salt-call", "--local", "saltutil.sync_all")
        yield site


def start_postgresql(node):
    node.run("systemctl", "start", "postgresql")
    for words in (["createuser", "diamond"], ["createdb", "app"]):
        node.run("runuser", "-u", "postgres", "--", *words)


def make_volumes(site):
    site.rbd("create", "rbd/vol1", "--size", "64M")
    site.rbd("bench", "--io-type", "write", "--io-size", "1M", "--io-total", "10M", "rbd/vol1")
    site.rbd("snap", "create", "rbd/vol1@s1")
    site.rbd("snap", "protect", "rbd/vol1@s1")
    site.rbd("bench", "--io-type", "write", "--io-size", "1M", "--io-total", "3M", "--io-pattern", "rand", "rbd/vol1")
    site.rbd("snap", "create", "rbd/vol1@s2")
    site.rbd("clone", "rbd/vol1@s1", "rbd/clone1")
    site.rbd("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "8K", "rbd/clone1")
    site.rbd("snap", "create", "rbd/clone1@a")
    site.rbd("namespace", "create", "rbd/ns")
    site.rbd("clone", "--rbd-default-clone-format", "2", "rbd/clone1@a", "rbd/ns/clone2")
    # A user of the volume, as everybody is who has it open for writing.
    watch = f"sleep infinity | rbd --conf {site.cluster['conf']} watch rbd/vol1"
    site.node.run("systemd-run", "--unit=watcher", "sh", "-c", watch)


def pillar(site):
    cluster = site.cluster
    caps = ["mon", "profile rbd-read-only", "osd", "profile rbd-read-only"]
    keyring = site.ceph("auth", "get-or-create", "client.diamond", *caps)
    return {
        "ceph": {key: cluster[key] for key in ("fsid", "monitors", "keyring", "pool")},
        "rbd": {
            "volumes": {"vol1": {"size": "64M", "snapshots": {"s1": {"protected": True}, "s2": {}}}, "empty": {"size": "8M"}},
            "clones": {
                "clone1": {"parent": "vol1@s1", "snapshots": {"a": {}}},
                "clone2": {"parent": "clone1@a", "pool": "rbd", "namespace": "ns"},
            },
        },
        # A point a second, so that a test reads what was measured in it.
        "graphite": {"retention": [{"name": "all", "pattern": ".*", "retentions": "1s:2h"}]},
        "diamond": {
            "interval": 3,
            "ceph_keyring": keyring + "\n",
            "collectors": {
                "CephCollector": {"interval": 10, "socket_path": f"{CLUSTER}/run", "socket_prefix": ""},
                "PostgresqlCollector": {"password_provider": "password", "password": PASSWORD},
                "RbdCollector": {"used_interval": 3},
            },
        },
    }


@pytest.fixture(scope="module")
def applied(site):
    """Diamond and Carbon, installed: the results of the dry run, of the real one, and of both once more."""
    return [site.apply(test=True), site.apply(), site.apply(test=True), site.apply()]


def test_the_states_do_what_they_predict_and_then_nothing(site, applied):
    dry, real, *again = applied
    assert predicted(dry) == changed(real)
    assert [changed(results) for results in again] == [[], []]
    assert [predicted(results) for results in again] == [[], []]
    # Neither the cluster's key nor a collector's password.
    rendered = site.node.run("salt-call", "--local", "--out=json", "state.show_sls", STATES)[1]
    for secret in (site.ceph("auth", "print-key", "client.diamond"), PASSWORD):
        assert secret not in json.dumps(applied) + rendered
    assert site.node.run("systemctl", "is-active", "diamond", "carbon-cache")[1].split() == ["active"] * 2


def test_points_of_every_collector(site, applied):
    now = time.time()
    total = int(re.search(r"MemTotal: +(\d+) kB", site.node.run("cat", "/proc/meminfo")[1]).group(1)) * 1024
    assert site.wait("memory.MemTotal", now) == total
    for metric in ("cpu.total.user", "diskspace.root.byte_used", "network.host0.rx_byte", "postgres.database.app.size"):
        site.wait(metric, now)
    assert site.wait("ceph.osd.osd.numpg", now) == json.loads(site.ceph("status", "--format=json"))["pgmap"]["num_pgs"]
    for metric in ("ceph.mon.mon.num_sessions", "ceph.mgr.mgr.cache_hit", "rbd.rbd.vol1.size"):
        site.wait(metric, now)
    # What listens does so where the pillar says.
    listening = site.node.shell("ss -Hltn | awk '{print $4}'")[1].split()
    assert "127.0.0.1:2003" in listening
    assert [address for address in listening if re.search(r":(2003|2004|7002)$", address) and not address.startswith("127.")] == []


def test_rbd_points_are_what_librbd_says(site, applied):
    """size, used, snapshots, age, depth, users: by the rbd command, of a volume, a clone, and a clone of it in a namespace."""
    now = time.time()
    for name, depth in (("rbd/vol1", 0), ("rbd/clone1", 1), ("rbd/ns/clone2", 2)):
        metric = f"rbd.{name.replace('/', '.')}"
        assert site.wait(f"{metric}.size", now) == json.loads(site.rbd("info", "--format=json", name))["size"]
        usage = json.loads(site.rbd("du", "--format=json", name))
        assert site.wait(f"{metric}.used", now) == sum(image["used_size"] for image in usage["images"])
        snapshots = json.loads(site.rbd("snap", "ls", "--format=json", name))
        assert site.wait(f"{metric}.snapshots", now) == len(snapshots)
        assert site.wait(f"{metric}.clone_depth", now) == depth
        watchers = json.loads(site.rbd("status", "--format=json", name))["watchers"]
        assert site.wait(f"{metric}.users", now) == len(watchers) == (1 if name == "rbd/vol1" else 0)
        if not snapshots:
            assert site.points(f"{metric}.newest_snapshot_age", 0) == []
            continue
        made = max(time.mktime(time.strptime(item["timestamp"])) for item in snapshots)
        age = site.wait(f"{metric}.newest_snapshot_age", now)
        assert now - made - 5 <= age <= time.time() - made
    # Declared, and not there.
    assert site.wait("rbd.unreadable", now) == 1
    assert site.log().count("Reading the image rbd/empty failed: the image does not exist.") == 1


def test_the_ceph_user_can_read_and_no_more(site, applied):
    words = ["runuser", "-u", "diamond", "--", "rbd", "--conf", site.cluster["conf"], "--id", "diamond"]
    words += ["--keyring", "/etc/ceph/ceph.client.diamond.keyring"]
    # The lab's cluster keeps its configuration to itself; who may not read it needs the monitors alone.
    words[words.index("--conf") : words.index("--conf") + 2] = ["--conf", "/dev/null", "-m", site.cluster["monitors"][0]]
    assert "vol1" in site.node.run(*words, "ls", "rbd")[1]
    code, _, said = site.node.run(*words, "snap", "create", "rbd/vol1@forbidden", check=False)
    assert code != 0
    assert "Operation not permitted" in said or "Read-only" in said
    assert site.node.run("stat", "-c", "%a %U %G", words[words.index("--keyring") + 1])[1].split() == ["640", "root", "diamond"]


def test_a_daemon_that_starts_later_is_measured_too(site, applied):
    """Its admin socket is a new one, made by a daemon that knows nothing of Diamond."""
    site.node.shell(f"kill -KILL $(cat {CLUSTER}/run/mgr.pid); rm {CLUSTER}/run/mgr.asok")
    site.node.run("/usr/bin/python3", "-B", "-c", START, PYTHONPATH=SITE)
    site.wait("ceph.mgr.mgr.cache_hit", time.time() + 1)


def test_a_broken_collector_does_not_stop_diamond(site, applied):
    site.node.write("/opt/diamond/collectors/broken/broken.py", BROKEN)
    site.node.write("/opt/diamond/collectors/failing/failing.py", FAILING)
    site.node.run("chmod", "755", "/opt/diamond/collectors/broken", "/opt/diamond/collectors/failing")
    collectors = site.pillar["diamond"]["collectors"]
    collectors.update(BrokenCollector={}, FailingCollector={})
    began, starts = time.time(), site.starts()
    assert changed(site.apply()) == [
        "/etc/diamond/collectors/BrokenCollector.conf",
        "/etc/diamond/collectors/FailingCollector.conf",
        "diamond",
    ]
    later = time.time() + 10
    site.wait("memory.MemFree", later)
    site.wait("rbd.rbd.vol1.size", later)
    log = site.log(began)
    assert "Failed to import module: broken" in log
    assert "nothing to be measured here" in log
    # Said once, not once a second; and what fails is tried again after half a minute, then after a minute.
    assert log.count("Can not find collector BrokenCollector") == 1
    assert log.count("FailingCollector: Collector failed!") == 1
    assert site.starts() == starts + 1
    # What the pillar does not name goes.
    for name in ("BrokenCollector", "FailingCollector"):
        del collectors[name]
    gone = ["/etc/diamond/collectors/BrokenCollector.conf", "/etc/diamond/collectors/FailingCollector.conf", "diamond"]
    assert predicted(site.apply(test=True)) == gone
    assert changed(site.apply()) == gone
    assert "FailingCollector" not in site.node.run("ls", "/etc/diamond/collectors")[1]


def test_a_changed_collector_restarts_diamond_once(site, applied):
    collectors = site.pillar["diamond"]["collectors"]
    collectors["MemoryCollector"] = {"detailed": "True"}
    starts = site.starts()
    assert predicted(site.apply(test=True)) == ["/etc/diamond/collectors/MemoryCollector.conf", "diamond"]
    assert site.starts() == starts
    assert changed(site.apply()) == ["/etc/diamond/collectors/MemoryCollector.conf", "diamond"]
    site.wait("memory.Slab", time.time())
    assert changed(site.apply()) == []
    assert site.starts() == starts + 1


def test_a_collector_that_cannot_work_stops_itself(site, applied):
    """Without its keyring the RbdCollector says so once and is silent; Diamond goes on."""
    collectors = site.pillar["diamond"]["collectors"]
    collectors["RbdCollector"]["keyring"] = "/root/nobody-can-read-this"
    del collectors["CephCollector"]
    key = site.pillar["diamond"].pop("ceph_keyring")
    began = time.time()
    try:
        site.apply()
        without = time.time() + 2
        site.wait("memory.MemFree", without + 13)
        log = site.log(began)
        assert log.count("/root/nobody-can-read-this") == 1
        assert log.count("RbdCollector stops itself") == 1
        assert site.points("rbd.rbd.vol1.size", without) == []
    finally:
        collectors["RbdCollector"].pop("keyring")
        site.pillar["diamond"]["ceph_keyring"] = key
    site.apply()
    site.wait("rbd.rbd.vol1.size", time.time())


def test_a_cluster_that_is_away_is_asked_again(site, applied):
    """Without an answer the collector ends its question in time, and measures again when the cluster is back."""
    site.pillar["diamond"]["collectors"]["RbdCollector"]["timeout"] = 4
    site.apply()
    began = time.time()
    # The monitor alone: an OSD that was stopped may need minutes before it serves again, which is not what is tested here.
    site.node.shell(f"kill -STOP $(cat {CLUSTER}/run/mon.pid)")
    try:
        time.sleep(12)
        assert "RbdCollector" in site.log(began)
        assert site.points("memory.MemFree", began + 8) != []
        assert site.node.shell("pgrep -c -f [m]easure.py", check=False)[1].strip() in ("0", "1")
    finally:
        site.node.shell(f"kill -CONT $(cat {CLUSTER}/run/mon.pid)")
    site.wait("rbd.rbd.vol1.size", time.time())


def make_package(site):
    """A package diamond as a distribution would make it, in a repository of the node; Debian has none any more."""
    own = site.node.root / "srv/own"
    package = own / "diamond"
    environment = next((site.node.root / "opt/diamond").glob("env-*"))
    shutil.copytree(next(environment.glob("lib/python3*/site-packages")), package / "usr/lib/diamond")
    shutil.copytree(environment / "share/diamond/collectors", package / "usr/share/diamond/collectors")
    program = package / "usr/bin/diamond"
    program.parent.mkdir()
    _, _, text = (environment / "bin/diamond").read_text().partition("\n")
    program.write_text(f"#!/usr/bin/python3\nimport sys\n\nsys.path.insert(0, '/usr/lib/diamond')\n{text}")
    program.chmod(0o755)
    (package / "DEBIAN").mkdir()
    about = {
        "Package": "diamond",
        "Version": "4.0.515",
        "Architecture": "all",
        "Maintainer": "Nobody <root@localhost>",
        "Description": "Diamond",
    }
    (package / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in about.items()))
    run(["dpkg-deb", "-Zgzip", "--build", "--root-owner-group", package, own / "diamond.deb"], timeout=300)
    shutil.rmtree(package)
    (own / "Packages").write_text(run(["dpkg-scanpackages", "."], cwd=own)[1])
    site.node.write("/etc/apt/sources.list.d/own.list", "deb [trusted=yes] file:/srv/own ./\n")
    site.node.run("apt-get", "update")


def test_a_package_in_the_place_of_the_release(site, applied):
    make_package(site)
    site.pillar["diamond"]["source"] = "package"
    dry = site.apply(test=True)
    assert "the package of Diamond" in predicted(dry)
    assert predicted(dry) == changed(site.apply())
    assert changed(site.apply()) == []
    assert site.node.shell("ls -d /opt/diamond/env-*", check=False)[1] == ""
    assert "/usr/bin/diamond" in site.node.run("systemctl", "show", "--property=ExecStart", "diamond")[1]
    now = time.time()
    for metric in ("memory.MemFree", "rbd.rbd.vol1.used", "postgres.database.app.size"):
        site.wait(metric, now)


def test_everything_goes_again(site, applied):
    names = "diamond.clean,graphite.clean"
    dry = site.apply(names, test=True)
    real = site.apply(names)
    assert predicted(dry) == changed(real)
    assert changed(site.apply(names)) == []
    left = (
        "/usr/bin/diamond /opt/diamond /etc/diamond /etc/carbon /etc/systemd/system/diamond.service /etc/ceph/ceph.client.diamond.keyring"
    )
    assert site.node.shell(f"ls -d {left} 2>/dev/null", check=False)[1] == ""
    assert site.node.shell("pgrep -a 'diamond|carbon'; getent passwd diamond; getent group diamond", check=False)[1] == ""
    # What was measured stays.
    assert site.points("memory.MemTotal", time.time() - 3600)
    site.node.run("/usr/bin/python3", "-B", "-c", STOP, PYTHONPATH=SITE)
