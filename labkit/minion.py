"""The lab's own masterless minion: its configuration, its generated pillar, and salt-call on it."""

import json
import os

from labkit import cluster, prepare
from labkit.commands import LabError, clean_environment, run
from labkit.home import REPO


def configure(home):
    """Write the minion's configuration and the pillar that names this cluster instead of the example's.

    JSON is YAML too, and needs no library. It is written at each call: the checkout may have moved.
    """
    known = require_cluster(home)
    root = home.minion / "root"
    for folder in (home.minion, root, home.pillar):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    config = {
        # The name by which it holds images: no two machines may have the same.
        "id": os.environ.get("RBD_LAB_MINION", "lab"),
        "file_client": "local",
        # Nothing of a Salt that this machine may have is read or written.
        "conf_file": str(home.minion / "minion"),
        "root_dir": str(root),
        "cachedir": str(root / "cache"),
        "pki_dir": str(root / "pki"),
        "sock_dir": str(root / "run"),
        "pidfile": str(root / "minion.pid"),
        "log_file": str(home.log / "minion.log"),
        "extension_modules": str(root / "cache/extmods"),
        "file_roots": {"base": [str(REPO / "salt")]},
        # The first one wins: the generated ceph.sls stands before the example's.
        "pillar_roots": {"base": [str(home.pillar), str(REPO / "pillar")]},
        # Grains that ask other machines or look for graphics cards.
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
    }
    _write_private(home.minion / "minion", config)
    keys = ("fsid", "monitors", "conf", "user", "keyring", "pool")
    content = {"ceph": {**{key: known[key] for key in keys}, "fs_type": "ext4"}}
    if os.environ.get("RBD_LAB_DRIVER"):
        content["rbd"] = {"driver": os.environ["RBD_LAB_DRIVER"]}
    _write_private(home.pillar / "ceph.sls", content)


def require_cluster(home):
    """Return the cluster's facts, or say that the lab is not up."""
    known = cluster.facts(home.cluster)
    if known is None:
        raise LabError("The lab is not running; start it with ./lab up.")
    return known


def environment(home):
    """Return the environment for people and programs: Salt's commands first in PATH, ceph and rbd on this cluster."""
    known = require_cluster(home)
    if not cluster.listens(known):
        # Ceph's own commands would wait for it, for 300 s each.
        where = ", ".join(known["monitors"])
        raise LabError(f"The lab's cluster is not running: no monitor listens at {where}. ./lab up brings it up again.")
    folder = prepare.salt_environment(home, home.choices().get("salt", prepare.SALT))
    return clean_environment(CEPH_CONF=known["conf"], PATH=f"{folder}/bin:{os.environ['PATH']}")


def salt_call_command(home):
    """Return how salt-call is called on the lab's minion."""
    folder = prepare.salt_environment(home, home.choices().get("salt", prepare.SALT))
    return [str(folder / "bin/salt-call"), "--local", "-c", str(home.minion)]


def sync(home):
    """Copy modules and states of this checkout into the minion's cache, as a highstate does before it begins."""
    run([*salt_call_command(home), "saltutil.sync_all"], timeout=120, env=clean_environment())


def salt_call(home, words):
    """Become salt-call on the lab's minion, for the person at the terminal: they end it if it takes too long."""
    configure(home)
    argv = [*salt_call_command(home), *words]
    os.execve(argv[0], argv, clean_environment())


def _write_private(path, content):
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(content, indent=2) + "\n")
