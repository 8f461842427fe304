"""The trash of a pool and namespace."""

import errno

import rados
import rbd
from session import WorkerError, describe

# What librbd finds before it takes any data: a user, a snapshot, a group of images.
_IN_THE_WAY = (errno.EBUSY, errno.ENOTEMPTY, errno.EMLINK)


def trash_list(session, report, pool, namespace="", image="", snapshot=""):
    """What lies in the trash: name, id, who moved it there (source: USER, MIRRORING, MIGRATION, REMOVING), when, and until when it is kept
    (seconds since 1970)."""
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


def move(session, pool, namespace, image, image_id, delay=0):
    """Move the image to the trash if it is the one with this id.

    librbd moves by name alone, so what went is looked at again: another one that took the name in between comes back.
    """
    with session.image(pool, namespace, image) as handle:
        found = handle.id()
    if found != image_id:
        raise _replaced(found, image_id)
    context = session.ioctx(pool, namespace)
    before = _ids(context)
    if image_id in before:
        raise WorkerError("ImageReplaced", "somebody else has just moved the image (id {}) to the trash".format(image_id))
    rbd.RBD().trash_move(context, image, delay)
    try:
        others = [key for key, name in _ids(context).items() if name == image and key not in before]
    except (rbd.Error, rados.Error) as error:
        raise _left(error, image_id, " or another one of that name does")
    if others in ([image_id], []):  # or it was purged from there already
        return
    if len(others) > 1:  # two at once in this moment: nobody can tell which is whose
        text = "others (ids {}) came under that name and to the trash together with it; bring back what is needed (rbd trash restore)"
        raise WorkerError("ImageReplaced", text.format(", ".join(sorted(others))))
    try:
        rbd.RBD().trash_restore(context, others[0], image)
    except (rbd.Error, rados.Error) as error:
        raise _left(error, others[0], " instead of {}".format(image_id))
    raise _replaced(others[0], image_id)


def _ids(context):
    return {item["id"]: item["name"] for item in rbd.RBD().trash_list(context)}


def _replaced(found, image_id):
    return WorkerError("ImageReplaced", "the image of that name is another one by now (id {}, and {} was checked)".format(found, image_id))


def trash_move(session, report, pool, namespace, image, image_id, delay=0, snapshot=""):
    """Move the image with this name and id to the trash; it cannot be purged from there for ``delay`` seconds."""
    move(session, pool, namespace, image, image_id, delay)


def image_remove(session, report, pool, namespace, image, image_id, snapshot=""):
    """Remove the image with this name and id at once. It goes by way of the trash, where its id is what counts and no name."""
    context = session.ioctx(pool, namespace)
    move(session, pool, namespace, image, image_id)
    try:
        rbd.RBD().trash_remove(context, image_id, True, lambda done, total: report(done / max(total, 1)))
    except rbd.ImageNotFound:
        return  # somebody purged the trash
    except (rbd.Error, rados.Error) as error:
        if getattr(error, "errno", None) in _IN_THE_WAY:
            _bring_back(context, image, image_id, error)
            raise
        raise _left(error, image_id, ", and a part of its data may be gone; 'rbd trash rm' by that id ends the removal")


def take_back(session, report, pool, namespace, image, image_id):
    """Remove what was just made, the image with this id, and return where it is still, and why; None where it is gone.

    librbd removes by name alone, which may be another image's by now. So it goes to the trash, where its id is what counts.
    """
    place = "there"
    try:
        move(session, pool, namespace, image, image_id)
        place = "in the trash"
        rbd.RBD().trash_remove(session.ioctx(pool, namespace), image_id, True, lambda done, total: report(done / max(total, 1)))
    except (rbd.Error, rados.Error, WorkerError) as error:
        return "{}: {}".format(place, describe(error)[1])
    return None


def _bring_back(context, image, image_id, error):
    try:
        rbd.RBD().trash_restore(context, image_id, image)
    except (rbd.Error, rados.Error) as second:
        raise _left(error, image_id, ", since it could not be brought back ({})".format(describe(second)[1]))


def _left(error, image_id, more):
    name, message, facts = describe(error)
    return WorkerError(name, "{}; the image lies in the trash (id {}){}".format(message.rstrip("."), image_id, more), **facts)


def trash_restore(session, report, pool, namespace, image, image_id, snapshot=""):
    """Bring the image with this id back, under this name."""
    rbd.RBD().trash_restore(session.ioctx(pool, namespace), image_id, image)


def trash_remove(session, report, pool, namespace, image, image_id, early=False, snapshot=""):
    """Remove the image with this id from the trash for good. librbd refuses one that is to be kept still, unless ``early``."""
    rbd.RBD().trash_remove(session.ioctx(pool, namespace), image_id, early, on_progress=lambda done, total: report(done / max(total, 1)))


OPERATIONS = {
    "trash_list": trash_list,
    "trash_move": trash_move,
    "image_remove": image_remove,
    "trash_restore": trash_restore,
    "trash_remove": trash_remove,
}
