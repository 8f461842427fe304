"""The example site on the lab's nodes: a cluster in node1, the pillar on the management host, a master there, minions whose keys it knows.

The management host is set up by its own states without a master. The other nodes start with a minion from this host's environment;
their first highstate gives them their own. For the tests, in whose environment Salt is.
"""

import json
import secrets
import shlex
import time

import yaml

from labkit import node_ceph, postgresql, site_pillar
from labkit.commands import LabError, Step
from labkit.home import REPO
from labkit.node import CHECKOUT, MANAGEMENT

PILLAR = "/srv/site/pillar"
# Where the management host has PostgreSQL's binaries.
ARCHIVE = "/srv/postgresql.jar"

# One highstate of three nodes, which installs all that the site has; minutes on a busy machine.
LONGEST_CALL = 2400

UNIT = """\
[Unit]
Description=The minion that a node starts with
After=network-online.target
Wants=network-online.target
[Service]
ExecStart={venv}/bin/salt-minion
KillMode=process
[Install]
WantedBy=multi-user.target
"""


class Site:
    """The nodes of the example site: the management host, the node with the cluster's daemons, and others."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.management, self.ceph_node = nodes[:2]
        # The facts of the cluster, as labkit.node_ceph gives them.
        self.known = {}
        # Of the role and database configs.
        self.password = secrets.token_urlsafe(20)
        self.postgresql_version = self.postgresql_unit = ""

    def provision(self):
        """Make the cluster, write the pillar, set the management host up by its own states, and start the other nodes' first minions."""
        with Step(f"make a Ceph cluster inside {self.ceph_node.name}"):
            self.known = node_ceph.start(self.ceph_node)
        with Step("write the site's pillar"):
            self.write_pillar()
        with Step(f"set {MANAGEMENT} up by its own states, without a master"):
            self._introduce()
            self.masterless("state.apply", "salt_master,salt_minion")
        for node in self.nodes[1:]:
            node.write("/etc/salt/minion.d/first.conf", f"master: {MANAGEMENT}\nid: {node.name}\nenable_gpu_grains: false\n")
            node.write("/etc/systemd/system/salt-minion.service", UNIT.format(venv=node.venv))
            node.run("systemctl", "enable", "--now", "salt-minion.service")

    def write_pillar(self):
        """Copy the example pillar, with this site's addresses and secrets in it."""
        for path in sorted((REPO / "pillar").glob("*.sls")):
            self.management.write(f"{PILLAR}/{path.name}", path.read_text(), 0o640)
        for name, change in site_pillar.changes(self.known, self.management.address, self._database()).items():
            self.change(name, change)
        # Every wheel is at hand.
        self.change("salt", {"salt_environment": {"build_packages": []}})
        # Points every few seconds, so that a test need not wait for them.
        retention = [{"name": "all", "pattern": ".*", "retentions": "1s:2h"}]
        self.change("graphite", {"graphite": {"retention": retention}})
        self.change("diamond", {"diamond": {"interval": 5}})
        collectors = {"CephCollector": {"interval": 10}, "RbdCollector": {"interval": 10, "used_interval": 5}}
        self.change("node", {"diamond": {"collectors": collectors}})

    def _database(self):
        """Return what this site's PostgreSQL has of its own: 9.5 where its binaries can be had here, else what the system has."""
        subnet = self.management.network.subnet
        try:
            jar = postgresql.archive(self.management.home, "9.5")
        except postgresql.NotReachable as problem:
            print(f"The site has Debian's PostgreSQL and not 9.5: {problem}")
            source = site_pillar.distribution()
            self.postgresql_version = source["version"]
            self.postgresql_unit = f"postgresql@{self.postgresql_version}-main"
            return site_pillar.database(subnet, self.password, **source)
        (self.management.root / ARCHIVE[1:]).write_bytes(jar.read_bytes())
        wanted = postgresql.ARCHIVES["9.5"]
        self.postgresql_version, self.postgresql_unit = wanted.version, "postgresql-9.5"
        return site_pillar.database(subnet, self.password, archive={"source": ARCHIVE, "sha256": wanted.sha256})

    def change(self, name, changes):
        """Change one file of the site's pillar; what is a mapping in both stays, but for its own changes. Return what it was."""
        before = yaml.safe_load(self.management.run("cat", f"{PILLAR}/{name}.sls")[1])
        self.pillar(name, site_pillar.merged(before, changes))
        return before

    def pillar(self, name, content):
        """Write one file of the site's pillar."""
        self.management.write(f"{PILLAR}/{name}.sls", json.dumps(content, indent=2) + "\n", 0o640)
        self.management.shell(f"! getent group salt || chgrp salt {PILLAR}/*.sls {PILLAR}")

    def masterless(self, *words, timeout=LONGEST_CALL):
        """Run ``salt-call --local`` on the management host with the site's files and return what it prints."""
        roots = [f"--file-root={CHECKOUT}/salt", f"--pillar-root={PILLAR}", f"--id={MANAGEMENT}"]
        self.management.run("salt-call", "--local", *roots, "saltutil.sync_all", timeout=timeout)
        return self.management.run("salt-call", "--local", "--retcode-passthrough", *roots, *words, timeout=timeout)[1]

    def _introduce(self):
        """Make every minion's key and lay it where the master looks, before either runs."""
        keys = "/root/keys"
        self.management.shell(f"mkdir -p /etc/salt/pki/master/minions && mkdir -m 700 {keys}")
        for node in self.nodes:
            self.management.run("salt-key", f"--gen-keys={node.name}", f"--gen-keys-dir={keys}", timeout=60)
            self.management.run("cp", f"{keys}/{node.name}.pub", f"/etc/salt/pki/master/minions/{node.name}")
            for kind in ("pem", "pub"):
                text = self.management.run("cat", f"{keys}/{node.name}.{kind}")[1]
                node.write(f"/etc/salt/pki/minion/minion.{kind}", text, 0o400 if kind == "pem" else 0o644)
        self.management.run("rm", "-r", keys)

    def ready(self, seconds=600):
        """Wait until every minion answers; a restart that a job has asked for comes after that job."""
        names = {node.name for node in self.nodes}
        deadline = time.monotonic() + seconds
        there = set()
        while time.monotonic() < deadline:
            waiting = [node for node in self.nodes if self._restarts(node)]
            there = set() if waiting else set(self._ping())
            if there == names:
                return
            time.sleep(1)
        raise LabError(f"Of the minions {', '.join(sorted(names))} only these answered within {seconds} s: {', '.join(sorted(there))}.")

    @staticmethod
    def _restarts(node):
        return node.run("systemctl", "list-units", "--plain", "--no-legend", "salt-*-restart@*")[1].strip()

    def _ping(self):
        out = self.management.run("salt", "--out=json", "--static", "--timeout=30", "*", "test.ping", timeout=120, check=False)[1]
        try:
            return [name for name, answer in json.loads(out).items() if answer is True]
        except ValueError:
            return []  # the master is about to start

    def salt(self, target, *words, timeout=LONGEST_CALL):
        """Run ``salt TARGET WORDS`` on the management host and return ``{minion: answer}``."""
        argv = ["salt", "--out=json", "--static", f"--timeout={timeout}", target, *words]
        out = self.management.run(*argv, timeout=timeout + 30, check=False)[1]
        try:
            return json.loads(out)
        except ValueError:
            raise AssertionError(f"{shlex.join(argv)} answered: {out[-3000:]}") from None
