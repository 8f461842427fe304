"""Making a filesystem on a mapped image, so that a mkfs that is killed is known for what it is.

Before mkfs a mark goes into the image's metadata: id of the image (a clone has its parent's metadata, and there the mark
is nobody's), type, the new UUID, time. mkfs uses that UUID, and the mark goes when a read-only check of the filesystem has
passed. With the mark the filesystem is made again after all is discarded; without it nothing is ever overwritten.
"""

import json
import re
import time
import uuid
from collections import namedtuple

from saltrbd import blank, device, errors, fscheck
from saltrbd.run import run

KEY = "saltrbd.mkfs"

Mark = namedtuple("Mark", "fs_type uuid time")


def mark_of(image):
    """Return the :class:`Mark` in an image's facts, or None: a mkfs of ours that was not seen to end."""
    try:
        told = json.loads(image["metadata"].get(KEY) or "null")
        if told["image"] != image["id"]:
            return None
        return Mark(str(told["fs_type"]), str(told["uuid"]), int(told["time"]))
    except (ValueError, TypeError, KeyError):
        return None


def make(ceph, mapping, wanted, again=False):
    """Make the filesystem ``wanted`` (of ``mkfs_options.desired``) on the device of a mapping, and return its UUID.

    ``again``: the device carries what a killed mkfs of ours left, and is wiped. Else raises :class:`NotBlank` unless the device is
    proven blank. Raises :class:`FilesystemDamaged` when the new filesystem does not pass its check.
    """
    spec, limit = mapping.spec, ceph.settings.timeout
    device.refresh(ceph, mapping)
    blank.prove(ceph, mapping, content=not again)
    zero = _wipe(ceph, mapping, limit) if again else True
    zero = zero and not mapping.encryption  # what is zero in the image is anything behind a LUKS header
    mark = {"image": mapping.image_id, "fs_type": wanted.fs_type, "uuid": str(uuid.uuid4()), "time": int(time.time())}
    ceph.call("image_metadata", spec, put={KEY: json.dumps(mark, sort_keys=True)})
    blank.prove_there(mapping)
    run(command(wanted, mark["uuid"], mapping.device, zero, _e2fsprogs(wanted, limit)), limit, device=mapping.device)
    found = fscheck.check(mapping.device, wanted.fs_type, ceph.settings.progress_timeout, full=True)
    if found.state != "clean":
        raise errors.FilesystemDamaged(
            "The new {} of {} at {} did not pass: {}".format(wanted.fs_type, spec, mapping.device, found.text or found.state)
        )
    settle(ceph, spec)
    return mark["uuid"]


def settle(ceph, spec):
    """Take the mark away: the filesystem is whole."""
    ceph.call("image_metadata", spec, remove=[KEY])


def command(wanted, identity, device, zero, e2fsprogs):
    """Return the argument list of mkfs; pure.

    ``zero``: the whole device is known to read zero, so that nothing need be zeroed or discarded. Without it a former mkfs's
    remnants are on the device, and mkfs must not stop at them.
    """
    label = ["-L", wanted.label] if wanted.label else []
    if wanted.fs_type == "xfs":
        words = ["mkfs.xfs", "-q"] + (["-K"] if zero else ["-f"]) + ["-m", "uuid=" + identity] + label
        return words + [word for pair in wanted.options for word in pair] + [device]
    extended = _extended(zero, e2fsprogs) + [value for option, value in wanted.options if option == "-E"]
    words = ["mkfs.ext4", "-q"] + ([] if zero else ["-F"]) + ["-U", identity] + label
    words += ["-E", ",".join(extended)] if extended else []
    return words + [word for pair in wanted.options if pair[0] != "-E" for word in pair] + [device]


def _extended(zero, e2fsprogs):
    if not zero:
        return []
    # Else the kernel would write zeros into every inode table after the first mount: 16 GiB on a thin image of 1 TiB.
    return ["nodiscard", "assume_storage_prezeroed=1" if e2fsprogs >= (1, 47) else "lazy_journal_init=1"]


def _e2fsprogs(wanted, limit):
    """Return the version of e2fsprogs as (major, minor)."""
    if wanted.fs_type != "ext4":
        return (0, 0)
    found = re.search(r"mke2fs (\d+)\.(\d+)", run(["mkfs.ext4", "-V"], limit).err)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _wipe(ceph, mapping, limit):
    """Discard the whole device, and return whether the image is blank then: not every driver passes discards on."""
    blank.prove_there(mapping)
    run(["blkdiscard", mapping.device], limit, ok=None, device=mapping.device)
    facts = ceph.call("image_blank", mapping.spec)
    return facts["first_used"] is None
