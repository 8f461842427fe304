"""Mapping without rbd and nbd in the kernel: qemu-storage-daemon serves the image as a file (FUSE), a loop device makes it a disk.

Every mapping has a folder ``/run/rbd-volumes/.fuse/FSID.IMAGE_ID.SNAPSHOT_ID.TOKEN``. The folder's name stands in the daemon's
command line, with pool, namespace and image, so that the running daemon itself tells what it serves; the files in the folder
only help to clean up after a dead one. The token makes it unique: containers on one machine see each other's loop devices, with
the paths of their files.
"""

import json
import os
import shutil
import signal
import time
import uuid

from saltrbd import boot, errors, launch, loop, proc, qmp, secret
from saltrbd.mapping import RUN, Mapping, keep, link_path
from saltrbd.run import run, which
from saltrbd.settings import conf_file, mon_host
from saltrbd.spec import Spec

NAME = "fuse"
FOLDERS = os.path.join(RUN, ".fuse")
PROGRAM = "qemu-storage-daemon"
# Options of qemu's block layer that a declaration may set, with their values.
OPTIONS = {"discard": ("unmap", "ignore"), "detect-zeroes": ("on", "off", "unmap")}
# What qemu's rbd driver calls the formats of LUKS: RbdImageEncryptionFormat in its QMP reference.
_FORMATS = {"luks": "luks1", "luks2": "luks2"}


def lacking():
    """Return what this host lacks for the driver as a sentence, or None."""
    for tool, package in ((PROGRAM, "qemu-utils and qemu-block-extra"), ("losetup", "mount")):
        if which(tool) is None:
            return "{} is not installed (Debian: {})".format(tool, package)
    for node in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(node):
            return "{} is not there".format(node)
    return None


def mapped_list():
    """Return the :class:`Mapping` of every daemon of ours, and of every folder whose daemon is dead."""
    found, served = [], set()
    for process in proc.processes(PROGRAM):
        folder, export = _served(process.argv)
        if folder:
            served.add(folder)
            found.append(_living(process, folder, export))
    for folder in _folders():
        if folder not in served:
            dead = _dead(folder)
            if dead:
                found.append(dead)
    return found


def _folders():
    try:
        return sorted(os.path.join(FOLDERS, name) for name in os.listdir(FOLDERS))
    except FileNotFoundError:
        return []


def _served(argv):
    """Return (folder, blockdev with the export's "writable") from a daemon's command line, (None, None) for a foreign one."""
    words = {}
    for option, value in zip(argv, argv[1:]):
        if option in ("--blockdev", "--export") and value.startswith("{"):
            try:
                words[option] = json.loads(value)
            except ValueError:
                return None, None
    path = words.get("--export", {}).get("mountpoint", "")
    if "--blockdev" not in words or os.path.dirname(os.path.dirname(path)) != FOLDERS:
        return None, None
    return os.path.dirname(path), words["--blockdev"]


def _living(process, folder, blockdev):
    device = loop.find(_export(folder))
    fault = None if device else "its daemon (pid {}) has no loop device".format(process.pid)
    return _mapping(folder, blockdev, device, process.pid, fault)


def _dead(folder):
    try:
        with open(os.path.join(folder, "mapping.json")) as file:
            kept = json.load(file)
    except (OSError, ValueError):
        return None  # only begun: no daemon ever ran there
    device = loop.find(_export(folder))
    return _mapping(folder, kept, device, None, "its daemon is dead")


def _mapping(folder, blockdev, device, pid, fault):
    fsid, image_id, snapshot_id, _ = os.path.basename(folder).split(".")
    spec = Spec(blockdev["pool"], blockdev.get("namespace", ""), blockdev["image"], blockdev.get("snapshot", ""))
    kind = _FORMATS.get(blockdev.get("encrypt", {}).get("format"), "")
    return Mapping(spec, device, NAME, bool(blockdev["read-only"]), pid, fsid, image_id, int(snapshot_id) or None, fault, kind)


def _begin(wanted):
    """Return the path of a new folder for a mapping."""
    name = "{}.{}.{}.{}".format(wanted.fsid, wanted.image_id, wanted.snapshot_id or 0, uuid.uuid4().hex[:8])
    return os.path.join(FOLDERS, name)


def _folders_of(mapping):
    """Return the folders of a mapping; more than one only after an attempt that was cut off."""
    prefix = "{}.{}.{}.".format(mapping.fsid, mapping.image_id, mapping.snapshot_id or 0)
    return [folder for folder in _folders() if os.path.basename(folder).startswith(prefix)]


def _export(folder):
    return os.path.join(folder, "export")


def attach(wanted):
    """Start the daemon, attach the loop device, and return the :class:`Mapping`; on a failure nothing is left behind."""
    folder = _begin(wanted)
    spec, limit = wanted.spec, wanted.ceph.settings.timeout
    blockdev = {"driver": "rbd", "node-name": "image", "discard": "unmap", "user": wanted.ceph.settings.user}
    blockdev.update({key: value or "on" for key, value in wanted.options}, pool=spec.pool, image=spec.image)
    blockdev["read-only"] = wanted.read_only
    for key, value in (("namespace", spec.namespace), ("snapshot", spec.snapshot)):
        if value:
            blockdev[key] = value
    if wanted.key:
        blockdev["encrypt"] = {"format": {kind: name for name, kind in _FORMATS.items()}[wanted.key.format], "key-secret": "passphrase"}
    os.makedirs(FOLDERS, mode=0o700, exist_ok=True)
    for begun in _folders_of(wanted):
        shutil.rmtree(begun, ignore_errors=True)  # of an attempt that never got a daemon
    os.mkdir(folder, 0o700)
    try:
        blockdev["conf"] = _conf(wanted.ceph.settings, folder)
        keep(os.path.join(folder, "mapping.json"), json.dumps(blockdev))
        keep(_export(folder), "")
        unit, before = "rbd-volume-" + os.path.basename(folder), boot.unit(link_path(wanted.fsid, spec))
        if wanted.key:
            with secret.handed(wanted.key.passphrase) as path:
                # Making the key of a passphrase takes seconds, and far more on a busy host.
                slow = max(limit, wanted.ceph.settings.progress_timeout)
                launch.start(_argv(folder, blockdev, path), unit, "RBD volume {}".format(spec), slow, before)
        else:
            launch.start(_argv(folder, blockdev), unit, "RBD volume {}".format(spec), limit, before)
        pid = _pid(folder)
        launch.leave_control_group(pid)
        device = loop.attach(_export(folder), wanted.read_only, limit)
    except BaseException as error:
        _clear(folder, limit)
        if isinstance(error, errors.CommandFailed) and "driver 'rbd'" in str(error):
            raise errors.NotSupported("{} cannot open RBD images; install qemu-block-extra. ({})".format(PROGRAM, error))
        raise
    return _mapping(folder, blockdev, device, pid, None)


def check(options):
    """Raise :class:`InvalidArgument` for an option that the driver does not take."""
    for key, value in options:
        if key not in OPTIONS or (value or "on") not in OPTIONS[key]:
            raise errors.InvalidArgument(
                "The driver fuse has no option {}={}; it has {}.".format(
                    key, value, ", ".join("{}={}".format(name, "|".join(values)) for name, values in sorted(OPTIONS.items()))
                )
            )


def _argv(folder, blockdev, passphrase=None):
    """``passphrase``: the path out of which it comes."""
    words = ["--object", "secret,id=passphrase,file={}".format(passphrase)] if passphrase else []
    export = {"type": "fuse", "id": "export", "node-name": "image", "mountpoint": _export(folder), "writable": not blockdev["read-only"]}
    return [
        *[PROGRAM, *words, "--blockdev", json.dumps(blockdev), "--export", json.dumps(export)],
        *["--chardev", "socket,id=control,path={},server=on,wait=off".format(_socket(folder))],
        *["--monitor", "chardev=control,mode=control", "--pidfile", os.path.join(folder, "pid"), "--daemonize"],
    ]


def _socket(folder):
    return os.path.join(folder, "qmp")


def _conf(settings, folder):
    """Return the path of the Ceph configuration for the daemon: the site's own, or a private one with what the pillar adds."""
    path = conf_file(settings)
    if path and not settings.monitors and not settings.keyring:
        return path
    text = ""
    if path:
        with open(path) as file:
            text = file.read().rstrip("\n") + "\n"
    text += "[client.{}]\n".format(settings.user)
    for key, value in (("mon_host", mon_host(settings)), ("keyring", settings.keyring)):
        if "\n" in value:
            raise errors.InvalidArgument("ceph:{} must be one line, not {!r}.".format(key, value))
        text += "{} = {}\n".format(key, value) if value else ""
    private = os.path.join(folder, "ceph.conf")
    keep(private, text)
    return private


def _daemon(folder):
    """Return the process that serves this folder, or None: by its command line, never by a written pid alone."""
    for process in proc.processes(PROGRAM):
        if _served(process.argv)[0] == folder:
            return process
    return None


def _pid(folder):
    process = _daemon(folder)
    if process is None:
        raise errors.CommandFailed("{} for {} ended right after its start.".format(PROGRAM, folder))
    return process.pid


def _clear(folder, limit):
    """Undo an attempt that failed."""
    path = _export(folder)
    device = loop.find(path)
    if device:
        loop.detach(device, path, limit)
    process = _daemon(folder)
    if process:
        _end(process, signal.SIGKILL, 2.0)  # nothing was written yet
    _unmount(path, limit)
    shutil.rmtree(folder, ignore_errors=True)


def detach(mapping, limit):
    """Detach the loop device, end the daemon (it writes back first), remove the files; works as well on a dead one.

    Raises :class:`Busy`, or :class:`CommandTimeout` when the daemon cannot write back; then it is left to go on trying.
    """
    for folder in _folders_of(mapping):
        path = _export(folder)
        device, process = loop.find(path), _daemon(folder)
        if device:
            loop.detach(device, path, limit)
        if process and not _end(process, signal.SIGTERM, limit):
            raise errors.CommandTimeout(
                "{} is detached, but its {} (pid {}) did not end within {:g} s: the cluster does not take its last writes. "
                "Unmap it again when the cluster answers.".format(mapping.spec, PROGRAM, process.pid, limit)
            )
        _unmount(path, limit)
        shutil.rmtree(folder, ignore_errors=True)


def _end(process, sign, limit):
    """End a process; return whether it is gone. The signal is repeated, because qemu-storage-daemon only looks at one that
    comes while it waits: one that comes while it serves a request has its effect at the next."""
    until = time.monotonic() + limit
    again = 0.0
    while proc.start_of(process.pid) == process.start:
        now = time.monotonic()
        if now > until:
            return False
        if now > again:
            _signal(process, sign)
            again = now + 0.25
        time.sleep(0.02)
    return True


def _signal(process, sign):
    try:
        os.kill(process.pid, sign)
    except ProcessLookupError:
        pass  # ended by itself meanwhile


def _unmount(path, limit):
    """A daemon that was killed leaves its FUSE mount behind."""
    if any(mount.point == path for mount in proc.mounts()):
        run(["umount", "--lazy", path], limit)


def refresh(mapping, size, limit, offset=0):
    """Let the device have the image's new ``size`` in bytes, without the ``offset`` bytes of a LUKS header; only growth is passed on.

    Read-only daemons cannot be told; they are mapped again.
    """
    if loop.size_of(mapping.device) >= (size - offset) // 512 * 512:
        return
    if mapping.read_only:
        raise errors.NotSupported(
            "{} is mapped read-only by fuse, which does not see that it grew; unmap and map it again.".format(mapping.spec)
        )
    # The image has that size already: qemu-storage-daemon only looks at it again. librbd counts the header in (seen in 16.2).
    for folder in _folders_of(mapping):
        qmp.ask(_socket(folder), "block_resize", limit, **{"node-name": "image", "size": size})
    loop.resize(mapping.device, size - offset, limit)
