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
    return _ask(session, "osd dump")


def _ask(session, prefix, **arguments):
    """Return the monitors' answer to a command."""
    command = json.dumps(dict(arguments, prefix=prefix, format="json"))
    code, output, status = session.rados.mon_command(command, b"")
    if code:
        raise WorkerError(
            "PermissionDenied" if code in (-1, -13) else "CephError", "'ceph {}' answered {} ({})".format(prefix, code, status)
        )
    text = output.decode("utf-8")
    return json.JSONDecoder().raw_decode(text)[0] if text else None  # 'osd blocklist ls' puts a sentence behind its list


def blocklist_list(session, report):
    """{address: until when} of the clients that the OSDs shut out."""
    return {entry["addr"]: entry["until"] for entry in _ask(session, "osd blocklist ls")}


def blocklist_add(session, report, address, seconds):
    """Shut a client out; what this session asks of an OSD afterwards is answered by one that knows."""
    _ask(session, "osd blocklist", blocklistop="add", addr=address, expire=float(seconds))
    session.rados.wait_for_latest_osdmap()


def blocklist_remove(session, report, address):
    """Let a client in again."""
    _ask(session, "osd blocklist", blocklistop="rm", addr=address)
    session.rados.wait_for_latest_osdmap()


def namespace_list(session, report, pool):
    """The names of the pool's namespaces, without the unnamed one."""
    return sorted(rbd.RBD().namespace_list(session.ioctx(pool)))


OPERATIONS = {
    "cluster_info": cluster_info,
    "namespace_list": namespace_list,
    "blocklist_list": blocklist_list,
    "blocklist_add": blocklist_add,
    "blocklist_remove": blocklist_remove,
}
