"""A clone's xfs gets a UUID of its own: the kernel does not mount two xfs with one UUID.

That it has one is kept in the clone's metadata, with the image's id: a clone of the clone has that metadata too, and its
parent's UUID again.
"""

import json
import os
import time
import uuid

from saltrbd import errors, fscheck, proc, superblock
from saltrbd.mapping import RUN
from saltrbd.run import run

KEY = "saltrbd.xfs-uuid"
FOLDER = os.path.join(RUN, ".replay")
# Seconds until a filesystem is gone from the kernel after its mount namespace has ended.
GONE = 10.0


def is_renewed(image):
    """Tell from an image's facts whether its xfs was given a UUID of its own."""
    try:
        return json.loads(image["metadata"].get(KEY) or "null")["image"] == image["id"]
    except (ValueError, TypeError, KeyError):
        return False


def mounted_twin(identity, number):
    """Return the mount point of another device's xfs with this UUID, or None; one that was mounted with nouuid does no harm."""
    for mount in proc.mounts():
        if mount.fs_type != "xfs" or mount.device == number or "nouuid" in mount.super_options.split(","):
            continue
        try:
            if superblock.of_mounted(None, mount, 0).get("uuid") == identity:
                return mount.point
        except OSError:
            continue  # it was unmounted meanwhile
    return None


def renew(ceph, mapping):
    """Give the xfs on a device that is not mounted a new UUID, and return it.

    A log that waits to be replayed is replayed first, by mounting it in a mount namespace that ends with the command. Can be
    cut off at any moment and repeated. Raises :class:`FilesystemDamaged` where the log cannot be replayed.
    """
    device, limit = mapping.device, ceph.settings.timeout
    if fscheck.log_is_dirty(device, limit):
        _replay(mapping, limit)
    identity = str(uuid.uuid4())
    said = run(["xfs_admin", "-U", identity, device], limit, ok=None, device=device)
    found = superblock.read(device, limit)
    if found is None or found.uuid != identity:  # xfs_admin ends with 0 when it did nothing
        raise errors.FilesystemDamaged(
            "The xfs of {} at {} was not given a new UUID: {}".format(mapping.spec, device, (said.err or said.out).strip())
        )
    ceph.call("image_metadata", mapping.spec, put={KEY: json.dumps({"image": mapping.image_id, "uuid": identity})})
    return identity


def _replay(mapping, limit):
    folder = os.path.join(FOLDER, mapping.image_id)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        run(
            ["unshare", "--mount", "--propagation", "private", "mount", "-t", "xfs", "-o", "nouuid", mapping.device, folder],
            limit,
            device=mapping.device,
        )
        until = time.monotonic() + GONE
        while os.path.exists("/sys/fs/xfs/" + os.path.basename(mapping.device)):
            if time.monotonic() > until:
                raise errors.Busy("The xfs of {} at {} is still in use after its log was replayed.".format(mapping.spec, mapping.device))
            time.sleep(0.02)
    except errors.CommandFailed as error:
        raise errors.FilesystemDamaged("The log of the xfs of {} cannot be replayed: {}".format(mapping.spec, error))
    finally:
        os.rmdir(folder)
