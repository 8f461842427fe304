"""The trash of a pool and namespace."""

import rbd


def trash_list(session, report, pool, namespace="", image="", snapshot=""):
    """What lies in the trash: name, id, when it was moved there and until when it is kept (seconds since 1970)."""
    found = rbd.RBD().trash_list(session.ioctx(pool, namespace))
    return [
        {
            "name": item["name"],
            "id": item["id"],
            "source": item["source"],
            "deleted": int(item["deletion_time"].timestamp()),
            "kept_until": int(item["deferment_end_time"].timestamp()),
        }
        for item in found
    ]


def trash_move(session, report, pool, namespace, image, delay=0, snapshot=""):
    """Move the image to the trash; it cannot be purged from there for ``delay`` seconds."""
    rbd.RBD().trash_move(session.ioctx(pool, namespace), image, delay)


def trash_restore(session, report, pool, namespace, image, image_id, snapshot=""):
    """Bring the image with this id back, under this name."""
    rbd.RBD().trash_restore(session.ioctx(pool, namespace), image_id, image)


OPERATIONS = {
    "trash_list": trash_list,
    "trash_move": trash_move,
    "trash_restore": trash_restore,
}
