"""What the units ``rbd-volume@`` run: a copy of this package and the template, which outlive Salt's cache and Salt's environment."""

import os
import re
import shutil
import sys

from saltrbd.mapping import keep

FOLDER = "/usr/local/lib/rbd-volumes"
TEMPLATE = "/etc/systemd/system/rbd-volume@.service"
PACKAGE = os.path.dirname(os.path.abspath(__file__))
_SCRIPT = """\
# What the units rbd-volume@ run. The state rbd_device.mapped writes this folder anew where it was changed.
import sys

from saltrbd.boot_service import main

main(sys.argv[1:])
"""
# The program has a clock of its own, and each of its steps a limit.
_UNIT = """\
# Written by the state rbd_device.mapped; it writes it anew where it was changed.
[Unit]
Description=RBD volume %i
Wants=network-online.target
After=network-online.target
ConditionPathExists={records}/%i.json

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={command} attach %i
ExecStop={command} detach %i
TimeoutStartSec=infinity
TimeoutStopSec=90
KillMode=process

[Install]
WantedBy=multi-user.target
"""


def interpreter(system="/usr/bin/python3"):
    """Return the Python that the units run: the system's, which stays where it is when Salt gets another environment."""
    minor = re.search(r"/python3\.(\d+)$", os.path.realpath(system))
    return system if minor and int(minor.group(1)) >= 8 else sys.executable


def template(records):
    """Return the text of the unit; ``records`` is the folder of what they map."""
    words = [interpreter(), "-B", "-E", "-s", os.path.join(FOLDER, "rbd-volume.py")]
    return _UNIT.format(records=records, command=" ".join(_quoted(word) for word in words))


def _quoted(word):
    """A word for systemd: no escape, no specifier, no variable in it."""
    return '"{}"'.format(word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$"))


def is_right(records):
    """True where template and copy are those of this package."""
    texts = _read(TEMPLATE) == template(records) and _read(os.path.join(FOLDER, "rbd-volume.py")) == _SCRIPT
    return texts and files(os.path.join(FOLDER, "saltrbd")) == files(PACKAGE)


def files(top):
    """Return {relative path: content} of the Python files below a folder; Salt gives what it syncs a new time without any change."""
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = file.read()
    return found


def write(records):
    """Write template and copy anew."""
    fresh = "{}.{}".format(FOLDER, os.getpid())
    shutil.rmtree(fresh, ignore_errors=True)
    copy(fresh)
    keep(os.path.join(fresh, "rbd-volume.py"), _SCRIPT)
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.replace(fresh, FOLDER)
    keep(TEMPLATE, template(records))
    os.chmod(TEMPLATE, 0o644)


def copy(folder):
    """Put a copy of this package into a new folder, for everybody to read."""
    shutil.copytree(PACKAGE, os.path.join(folder, "saltrbd"), ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for path, _, names in os.walk(folder):
        os.chmod(path, 0o755)  # noqa: S103 -- as every folder of programs; nothing secret is in it
        for name in names:
            os.chmod(os.path.join(path, name), 0o644)


def remove():
    """Take template and copy away."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    if os.path.lexists(TEMPLATE):
        os.unlink(TEMPLATE)


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
