"""A Ceph cluster inside one of the nodes, as its packages run it: their units, their users, their folders, the ports that Ceph has.

One monitor, one manager, and one OSD that keeps its data in a file of the node's disk (bluestore), so a reboot of the node brings the
cluster back with all that it held. It is made by the states that make the cluster of Vagrant's lab, ``vagrant/salt/lab_ceph``.
"""

import json
import time

from labkit import cluster, lab_ceph
from labkit.commands import LabError
from labkit.home import REPO

STATES = REPO / "vagrant/salt/lab_ceph"
# Where the node has the states and their pillar while they are applied.
FOLDER = "/root/lab-ceph"
# Seconds, of a busy machine; packages are installed.
LONGEST = 2400
# A sparse file.
STORE_BYTES = 8 * 2**30


def start(node):
    """Make a cluster in the node by Salt without a master, and wait until it serves.

    Returns what a client needs to know, and the ``keyrings`` of the site's users by their names.
    """
    made = lab_ceph.pillar({node.name: node.address}, {"bytes": STORE_BYTES})
    for path in STATES.iterdir():
        node.write(f"{FOLDER}/salt/lab_ceph/{path.name}", path.read_text())
    node.write(f"{FOLDER}/pillar/top.sls", json.dumps({"base": {"*": ["lab_ceph"]}}))
    node.write(f"{FOLDER}/pillar/lab_ceph.sls", json.dumps({"lab_ceph": made}), 0o600)
    roots = [f"--file-root={FOLDER}/salt", f"--pillar-root={FOLDER}/pillar", f"--id={node.name}"]
    node.run("salt-call", "--local", "--retcode-passthrough", *roots, "state.apply", "lab_ceph", timeout=LONGEST)
    node.run("rm", "-r", FOLDER)
    wait(node)
    return {**lab_ceph.facts(made), "keyrings": made["keyrings"]}


def ceph(node, *words):
    """Ask the cluster of the node by its own ``ceph`` command; return what it prints."""
    return node.run("ceph", "--connect-timeout", "60", *words, timeout=120)[1].strip()


def wait(node, seconds=300):
    """Wait until the OSD serves and the manager is there, as after a reboot of the node."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        code, out, _ = node.run("ceph", "--connect-timeout", "10", "status", "--format=json", timeout=60, check=False)
        if code == 0 and cluster.serves(json.loads(out)):
            return
        time.sleep(1)
    raise LabError(f"The cluster in the node {node.name} did not serve within {seconds} s; journalctl there tells more.")
