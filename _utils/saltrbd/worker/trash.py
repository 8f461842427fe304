"""The trash of a pool and namespace."""

import rbd
from session import seconds


def trash_list(session, report, pool, namespace="", image="", snapshot=""):
    """What lies in the trash: name, id, who moved it there (source: USER, MIRRORING, MIGRATION, REMOVING), when, and until when it is kept
    (seconds since 1970)."""
    found = rbd.RBD().trash_list(session.ioctx(pool, namespace))
    return [
        {
            "name": item["name"],
            "id": item["id"],
            "source": item["source"],
            "deleted": seconds(item["deletion_time"]),
            "kept_until": seconds(item["deferment_end_time"]),
        }
        for item in found
    ]


def trash_move(session, report, pool, namespace, image, delay=0, snapshot=""):
    """Move the image to the trash; it cannot be purged from there for ``delay`` seconds."""
    rbd.RBD().trash_move(session.ioctx(pool, namespace), image, delay)


def trash_restore(session, report, pool, namespace, image, image_id, snapshot=""):
    """Bring the image with this id back, under this name."""
    rbd.RBD().trash_restore(session.ioctx(pool, namespace), image_id, image)


def trash_remove(session, report, pool, namespace, image, image_id, early=False, snapshot=""):
    """Remove the image with this id from the trash for good. librbd refuses one that is to be kept still, unless ``early``."""
    rbd.RBD().trash_remove(session.ioctx(pool, namespace), image_id, early, on_progress=lambda done, total: report(done / max(total, 1)))


OPERATIONS = {
    "trash_list": trash_list,
    "trash_move": trash_move,
    "trash_restore": trash_restore,
    "trash_remove": trash_remove,
}
