"""A key and a passphrase that stand in pillar and keyring are in nothing else: no return, no log however detailed, no argument or
environment of a child, no file that others than root can read. Salt's events: test_secrets_events.py.
"""

import json
import logging
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from planted import plant, sealed, shown, uproot

# Where the package, Salt and the tools write; the site's own folder comes to it.
PLACES = ("/run/rbd-volumes", "/etc/rbd-volumes", "/etc/fstab", "/etc/systemd/system", "/usr/local/lib/rbd-volumes", "/var/tmp")

# More than debug. At its last level, garbage (1), Salt itself logs every file that it has rendered, the pillar's among them.
TRACE = 5


@pytest.fixture
def planted(cluster, make_pool, tmp_path, repo):
    """A site of this test's own with the secrets in pillar and keyring."""
    found = plant(cluster, make_pool(), tmp_path, repo)
    yield found
    uproot(found)


def note_everything(folder):
    """In the child: log everything, and note the arguments and the environment of everything that is started."""
    handler = logging.FileHandler(folder / "everything.log")
    handler.setLevel(TRACE)
    logging.getLogger().addHandler(handler)
    for name in ("", "salt", "saltrbd"):
        logging.getLogger(name).setLevel(TRACE)
    popen = subprocess.Popen.__init__

    def noted(one, argv, *args, **kwargs):
        with open(folder / "children.log", "a") as file:
            file.write(json.dumps([argv, kwargs.get("env") or dict(os.environ)], default=str) + "\n")
        popen(one, argv, *args, **kwargs)

    subprocess.Popen.__init__ = noted


def seen_in_proc(secrets, over, found):
    """Look at every process of this host until it is over."""
    while not over.is_set():
        for path in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    if any(secret.encode() in (path / name).read_bytes() for secret in secrets.values()):
                        found.append(f"{path}/{name}: {(path / 'cmdline').read_bytes()[:200]}")
                except OSError:
                    continue
        time.sleep(0.005)


def files_with(secrets, folder):
    """[(path, mode)] of all files in the places that hold one of the secrets."""
    found = []
    for place in (folder, *PLACES):
        if Path(place).is_file():
            paths = [Path(place)]
        else:
            paths = [Path(at, name) for at, folders, names in os.walk(place) for name in names if not at.startswith(f"{folder}/mnt")]
        for path in paths:
            try:
                if not path.is_file() or path.is_symlink() or path.stat().st_size >= 1 << 24:
                    continue
                content = path.read_bytes()
            except OSError:
                continue
            if any(secret.encode() in content for secret in secrets.values()):
                found.append((str(path), path.stat().st_mode & 0o777))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", [False, True])
def test_a_secret_is_found_nowhere(planted, broken, ceph_cli):
    """In a highstate that makes everything, and in one that fails because the key is good for nothing any more."""
    site, secrets = planted
    number, declared = site.next()
    if broken:
        site.needs(site.apply(declared))
        ceph_cli("auth", "caps", "client.planted", "mon", "allow r", "osd", "allow r")
        number, declared = site.next()
    declared[1]["rbd"]["volumes"]["sealed"] = sealed(site)
    found, over = [], threading.Event()
    site.phases.watch = lambda: note_everything(site.folder)
    watcher = threading.Thread(target=seen_in_proc, args=(secrets, over, found))
    watcher.start()
    try:
        results = site.finish(*site.start(declared, watch=True))
    finally:
        over.set()
        watcher.join()
    assert all(one[0] is True for one in results) is not broken
    assert any("encryption" in str(one[2]) for one in results) is not broken, "the volume was encrypted in this run"
    assert shown(secrets, json.dumps(results)) == []
    assert found == []
    for name in ("everything.log", "children.log", "run.log"):
        assert shown(secrets, (site.folder / name).read_text(errors="replace")) == [], name
    assert len((site.folder / "everything.log").read_text(errors="replace")) > 10000, "the log is as detailed as it can be"
    assert "mkfs" in (site.folder / "children.log").read_text() or broken
    holders = dict(files_with(secrets, site.folder))
    assert {str(site.folder / "keyring"), str(site.folder / "pillar/all.sls")} <= set(holders), "the search finds what is there"
    assert {path: oct(mode) for path, mode in holders.items() if mode & 0o077} == {}
