"""Mapped again at boot, before and without Salt: one systemd unit for each image, ``rbd-volume@POOL:IMAGE:HASH.service``.

Ceph's own rbdmap maps by krbd or nbd alone, takes no lock that names the host, makes no link for fstab, and gives up at once
where the cluster comes up later than the node. The unit does what ``rbd_device.mapped`` does, from a record that the state wrote. The
lines in fstab name it (``x-systemd.requires``), so that systemd maps before it mounts, and unmounts before it unmaps.
"""

import hashlib
import json
import os
import re
from contextlib import contextmanager

from saltrbd import boot_program, errors, hostlock, launch
from saltrbd.mapping import RUN, keep, link_path
from saltrbd.run import run

FOLDER = "/etc/rbd-volumes"
WANTS = "/etc/systemd/system/multi-user.target.wants"
# A file name may have 255 bytes; the rest is for prefix, hash and suffix.
_LONGEST = 180
# Seconds to wait for another process that writes records; it needs a second.
_LOCK_WAIT = 30.0
_KEYS = {"settings", "spec", "image_id", "snapshot_id", "driver", "read_only", "exclusive", "options"}


def possible():
    """True where systemd starts this host's services, and they see the network that this process sees."""
    return launch.has_systemd() and launch.shares_network()


def unit(link):
    """Return the unit's name for an image, from the path of its link; pure."""
    parts = [re.sub("[^A-Za-z0-9._-]", "_", part) for part in link[len(RUN) + 1 :].split("/")[1:]]
    return "rbd-volume@{}:{}.service".format(":".join(parts)[:_LONGEST], hashlib.sha256(link.encode("utf-8")).hexdigest()[:8])


def _instance(name):
    return name[len("rbd-volume@") : -len(".service")]


def _path(name):
    """Where the unit with this name finds what it maps."""
    return os.path.join(FOLDER, _instance(name) + ".json")


def record(settings, fsid, spec, want, image_id, snapshot_id=None):
    """Return what the unit needs, as plain data; no key is in it, only the path of the keyring. ``want``: device_plan.Desired.

    By the ids the unit tells image and snapshot from others that got their names since.
    """
    return {
        "settings": dict(settings._asdict(), monitors=list(settings.monitors), fsid=fsid),
        "spec": list(spec),
        "image_id": image_id,
        "snapshot_id": snapshot_id,
        "driver": want.driver,
        "read_only": want.read_only,
        "exclusive": want.exclusive,
        "options": dict(want.options) or None,
    }


def load(instance):
    """Return the record of a unit's instance, None where there is none that makes sense."""
    try:
        with open(os.path.join(FOLDER, instance + ".json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and set(found) >= _KEYS and isinstance(found["settings"], dict) else None


def there(instance):
    """True where the instance has a record, damaged or not."""
    return os.path.lexists(os.path.join(FOLDER, instance + ".json"))


def unit_of(fsid, spec):
    """Return the name of the unit that maps the image at boot, or None; anything that is left of one counts."""
    name = unit(link_path(fsid, spec))
    return name if there(_instance(name)) or os.path.lexists(os.path.join(WANTS, name)) else None


def enabled(fsid, spec):
    """Return the record with which the image is mapped at boot; None where it is not, or something of it is missing."""
    name = unit(link_path(fsid, spec))
    return load(_instance(name)) if os.path.islink(os.path.join(WANTS, name)) else None


def program_is_right():
    """True where what all units run is that of this package."""
    return boot_program.is_right(FOLDER)


def enable(fsid, spec, wanted, limit):
    """Let systemd map the image at boot as in ``wanted`` (a record). The image is mapped already: the unit only takes note of it.

    Records of the same image under an earlier name go.
    """
    name = unit(link_path(fsid, spec))
    with _writing():
        os.makedirs(FOLDER, mode=0o700, exist_ok=True)
        for other in _records():
            known = load(other)
            if known and other != _instance(name) and _same(known, wanted):
                _remove("rbd-volume@{}.service".format(other))
        if not program_is_right():
            boot_program.write(FOLDER)
        keep(_path(name), json.dumps(wanted, indent=1, sort_keys=True) + "\n")
        run(["systemctl", "daemon-reload"], limit)
        run(["systemctl", "enable", "--quiet", name], limit)
    start(fsid, spec, limit)


def record_of(fsid, spec):
    """Return the record of the unit that maps the image at boot, or None."""
    return load(_instance(unit(link_path(fsid, spec))))


def rename(fsid, old, new, limit):
    """Let the unit that maps ``old`` at boot be one that maps ``new``, which is not mapped now."""
    name = unit(link_path(fsid, new))
    with _writing():
        kept = record_of(fsid, old)
        keep(_path(name), json.dumps(dict(kept, spec=list(new)), indent=1, sort_keys=True) + "\n")
        run(["systemctl", "enable", "--quiet", name], limit)
        _remove(unit(link_path(fsid, old)))
    settle(fsid, old, limit, stop=True)


def start(fsid, spec, limit):
    """Let the unit take note of an image that is mapped, so that it unmaps it at shutdown; it has looked at it when this returns."""
    run(["systemctl", "start", unit(link_path(fsid, spec))], limit)


def _same(one, other):
    return all(one[key] == other[key] for key in ("image_id", "snapshot_id")) and one["settings"].get("fsid") == other["settings"]["fsid"]


def _records():
    return sorted(name[: -len(".json")] for name in os.listdir(FOLDER) if name.endswith(".json")) if os.path.isdir(FOLDER) else []


def _remove(name):
    for path in (_path(name), os.path.join(WANTS, name)):
        if os.path.lexists(path):
            os.unlink(path)


def forget(fsid, spec):
    """Take the image's record and the unit's link away; the last one takes along what all units run. ``settle`` follows."""
    with _writing():
        _remove(unit(link_path(fsid, spec)))
        if not _records():
            for name in os.listdir(FOLDER) if os.path.isdir(FOLDER) else ():
                os.unlink(os.path.join(FOLDER, name))  # half-written by a run that was cut off
            if os.path.isdir(FOLDER):
                os.rmdir(FOLDER)
            boot_program.remove()


def settle(fsid, spec, limit, stop):
    """Let systemd see that the unit is gone. ``stop`` ends it: without its record it has nothing to unmap."""
    if not launch.has_systemd():
        return
    name = unit(link_path(fsid, spec))
    if stop:
        run(["systemctl", "stop", name], limit, ok=None)
        run(["systemctl", "reset-failed", name], limit, ok=None)
    run(["systemctl", "daemon-reload"], limit)


@contextmanager
def _writing():
    """One writer of records at a time; what the system refuses is told as a sentence."""
    try:
        with hostlock.named("boot", _LOCK_WAIT, "Another process of this host has been writing {} for {:g} s.".format(FOLDER, _LOCK_WAIT)):
            yield
    except OSError as error:
        raise errors.CommandFailed("{} cannot be written: {}.".format(error.filename or FOLDER, error.strerror or error))
