"""The pillar of ``vagrant/salt/lab_ceph``: which cluster its states make in booted nodes or in Vagrant's machines, its keys among it.

Pure: monitors and disks in, the pillar out. The keys are new ones each time, so it is made once for a cluster and kept.
"""

import base64
import os
import struct
import time
import uuid

POOL = "rbd"

# The users of the site's nodes, with what RBD needs and no more, by their capability on monitors and OSDs.
USERS = {"volumes": "profile rbd", "diamond": "profile rbd-read-only"}

# What one OSD of a lab needs; all else is Ceph's own. The least memory that an OSD takes.
SETTINGS = {
    "osd_pool_default_pg_num": "8",
    "osd_pool_default_pg_autoscale_mode": "off",
    "osd_memory_target": str(896 * 2**20),
    "mon_allow_pool_size_one": "true",
    "mon_warn_on_pool_no_redundancy": "false",
    "mon_data_avail_warn": "2",
    "mon_data_avail_crit": "1",
    "auth_allow_insecure_global_id_reclaim": "false",
}


def pillar(nodes, osd):
    """Return what the pillar has under ``lab_ceph`` for nodes ``{name: address}``, each with a manager and an OSD.

    ``osd``: ``{"device": "/dev/..."}``, each node's disk of its own, or ``{"bytes": 2**33}``, a sparse file.
    """
    admin = _keyring("client.admin", key(), dict.fromkeys(("mon", "mgr", "osd", "mds"), "allow *"))
    keyrings = {name: _keyring(f"client.{name}", key(), {"mon": caps, "osd": caps}) for name, caps in USERS.items()}
    # Three monitors decide without one of them; of two each is needed, so that two nodes have one monitor, and the other node may fail.
    monitors = dict(list(nodes.items())[: 3 if len(nodes) > 2 else 1])
    copies = min(3, len(nodes))
    settings = {"osd_pool_default_size": str(copies), "osd_pool_default_min_size": str(max(1, copies - 1))}
    # Else two OSDs must have missed a third one.
    settings["mon_osd_min_down_reporters"] = str(1 if len(nodes) < 3 else 2)
    return {
        "fsid": str(uuid.uuid4()),
        "nodes": dict(nodes),
        "monitors": monitors,
        "pool": POOL,
        "osd": dict(osd),
        "settings": {**settings, **SETTINGS},
        "admin_keyring": admin,
        "monitors_keyring": _keyring("mon.", key(), {"mon": "allow *"}) + admin,
        "users_keyring": "".join(keyrings.values()),
        "keyrings": keyrings,
    }


def facts(made):
    """Return what a client needs to know of the cluster with this pillar."""
    return {"fsid": made["fsid"], "monitors": [f"{address}:6789" for address in made["monitors"].values()], "pool": made["pool"]}


def key():
    """Return a new key as Ceph's own tools make them: type 1, the time, 16 random bytes."""
    return base64.b64encode(struct.pack("<hiih", 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


def _keyring(entity, secret, caps):
    lines = [f"[{entity}]", f"\tkey = {secret}", *(f'\tcaps {service} = "{text}"' for service, text in caps.items())]
    return "\n".join(lines) + "\n"
