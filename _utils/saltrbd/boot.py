"""Mapped again at boot, before and without Salt: one systemd unit for each image, ``rbd-volume@POOL:IMAGE:HASH.service``.

Ceph's own rbdmap maps by krbd or nbd alone, takes no lock that names the host, makes no link for fstab, and gives up at once
where the cluster comes up later than the node. The unit does what ``rbd_device.mapped`` does, from a file that the state wrote. The
lines in fstab name it (``x-systemd.requires``), so that systemd maps before it mounts, and unmounts before it unmaps.
"""

import hashlib
import json
import os
import re
import sys

from saltrbd import launch
from saltrbd.mapping import RUN, keep, link_path
from saltrbd.run import run

FOLDER = "/etc/rbd-volumes"
TEMPLATE = "/etc/systemd/system/rbd-volume@.service"
WANTS = "/etc/systemd/system/multi-user.target.wants"
# Seconds that a starting node waits for a cluster that is starting too.
PATIENCE = 300
# A file name may have 255 bytes; the rest is for prefix, hash and suffix.
_LONGEST = 180

_UNIT = """\
# Written by the state rbd_device.mapped; it writes it anew where it was changed.
[Unit]
Description=RBD volume %i
Wants=network-online.target
After=network-online.target
ConditionPathExists={folder}/%i.json

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={command} attach %i
ExecStop={command} detach %i
TimeoutStartSec={patience}
TimeoutStopSec=90
KillMode=process

[Install]
WantedBy=multi-user.target
"""


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


def record(settings, fsid, spec, want, image_id):
    """Return what the unit needs, as plain data; no key is in it, only the path of the keyring. ``want``: device_plan.Desired.

    By ``image_id`` the unit tells the image from another one that got its name since.
    """
    return {
        "settings": dict(settings._asdict(), monitors=list(settings.monitors), fsid=fsid),
        "spec": list(spec),
        "image_id": image_id,
        "driver": want.driver,
        "read_only": want.read_only,
        "exclusive": want.exclusive,
        "options": dict(want.options) or None,
    }


def load(instance):
    """Return the record of a unit's instance, None where there is none that can be read."""
    try:
        return json.loads(_read(os.path.join(FOLDER, instance + ".json")))
    except ValueError:
        return None


def look(fsid, spec):
    """Return "none", or the record of an image that is mapped at boot; None where something of it is missing."""
    name = unit(link_path(fsid, spec))
    enabled = os.path.islink(os.path.join(WANTS, name))
    if not enabled and not os.path.lexists(_path(name)):
        return "none"
    return load(_instance(name)) if enabled and _read(TEMPLATE) == _template() else None


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _interpreter(system="/usr/bin/python3"):
    """Return the Python that the unit runs: the system's, which stays where it is when Salt gets another environment."""
    minor = re.search(r"/python3\.(\d+)$", os.path.realpath(system))
    return system if minor and int(minor.group(1)) >= 8 else sys.executable


def _template():
    code = "import sys; sys.path.insert(0, sys.argv[1]); from saltrbd.boot_service import main; main(sys.argv[2:])"
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = '"{}" -B -c "{}" "{}"'.format(_interpreter(), code, package.replace("%", "%%"))
    return _UNIT.format(folder=FOLDER, command=command, patience=PATIENCE + 60)


def enable(fsid, spec, wanted, limit):
    """Let systemd map the image at boot as in ``wanted`` (a record). The image is mapped already: the unit only takes note of it."""
    name = unit(link_path(fsid, spec))
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    keep(_path(name), json.dumps(wanted, indent=1, sort_keys=True) + "\n")
    if _read(TEMPLATE) != _template():
        keep(TEMPLATE, _template())
        os.chmod(TEMPLATE, 0o644)
        run(["systemctl", "daemon-reload"], limit)
    run(["systemctl", "enable", "--quiet", name], limit)
    run(["systemctl", "start", "--no-block", name], limit)


def disable(fsid, spec, limit, stop=True):
    """Let systemd not map the image at boot any more. The last one takes the template along.

    ``stop``: it is unmapped already, and the unit is ended; without it the unit goes on until the image is unmapped.
    """
    name = unit(link_path(fsid, spec))
    for path in (_path(name), os.path.join(WANTS, name)):
        if os.path.lexists(path):
            os.unlink(path)
    if launch.has_systemd() and stop:  # without its record it has nothing to unmap, and ends at once
        run(["systemctl", "stop", name], limit, ok=None)
        run(["systemctl", "reset-failed", name], limit, ok=None)
    if os.path.isdir(FOLDER) and not os.listdir(FOLDER):
        os.rmdir(FOLDER)
        if os.path.exists(TEMPLATE):
            os.unlink(TEMPLATE)
    if launch.has_systemd():
        run(["systemctl", "daemon-reload"], limit)
