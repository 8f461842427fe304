"""A key that stands in pillar and keyring is in nothing else: no return, no log however detailed, no argument or environment of a child, no
file that others than root can read.
"""

import json
import logging
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from kill_site import Site

from labkit import commands

# Where the package, Salt and the tools write; the site's own folder comes to it.
PLACES = ("/run/rbd-volumes", "/etc/rbd-volumes", "/etc/fstab", "/etc/systemd/system", "/usr/local/lib/rbd-volumes", "/var/tmp")

# More than debug. At its last level, garbage (1), Salt itself logs every file that it has rendered, the pillar's among them.
TRACE = 5


@pytest.fixture
def planted(cluster, make_pool, tmp_path, repo):
    """A site whose user's key lies in its keyring and, as keyring_text, in its pillar: (site, key)."""
    pool = make_pool()
    argv = ["ceph", "-c", cluster.conf, "auth", "get-or-create", "client.planted", "mon", "profile rbd", "osd", f"profile rbd pool={pool}"]
    text = commands.run(argv)[1]
    key = re.search(r"key = (\S+)", text).group(1)
    keyring = tmp_path / "keyring"
    keyring.touch(mode=0o600)
    keyring.write_text(text)
    site = Site(cluster, pool, tmp_path, repo, ceph={"user": "planted", "keyring": str(keyring), "keyring_text": text})
    (tmp_path / "pillar/all.sls").chmod(0o600)
    yield site, key
    site.close()
    commands.run(["ceph", "-c", cluster.conf, "auth", "rm", "client.planted"])


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


def seen_in_proc(key, over, found):
    """Look at every process of this host until it is over."""
    while not over.is_set():
        for path in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    if key.encode() in (path / name).read_bytes():
                        found.append(f"{path}/{name}: {(path / 'cmdline').read_bytes()[:200]}")
                except OSError:
                    continue
        time.sleep(0.005)


def files_with(key, folder):
    """[(path, mode)] of all files in the places that hold the key."""
    found = []
    for place in (folder, *PLACES):
        if Path(place).is_file():
            paths = [Path(place)]
        else:
            paths = [Path(at, name) for at, folders, names in os.walk(place) for name in names if not at.startswith(f"{folder}/mnt")]
        for path in paths:
            try:
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24 and key.encode() in path.read_bytes():
                    found.append((str(path), path.stat().st_mode & 0o777))
            except OSError:
                continue
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", [False, True])
def test_a_key_is_found_nowhere(planted, broken, ceph_cli):
    """In a highstate that makes everything, and in one that fails because the key is good for nothing any more."""
    site, key = planted
    number, declared = site.next()
    if broken:
        site.needs(site.apply(declared))
        ceph_cli("auth", "caps", "client.planted", "mon", "allow r", "osd", "allow r")
        number, declared = site.next()
    found, over = [], threading.Event()
    site.phases.watch = lambda: note_everything(site.folder)
    watcher = threading.Thread(target=seen_in_proc, args=(key, over, found))
    watcher.start()
    try:
        results = site.finish(*site.start(declared, watch=True))
    finally:
        over.set()
        watcher.join()
    assert all(one[0] is True for one in results) is not broken
    assert key not in json.dumps(results)
    assert found == []
    for name in ("everything.log", "children.log", "run.log"):
        text = (site.folder / name).read_text(errors="replace")
        assert key not in text, name
    assert len((site.folder / "everything.log").read_text(errors="replace")) > 10000, "the log is as detailed as it can be"
    assert "mkfs" in (site.folder / "children.log").read_text() or broken
    holders = dict(files_with(key, site.folder))
    assert {str(site.folder / "keyring"), str(site.folder / "pillar/all.sls")} <= set(holders), "the search finds what is there"
    assert {path: oct(mode) for path, mode in holders.items() if mode & 0o077} == {}
