"""The example site on the lab's nodes: the pillar on the management host, a master there, minions whose keys are known to it.

The management host is set up by its own states without a master. The other nodes start with a minion from this host's environment;
their first highstate gives them their own.
"""

import json
import shlex
import time

from labkit.commands import LabError, Step, run
from labkit.home import REPO
from labkit.node import CHECKOUT, MANAGEMENT

PILLAR = "/srv/site/pillar"
# The Ceph user of the nodes, with what RBD needs and no more.
USER = "volumes"
CAPABILITIES = ["mon", "profile rbd", "osd", "profile rbd"]

# One highstate of three nodes, which installs Ceph's clients and Salt; minutes on a busy machine.
LONGEST_CALL = 900

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
    """The nodes of the example site; the first one is the management host."""

    def __init__(self, nodes, known):
        self.nodes = nodes
        self.management = nodes[0]
        # The facts of the cluster, as labkit.cluster gives them.
        self.known = known

    def provision(self):
        """Write the pillar, set the management host up by its own states, and start the other nodes' first minions."""
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
        """Copy the example pillar, with this cluster in the place of the example's."""
        for path in sorted((REPO / "pillar").glob("*.sls")):
            self.management.write(f"{PILLAR}/{path.name}", path.read_text(), 0o640)
        text = run(["ceph", "-c", self.known["conf"], "auth", "get-or-create", f"client.{USER}", *CAPABILITIES])[1]
        ceph = {
            "fsid": self.known["fsid"],
            "monitors": self.known["monitors"],
            "pool": self.known["pool"],
            "user": USER,
            "keyring_text": text,
        }
        self.pillar("ceph", {"ceph": ceph})
        # Every wheel is at hand.
        salt = {"salt_environment": {"build_packages": []}, "salt_minion": {"master": MANAGEMENT}}
        self.pillar("salt", salt)

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

    def ready(self, seconds=180):
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
        out = self.management.run("salt", "--out=json", "--static", "--timeout=5", "*", "test.ping", timeout=60, check=False)[1]
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
