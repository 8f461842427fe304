"""Questions to the cluster as a whole."""

import json

import rbd
from session import WorkerError


def cluster_info(session, report):
    """fsid, what the oldest admitted client is, the defaults for new images, and the pools of the application rbd."""
    dump = _osd_dump(session)
    return {
        "fsid": session.fsid,
        "require_min_compat_client": dump["require_min_compat_client"],
        "default_features": session.rados.conf_get("rbd_default_features"),
        "default_order": int(session.rados.conf_get("rbd_default_order")),
        "all_pools": sorted(pool["pool_name"] for pool in dump["pools"]),
        "pools": sorted(pool["pool_name"] for pool in dump["pools"] if "rbd" in pool.get("application_metadata", {})),
    }


def _osd_dump(session):
    code, output, status = session.rados.mon_command(json.dumps({"prefix": "osd dump", "format": "json"}), b"")
    if code:
        raise WorkerError("PermissionDenied" if code in (-1, -13) else "CephError", "'ceph osd dump' answered {} ({})".format(code, status))
    return json.loads(output.decode("utf-8"))


def namespace_list(session, report, pool):
    """The names of the pool's namespaces, without the unnamed one."""
    return sorted(rbd.RBD().namespace_list(session.ioctx(pool)))


OPERATIONS = {"cluster_info": cluster_info, "namespace_list": namespace_list}
