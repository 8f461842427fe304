"""The OSD stops: a real master, a real minion, a real cluster, a real SMTP server. One mail for each group when it goes, one when it is
back, whatever happens in between."""

import json
import os
import signal
import time

import pytest
from conftest import ceph_pillar
from mailhost import Mailhost

from labkit import cluster as lab_cluster

pytestmark = pytest.mark.timeout(1800)

LOOK = {"interval": 2, "report_every": 10, "pool_full": 99, "volume_full": 99, "frozen": 60, "snapshots": {}}
RULES = {"hold": 3, "calm": 8, "report_every": 10, "mails_per_hour": 50}
GROUPS = {
    "storage": [
        {"name": "A", "address": "a@example.net", "admin": True},
        {"name": "B", "address": "b@example.net", "admin": False},
    ],
    "office": [{"name": "C", "address": "c@example.net", "admin": True}],
}
# What a busy machine may need from one step to the next.
PATIENCE = 420


@pytest.fixture(scope="session")
def salt_factories_default_root_dir(tmp_path_factory):
    """Where the daemons of pytest-salt-factories live."""
    return tmp_path_factory.mktemp("salt")


@pytest.fixture(scope="module")
def inbox():
    """The mail server of this file."""
    server = Mailhost().come()
    server.inbox.port = server.port
    yield server.inbox
    server.go()


@pytest.fixture(scope="module")
def daemons(salt_factories, whole, inbox, repo, tmp_path_factory):
    """A master with the reactor, and a minion with the beacon: as salt/alerts configures them, but for the times."""
    folder = tmp_path_factory.mktemp("alerts")
    for name in ("state", "pillar", "states"):
        (folder / name).mkdir()
    for name, content in (("top", {"base": {"*": ["all"]}}), ("all", {"ceph": ceph_pillar(whole, "rbd")})):
        (folder / "pillar" / f"{name}.sls").write_text(json.dumps(content))
    mail = {"host": "localhost", "port": inbox.port, "security": "none", "sender": "storage@example.net"}
    (folder / "settings.json").write_text(json.dumps({"rules": RULES, "groups": GROUPS, "mail": mail}))
    (folder / "reactor.sls").write_bytes((repo / "salt/alerts/files/reactor.py").read_bytes())
    common = {"log_level_logfile": "info", "enable_fqdns_grains": False, "enable_gpu_grains": False}
    of_master = {
        "open_mode": True,
        "worker_threads": 3,
        "file_roots": {"base": [str(folder / "states")]},
        "pillar_roots": {"base": [str(folder / "pillar")]},
        "platform_alerts": {"settings": str(folder / "settings.json"), "folder": str(folder / "state")},
        "reactor": [{"salt/beacon/*/rbd_health/": [str(folder / "reactor.sls")]}],
        "runner_dirs": [str(repo / "_runners")],
        "utils_dirs": ["/utils"],
        "schedule": {"platform_alerts": {"function": "platform_alerts.tick", "seconds": 3, "maxrunning": 1, "return_job": False}},
    }
    # Salt loads beacons without the folders of __utils__ in sys.path; what is synced or installed is there anyway.
    of_minion = {"module_dirs": [str(repo)], "utils_dirs": ["/utils"], "beacons": {"rbd_health": [{"interval": 1}, {"look": LOOK}]}}
    roots = {name: {"root_dir": str(folder / name)} for name in ("master", "minion")}
    for name in roots:
        # Where Salt looks for /utils with another root.
        (folder / name).mkdir()
        (folder / name / "utils").symlink_to(repo / "_utils")
    master = salt_factories.salt_master_daemon("alerts-master", defaults=roots["master"], overrides={**common, **of_master})
    with master.started(start_timeout=PATIENCE):
        minion = master.salt_minion_daemon("alerts-minion", defaults=roots["minion"], overrides={**common, **of_minion})
        with minion.started(start_timeout=PATIENCE):
            yield master, minion, folder / "state/state.json"


def until(true, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def opened(state):
    try:
        return {key: alert["status"] for key, alert in json.loads(state.read_text())["alerts"].items()}
    except (OSError, ValueError):
        return {}


def test_the_osd_goes_and_comes_back(daemons, whole, inbox):
    master, minion, state = daemons
    key = f"cluster {whole.fsid}|health|availability"
    osd = lab_cluster.daemons(whole.folder)["ceph-osd"]
    os.kill(osd, signal.SIGSTOP)
    try:
        until(lambda: len(inbox.mails) >= 2, "the mails of a stopped OSD")
        # What Ceph finds out about it one after the other is no other event; nor is a restart of the minion, or of the master.
        lab_cluster.ceph(whole.folder, "osd", "down", "0")
        minion.terminate()
        master.terminate()
        with master.started(start_timeout=PATIENCE), minion.started(start_timeout=PATIENCE):
            until(lambda: "OSD_DOWN" in json.loads(state.read_text())["alerts"][key]["text"], "what the monitor says of it")
            time.sleep(3 * LOOK["interval"])
            assert sorted(map(len, inbox.subjects().values())) == [1, 1], inbox.subjects()
            os.kill(osd, signal.SIGCONT)
            until(lambda: len(inbox.mails) >= 4, "the mails of an OSD that is back")
            until(lambda: opened(state).get(key) == "closed", "the end")
            # More than what would be needed for another mail.
            time.sleep(2 * RULES["calm"])
    finally:
        os.kill(osd, signal.SIGCONT)
    new, over = (f"[storage] {what}: Ceph's health, availability (cluster {whole.fsid})" for what in ("new", "over"))
    assert inbox.subjects() == {"a@example.net b@example.net": [new, over], "c@example.net": [new, over]}
    bodies = [mail.get_content() for _, mail in inbox.mails]
    assert "Seen by alerts-minion." in bodies[0].replace("\r\n", "\n")
    assert "it is over; it lasted" in bodies[-1]
    assert all("You get this as a member of the contact group" in body for body in bodies)
