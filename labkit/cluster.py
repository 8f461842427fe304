"""An embedded Ceph of one monitor, one manager and one OSD in a folder of its own.

It is a real cluster with the packaged daemons, on a loopback address, without systemd. It knows only its own
configuration and keyrings; nothing of the machine's own Ceph is read or written. The OSD keeps its data in
memory (memstore): fast, and forgotten with the processes.

As a library: ``start(folder)``, ``stop(folder)``, ``facts(folder)``.
"""

import json
import os
import random
import shutil
import socket
import time
import uuid
from pathlib import Path

from labkit import processes
from labkit.commands import LabError, clean_environment, run

DAEMONS = ("ceph-mon", "ceph-mgr", "ceph-osd")

# Below the range from which the kernel gives ports to clients, above the well-known ones.
PORTS = range(20000, 32000, 50)

# Both messenger protocols: the kernel's rbd speaks the older one unless told otherwise.
# Every interval (paxos, heartbeats, ...) keeps Ceph's own default: what is measured here is what a user meets (but see hasten).
CONF = """\
# Written by ./lab: an embedded cluster for trying things out; it forgets everything when it stops.
[global]
fsid = {fsid}
mon_host = {monitor}
public_addr = {address}
cluster_addr = {address}
ms_bind_port_min = {first}
ms_bind_port_max = {last}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/ceph.client.admin.keyring
run_dir = {folder}/run
crash_dir = {folder}/crash
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 2000
mon_data_avail_warn = 2
mon_data_avail_crit = 1

[mon.a]
mon_data = {folder}/mon
keyring = {folder}/mon/keyring
log_file = {folder}/log/mon.log
mon_cluster_log_file = {folder}/log/cluster.log
admin_socket = {folder}/run/mon.asok
pid_file = {folder}/run/mon.pid

[mgr.x]
mgr_data = {folder}/mgr
keyring = {folder}/mgr/keyring
log_file = {folder}/log/mgr.log
admin_socket = {folder}/run/mgr.asok
pid_file = {folder}/run/mgr.pid

[osd.0]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {bytes}
osd_max_object_name_len = 256
osd_max_object_namespace_len = 64
keyring = {folder}/osd/keyring
log_file = {folder}/log/osd.log
admin_socket = {folder}/run/osd.asok
pid_file = {folder}/run/osd.pid
"""


def start(folder, address="127.0.0.1", quick=False):
    """Bring the cluster in ``folder`` up and return its facts; one that is healthy already is left as it is.

    What died is started again. A dead OSD has forgotten its data, so then the whole cluster is made anew.
    ``quick``: one for tests, see `hasten`.
    """
    folder = Path(folder).resolve()
    if facts(folder) is not None:
        if revive(folder):
            return facts(folder)
        stop(folder)
    if len(str(folder)) > 85:
        raise LabError(f"The path {folder} is too long for Unix sockets inside it; choose one of 85 characters at most.")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _create(folder, address)
        _start_osd(folder)
        _make_pool(folder, "rbd")
        if quick:
            hasten(folder)
    except BaseException:
        # The logs are what the person needs now, so the processes go and the folder stays.
        _end_daemons(folder)
        raise
    return facts(folder)


def hasten(folder):
    """Let the monitor of a cluster for tests commit its maps, snapshots' ids among them, ten times a second instead of once.

    With Ceph's default of paxos_propose_interval a test run waits half of its time for the next second.
    """
    ceph(folder, "config", "set", "mon", "paxos_propose_interval", "0.1")


def stop(folder):
    """End the cluster's daemons and remove its folder; works as well where nothing runs any more."""
    folder = Path(folder).resolve()
    left = _end_daemons(folder)
    if left:
        raise LabError(f"These Ceph daemons of {folder} did not end even after SIGKILL: {left}.")
    shutil.rmtree(folder, ignore_errors=True)


def facts(folder):
    """Return what a client needs to know (no secret in it), or None where no cluster was made."""
    try:
        return json.loads((Path(folder).resolve() / "facts.json").read_text())
    except (OSError, ValueError):
        return None


def daemons(folder):
    """Return the running daemons of this cluster as ``{"ceph-mon": pid, ...}``."""
    conf = _conf(Path(folder).resolve())
    found = {}
    for name in DAEMONS:
        for pid in processes.find(_daemon_of(conf, name)):
            found[name] = pid
    return found


def environment(folder):
    """Return an environment in which ``ceph`` and ``rbd`` talk to this cluster and to no other."""
    return clean_environment(CEPH_CONF=str(_conf(Path(folder).resolve())))


def ceph(folder, *words, timeout=30, check=True):
    """Ask the cluster with the ``ceph`` command and return its answer, parsed from JSON where there is any."""
    argv = ["ceph", "-c", _conf(Path(folder).resolve()), "--connect-timeout", "10", "-f", "json", *words]
    code, out, err = run(argv, timeout=timeout, check=check)
    if code != 0:
        return None
    try:
        return json.loads(out)
    except ValueError:
        return out.strip() or err.strip()


def listens(known):
    """Tell whether a monitor takes connections, by the cluster's facts: at once, and from another machine too."""
    for monitor in known["monitors"]:
        host, _, port = monitor.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
            return True
        except OSError:
            continue
    return False


def healthy(folder):
    """Tell whether all three daemons run and the OSD serves, as the monitor sees it."""
    running = daemons(folder)
    # The monitor notices a stopped OSD only after a while.
    if sorted(running) != sorted(DAEMONS) or any(processes.state(pid) == "T" for pid in running.values()):
        return False
    try:
        seen = ceph(folder, "status", timeout=15)
    except LabError:
        return False
    return serves(seen)


def serves(status):
    """Tell by what ``ceph status`` says whether a cluster with one OSD has it up and its manager at work."""
    return status["osdmap"]["num_up_osds"] == 1 and status["mgrmap"]["available"]


def revive(folder):
    """Start again what can be started without loss; tell whether the cluster is whole then."""
    folder = Path(folder).resolve()
    running = daemons(folder)
    if "ceph-osd" not in running:
        return False
    processes.resume(running.values())
    try:
        if "ceph-mon" not in running:
            _start_mon(folder)
        if "ceph-mgr" not in running:
            # Else the monitor counts the dead one as available for half a minute.
            ceph(folder, "mgr", "fail", check=False)
            _start_mgr(folder)
        _wait(lambda: healthy(folder), 120, "the restarted daemons")
    except LabError:
        return False
    return True


def forget_pools(folder):
    """Bring the monitor alone back and delete all pools, so that the kernel's waiting requests fail.

    The kernel's rbd waits for ever for an OSD that is dead; only a pool that is gone ends its requests.
    """
    folder = Path(folder).resolve()
    if "ceph-mon" not in daemons(folder):
        _start_mon(folder)
    for pool in ceph(folder, "osd", "pool", "ls"):
        ceph(folder, "osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")


def _conf(folder):
    return folder / "ceph.conf"


def _daemon_of(conf, name):
    def wanted(argv):
        return os.path.basename(argv[0]) == name and str(conf) in argv

    return wanted


def _end_daemons(folder):
    left = []
    for name in reversed(DAEMONS):
        wanted = _daemon_of(_conf(folder), name)
        # The OSD forgets its data either way, so it need not take its time.
        left += processes.end(processes.find(wanted), wanted, patience=1 if name == "ceph-osd" else 5)
    return left


def _create(folder, address):
    folder.mkdir(parents=True, mode=0o711)
    for name in ("run", "log", "crash", "mon", "mgr", "osd"):
        (folder / name).mkdir(mode=0o700)
    fsid = str(uuid.uuid4())
    port = _free_ports(address)
    monitor = f"[v2:{address}:{port}/0,v1:{address}:{port + 1}/0]"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    conf = CONF.format(
        fsid=fsid,
        address=address,
        monitor=monitor,
        first=port + 2,
        last=port + 49,
        folder=folder,
        bytes=min(memory // 2, 16 * 2**30),
    )
    _conf(folder).write_text(conf)
    admin = folder / "ceph.client.admin.keyring"
    caps = [part for service in ("mon", "mgr", "osd", "mds") for part in ("--cap", service, "allow *")]
    _keyring(admin, "client.admin", *caps)
    first = folder / "mon.keyring"
    _keyring(first, "mon.", "--cap", "mon", "allow *")
    run(["ceph-authtool", first, "--import-keyring", admin])
    monmap = folder / "monmap"
    run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monmap])
    conf_args = ["-c", _conf(folder)]
    run(["ceph-mon", "-i", "a", *conf_args, "--mkfs", "--monmap", monmap, "--keyring", first])
    _start_mon(folder)
    known = {
        "fsid": fsid,
        "monitors": [f"{address}:{port}"],
        "conf": str(_conf(folder)),
        "keyring": str(admin),
        "user": "admin",
        "pool": "rbd",
        "folder": str(folder),
    }
    (folder / "facts.json").write_text(json.dumps(known, indent=1) + "\n")
    mgr = folder / "mgr/keyring"
    _keyring(mgr, "mgr.x")
    grants = ["mon", "allow profile mgr", "osd", "allow *", "mds", "allow *"]
    ceph(folder, "auth", "add", "mgr.x", "-i", mgr, *grants)
    _start_mgr(folder)


def _keyring(path, name, *caps):
    run(["ceph-authtool", "--create-keyring", path, "--gen-key", "-n", name, *caps])
    path.chmod(0o600)


def _start_mon(folder):
    _daemon(folder, "ceph-mon", "a")


def _start_mgr(folder):
    _daemon(folder, "ceph-mgr", "x")


def _daemon(folder, program, name):
    # In the root folder as systemd starts them: Debian 13's OSD looks for its plugins in "lib/..." from there.
    run([program, "-i", name, "-c", _conf(folder)], cwd="/")


def _start_osd(folder):
    osd = str(uuid.uuid4())
    keyring = folder / "osd/keyring"
    _keyring(keyring, "osd.0")
    secret = run(["ceph-authtool", keyring, "-n", "osd.0", "--print-key"])[1].strip()
    # The secret goes in by stdin: an argument would stand in the process list.
    run(
        ["ceph", "-c", _conf(folder), "--connect-timeout", "20", "osd", "new", osd, "-i", "-"],
        stdin_text=json.dumps({"cephx_secret": secret}),
    )
    run(["ceph-osd", "-i", "0", "-c", _conf(folder), "--mkfs", "--osd-uuid", osd])
    _daemon(folder, "ceph-osd", "0")
    _wait(lambda: healthy(folder), 180, "the OSD and the manager")


def _make_pool(folder, pool):
    ceph(folder, "osd", "pool", "create", pool)
    run(["rbd", "-c", _conf(folder), "pool", "init", pool], timeout=60)


def _wait(done, seconds, what):
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise LabError(f"Waited {seconds} s for {what} of the embedded Ceph in vain; its logs tell more.")
        time.sleep(0.2)


def _free_ports(address):
    """Return a port with the 49 above it free on this address, so that several clusters run side by side."""
    for port in random.sample(PORTS, len(PORTS)):
        if all(_is_free(address, port + offset) for offset in range(50)):
            return port
    raise LabError(f"No block of 50 free ports is left on {address} between {PORTS.start} and {PORTS.stop}.")


def _is_free(address, port):
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
