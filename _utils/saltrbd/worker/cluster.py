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


def namespace_info(session, report, pool, namespace):
    """What is in a namespace: the names of its images, the entries of its trash (name, id), the names of its groups; None where there
    is no such namespace."""
    if not rbd.RBD().namespace_exists(session.ioctx(pool), namespace):
        return None
    context = session.ioctx(pool, namespace)
    return {
        "images": sorted(rbd.RBD().list(context)),
        "trash": [{"name": item["name"], "id": item["id"]} for item in rbd.RBD().trash_list(context)],
        "groups": sorted(rbd.RBD().group_list(context)),
    }


def namespace_create(session, report, pool, namespace):
    """Make a namespace."""
    try:
        rbd.RBD().namespace_create(session.ioctx(pool), namespace)
    except rbd.ImageExists:
        raise WorkerError("NamespaceExists", "the namespace exists already")


def namespace_remove(session, report, pool, namespace):
    """Remove a namespace. librbd refuses one with images, also in the trash; of groups it takes no notice (16.2)."""
    try:
        rbd.RBD().namespace_remove(session.ioctx(pool), namespace)
    except rbd.ImageNotFound:
        raise WorkerError("NamespaceNotFound", "the namespace does not exist")
    except rbd.ImageBusy:
        raise WorkerError("Busy", "images are in it, or in its trash")


OPERATIONS = {
    "cluster_info": cluster_info,
    "namespace_list": namespace_list,
    "namespace_info": namespace_info,
    "namespace_create": namespace_create,
    "namespace_remove": namespace_remove,
    "blocklist_list": blocklist_list,
    "blocklist_add": blocklist_add,
    "blocklist_remove": blocklist_remove,
}
