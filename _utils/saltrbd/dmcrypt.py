"""dm-crypt on a device of the kernel's rbd: the same LUKS header that librbd writes, opened by cryptsetup."""

import glob
import os
from collections import namedtuple

from saltrbd import errors, layers
from saltrbd.run import run, which

# ``device`` is /dev/dm-N: the kernel's name, under which sysfs knows it.
Layer = namedtuple("Layer", "device name format")
# How the names of ours begin below /dev/mapper. What somebody opened by hand on a device is a user of it.
_PREFIX = "rbd-volume-"


def lacking():
    """Return what this host lacks to open a LUKS header for krbd as a sentence, or None."""
    if which("cryptsetup") is None:
        return "the command cryptsetup is not installed (Debian: cryptsetup-bin)"
    return None


def above(device, sysfs="/sys"):
    """Return the :class:`Layer` of LUKS that :func:`open_` put on a device, None where there is none."""
    for holder in sorted(glob.glob("{}/class/block/{}/holders/dm-*".format(sysfs, glob.escape(os.path.basename(device))))):
        # CRYPT-LUKS2-UUID-NAME
        words, name = layers.attribute(os.path.join(holder, "dm/uuid")).split("-"), layers.attribute(os.path.join(holder, "dm/name"))
        if words[0] == "CRYPT" and len(words) > 1 and words[1] in ("LUKS1", "LUKS2") and name.startswith(_PREFIX):
            return Layer("/dev/" + os.path.basename(holder), name, words[1].lower())
    return None


def name_of(wanted):
    """Return the name below /dev/mapper for what is mapped (``device.Wanted``)."""
    return _PREFIX + "{}.{}.{}".format(wanted.fsid, wanted.image_id, wanted.snapshot_id or 0)


def open_(device, key, name, read_only, limit):
    """Open the LUKS header on a device and return the :class:`Layer`. The passphrase goes by stdin."""
    argv = ["cryptsetup", "open", "--type", key.format, "--key-file", "-", "--disable-keyring", "--allow-discards"]
    argv += ["--readonly"] * read_only + [device, name]
    result = run(argv, limit, input=key.passphrase, ok=(0, 2))
    if result.code == 2:  # cryptsetup(8): no permission (bad passphrase)
        raise errors.WrongPassphrase("The passphrase in the pillar {} does not open {}.".format(":".join(key.pillar), device))
    found = above(device)
    if found is None:
        raise errors.NotConverged("cryptsetup ended without an error for {}, but nothing lies on it.".format(device))
    return found


def close(device, limit):
    """Take the layer off a device; fine where there is none."""
    found = above(device)
    if found:
        run(["cryptsetup", "close", found.name], limit)


def resize(device, limit):
    """Let the layer on a device have the device's size; its key is in the kernel, so that no passphrase is needed."""
    found = above(device)
    if found:
        run(["cryptsetup", "resize", "--disable-keyring", found.name], limit)
