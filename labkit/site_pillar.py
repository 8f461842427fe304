"""The example pillar with a lab's addresses and secrets: of the booted nodes, and of Vagrant's machines.

``changes`` is pure. As a program, on the management host of Vagrant's lab and by a Python that has Salt, it writes the whole pillar once:
``python -m labkit.site_pillar FACTS.json FOLDER``; FACTS.json comes from the Vagrantfile.
"""

import json
import os
import secrets
import sys
from pathlib import Path

import yaml
from salt.utils.dictupdate import merge_recurse

from labkit import debian, lab_ceph, node_image, postgresql
from labkit.commands import LabError
from labkit.home import REPO

USER = "volumes"
KEYRING = f"/etc/ceph/ceph.client.{USER}.keyring"


def changes(known, management, database):
    """Return what differs from the example, as ``{name of the pillar's file: mapping}``.

    ``known`` are the cluster's facts with the ``keyrings`` of :data:`labkit.lab_ceph.USERS`, ``management`` is the address of the
    management host, ``database`` what :func:`database` returns.
    """
    ceph = {key: known[key] for key in ("fsid", "monitors", "pool")}
    ceph.update(user=USER, keyring=KEYRING, keyring_text=known["keyrings"][USER])
    return {
        "ceph": {"ceph": ceph},
        "salt": {"salt_minion": {"master": "management"}},
        "postgresql": {"postgresql": database},
        "graphite": {"graphite": {"listen": management}},
        "diamond": {"diamond": {"handlers": {"diamond.handler.graphite.GraphiteHandler": {"host": management}}}},
        "node": {"diamond": {"ceph_keyring": known["keyrings"]["diamond"]}},
    }


def database(subnet, password, **source):
    """Return what the site's PostgreSQL has of its own: the clients' network, the role's password, and where its programs are from."""
    rules = [
        {"type": "local", "database": "all", "user": "all", "method": "peer"},
        {"type": "hostssl", "database": "configs", "user": "configs", "address": subnet},
    ]
    return {"memory": "1G", "pg_hba": rules, "roles": {"configs": {"password": password}}, **source}


def distribution():
    """Return where PostgreSQL is from where it is the one of this host's Debian."""
    return {"source": "distribution", "version": postgresql.DISTRIBUTION[debian.suite()]}


def merged(before, change):
    """Return a file of the pillar with a change; what is a mapping in both stays, but for its own changes."""
    return merge_recurse(before, change)


def write(facts, folder):
    """Write the pillar of Vagrant's lab into ``folder``; one that is there stays as it is, with what a user has changed in it.

    Returns whether it was written; raises :class:`LabError` where it is of other nodes.
    """
    own = folder / "lab_ceph.sls"
    if own.exists():
        before = json.loads(own.read_text())["lab_ceph"]["nodes"]
        if before != facts["nodes"]:
            raise LabError(
                f"This lab was made with the nodes {_told(before)}, and nodes.yaml now has {_told(facts['nodes'])}. Its cluster is not"
                " changed to others: write nodes.yaml as it was, or make the lab anew (vagrant destroy, vagrant up)."
            )
        return False
    cluster = lab_ceph.pillar(facts["nodes"], facts["osd"])
    known = {**lab_ceph.facts(cluster), "keyrings": cluster["keyrings"]}
    new = changes(known, facts["management"], database(facts["network"], secrets.token_urlsafe(20), **distribution()))
    # Our box has every wheel, and nothing that compiles.
    if Path(node_image.WHEELHOUSE).is_dir():
        new["salt"]["salt_environment"] = {"build_packages": []}
    # The states of this lab's cluster lie beside the site's.
    new["management"] = {"salt_master": {"file_roots": [str(REPO / "salt"), str(REPO / "vagrant/salt")]}}
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o750)
    for path in sorted((REPO / "pillar").glob("*.sls")):
        content = merged(yaml.safe_load(path.read_text()), new.get(path.stem, {}))
        if path.stem == "top":
            content["base"]["node*"].append("lab_ceph")
        _write(folder / path.name, content)
    # Last: a pillar without it was interrupted, and is made anew.
    _write(own, {"lab_ceph": cluster})
    return True


def _told(nodes):
    return ", ".join(f"{name} ({address})" for name, address in nodes.items())


def _write(path, content):
    unfinished = path.with_suffix(".unfinished")
    unfinished.touch(mode=0o640)
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(unfinished, path)


def main(facts, folder):
    """Write the pillar, say whether it was there, and return an exit code."""
    try:
        written = write(json.loads(Path(facts).read_text()), Path(folder))
    except LabError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"The site's pillar is written to {folder}." if written else f"The site's pillar in {folder} stays as it is.")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
