"""What rbd-nbd runs as its quiesce hook: a copy of this package, which outlives Salt's cache and Salt's environment.

Each version has a folder of its own, so that the hook of a mapped device never changes or goes while rbd-nbd may call it.
"""

import hashlib
import os
import shutil
import time

from saltrbd import boot_program, errors, proc

FOLDER = "/usr/local/lib/rbd-quiesce"
# The environment variable of rbd-nbd with the settings of the hook, as JSON.
ENV = "SALT_RBD_QUIESCE"
_SCRIPT = """\
#!{interpreter} -EsB
# What rbd-nbd runs before and after a snapshot of its image. The state rbd_device.mapped writes this folder.
import sys

from saltrbd.quiesce import main

main(sys.argv[1:])
"""
# Seconds for which a version stays that no rbd-nbd names: one may be about to start with it.
_YOUNG = 600


def hook():
    """Return the path of this version's hook, which is there then. Raises :class:`CommandFailed` where it cannot be written."""
    script, files = _SCRIPT.format(interpreter=boot_program.interpreter()), boot_program.files(boot_program.PACKAGE)
    told = hashlib.sha256(script.encode("utf-8"))
    for name, content in sorted(files.items()):
        told.update("{}\0{}\0".format(name, len(content)).encode("utf-8") + content)
    folder = os.path.join(FOLDER, told.hexdigest()[:16])
    path = os.path.join(folder, "hook")
    try:
        if not os.access(path, os.X_OK) or boot_program.files(os.path.join(folder, "saltrbd")) != files:
            _write(folder, script)
        _clear(keep=folder)
    except OSError as error:
        raise errors.CommandFailed(
            "{} cannot be written: {}. With the option quiesce: False the image is mapped by nbd without the hook that freezes it for "
            "snapshots that others make.".format(error.filename or FOLDER, error.strerror or error)
        )
    return path


def _write(folder, script):
    fresh = "{}.{}".format(folder, os.getpid())
    shutil.rmtree(fresh, ignore_errors=True)
    boot_program.copy(fresh)
    path = os.path.join(fresh, "hook")
    with open(path, "w", encoding="utf-8") as file:
        file.write(script)
    os.chmod(path, 0o755)  # noqa: S103 -- as every program
    os.chmod(FOLDER, 0o755)  # noqa: S103
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.rename(fresh, folder)
    except OSError:
        shutil.rmtree(fresh)
        if not os.access(os.path.join(folder, "hook"), os.X_OK):
            raise  # else another run was quicker


def _clear(keep):
    """Remove the versions that no rbd-nbd calls."""
    others = [os.path.join(FOLDER, name) for name in os.listdir(FOLDER) if os.path.join(FOLDER, name) != keep]
    used = [word for process in proc.processes("rbd-nbd") for word in process.argv] if others else []
    for path in others:
        try:
            young = time.time() - os.stat(path).st_mtime <= _YOUNG
        except FileNotFoundError:
            continue  # another run has just given it its name
        if not young and not any(word.startswith(path + "/") for word in used):
            shutil.rmtree(path, ignore_errors=True)
