"""A Ceph cluster inside one of the nodes, as its packages run it: their units, their users, their folders, the ports that Ceph has.

One monitor, one manager, and one OSD that keeps its data in a file of the node's disk (bluestore), so a reboot of the node brings the
cluster back with all that it held.
"""

import json
import time
import uuid

from labkit import cluster
from labkit.commands import LabError

PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-common")
CONF = "/etc/ceph/ceph.conf"
ADMIN = "/etc/ceph/ceph.client.admin.keyring"
POOL = "rbd"

# What one OSD of a lab needs; all else is Ceph's own. A sparse file; the least memory that an OSD takes.
SETTINGS = {
    "osd_pool_default_size": "1",
    "osd_pool_default_min_size": "1",
    "osd_pool_default_pg_num": "8",
    "osd_pool_default_pg_autoscale_mode": "off",
    "osd_memory_target": str(896 * 2**20),
    "mon_allow_pool_size_one": "true",
    "mon_warn_on_pool_no_redundancy": "false",
    "mon_data_avail_warn": "2",
    "mon_data_avail_crit": "1",
    "auth_allow_insecure_global_id_reclaim": "false",
}
STORE_BYTES = 8 * 2**30
AS_CEPH = ("--setuser", "ceph", "--setgroup", "ceph")


def start(node):
    """Install the daemons in the node, make a cluster of them and wait until it serves; return what a client needs to know."""
    # Comes with the packages, and wants a kernel module that this host may not have.
    node.run("systemctl", "mask", "nvmf-autoconnect.service")
    node.run("apt-get", "-qq", "--yes", "--no-install-recommends", "install", *PACKAGES, timeout=600, DEBIAN_FRONTEND="noninteractive")
    fsid = str(uuid.uuid4())
    node.write(CONF, f"[global]\nfsid = {fsid}\nmon_host = {node.address}:6789\n")
    _monitor(node, fsid)
    for key, value in SETTINGS.items():
        ceph(node, "config", "set", "global", key, value)
    _manager(node)
    _osd(node)
    wait(node)
    ceph(node, "osd", "pool", "create", POOL)
    node.run("rbd", "pool", "init", POOL, timeout=60)
    return {"fsid": fsid, "monitors": [f"{node.address}:6789"], "pool": POOL}


def ceph(node, *words, stdin_text=None):
    """Ask the cluster of the node by its own ``ceph`` command; return what it prints."""
    return node.run("ceph", "--connect-timeout", "60", *words, timeout=120, stdin_text=stdin_text)[1].strip()


def wait(node, seconds=300):
    """Wait until the OSD serves and the manager is there, as after a reboot of the node."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        code, out, _ = node.run("ceph", "--connect-timeout", "10", "status", "--format=json", timeout=60, check=False)
        if code == 0 and cluster.serves(json.loads(out)):
            return
        time.sleep(1)
    raise LabError(f"The cluster in the node {node.name} did not serve within {seconds} s; journalctl there tells more.")


def _monitor(node, fsid):
    first = "/var/lib/ceph/tmp/first"
    node.shell(f"install -d -o ceph -g ceph -m 700 {first}")
    caps = [word for service in ("mon", "mgr", "osd", "mds") for word in ("--cap", service, "allow *")]
    node.run("ceph-authtool", "--create-keyring", ADMIN, "--gen-key", "--name", "client.admin", *caps)
    node.run("ceph-authtool", "--create-keyring", f"{first}/keyring", "--gen-key", "--name", "mon.", "--cap", "mon", "allow *")
    node.run("ceph-authtool", f"{first}/keyring", "--import-keyring", ADMIN)
    addresses = f"[v2:{node.address}:3300,v1:{node.address}:6789]"
    node.run("monmaptool", "--create", "--fsid", fsid, "--addv", node.name, addresses, f"{first}/monmap")
    node.run("chown", "ceph:ceph", f"{first}/keyring", f"{first}/monmap")
    node.run("ceph-mon", "--mkfs", "--id", node.name, "--monmap", f"{first}/monmap", "--keyring", f"{first}/keyring", *AS_CEPH)
    node.run("rm", "-r", first)
    node.run("systemctl", "enable", "--now", f"ceph-mon@{node.name}")


def _manager(node):
    folder = f"/var/lib/ceph/mgr/ceph-{node.name}"
    node.shell(f"install -d -o ceph -g ceph -m 700 {folder}")
    caps = ["mon", "allow profile mgr", "osd", "allow *", "mds", "allow *"]
    _keyring(node, folder, ceph(node, "auth", "get-or-create", f"mgr.{node.name}", *caps))
    node.run("systemctl", "enable", "--now", f"ceph-mgr@{node.name}")


def _osd(node):
    osd, folder = str(uuid.uuid4()), "/var/lib/ceph/osd/ceph-0"
    node.shell(f"install -d -o ceph -g ceph -m 700 {folder}")
    secret = node.run("ceph-authtool", "--gen-print-key")[1].strip()
    # By stdin: an argument would stand in the process list.
    ceph(node, "osd", "new", osd, "-i", "-", stdin_text=json.dumps({"cephx_secret": secret}))
    _keyring(node, folder, f"[osd.0]\n\tkey = {secret}")
    store = ["--osd-objectstore", "bluestore", "--bluestore-block-size", str(STORE_BYTES)]
    node.run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", osd, *store, *AS_CEPH)
    node.run("systemctl", "enable", "--now", "ceph-osd@0")


def _keyring(node, folder, text):
    node.write(f"{folder}/keyring", text + "\n", 0o600)
    node.run("chown", "ceph:ceph", f"{folder}/keyring")
