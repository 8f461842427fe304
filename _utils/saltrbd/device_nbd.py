"""Mapping by rbd-nbd: a daemon with librbd behind the kernel's nbd.

rbd-nbd's own list names pool, namespace, image, snapshot and pid; which image of that name it opened stands in the environment that
we started it with. Of a daemon that was killed under a mount the kernel tells nothing; a record of our own tells whose device it was.
"""

import glob
import json
import os
import time

from saltrbd import boot, device_users, errors, kernel, launch, proc, quiesce_program, secret
from saltrbd.loop import size_of
from saltrbd.mapping import RUN, Mapping, keep, link_path
from saltrbd.run import run, which
from saltrbd.settings import command_args
from saltrbd.spec import Spec

NAME = "nbd"
SYSFS = "/sys/module/nbd"
MARK = "SALT_RBD_IMAGE"
RECORDS = os.path.join(RUN, ".nbd")
# What of the settings the quiesce hook needs.
_HOOK_KEYS = ("freeze_timeout", "timeout", "conf", "keyring")
_OURS = (
    "device",
    "read-only",
    "exclusive",
    "format",
    "pretty-format",
    "conf",
    "id",
    "name",
    "keyring",
    "m",
    "key",
    "keyfile",
    "mon-host",
    "cluster",
    "namespace",
    "snap-id",
    "pool",
    "image",
    "user",
    "client-mount-timeout",
    "encryption-format",
    "encryption-passphrase-file",
    "quiesce-hook",
)


def lacking():
    """Return what this host lacks for the driver as a sentence, or None."""
    if which("rbd-nbd") is None:
        return "the command rbd-nbd is not installed (Debian: rbd-nbd)"
    return kernel.lacks_module("nbd", SYSFS)


def mapped_list():
    """Return the :class:`Mapping` of every image that an rbd-nbd of this host serves, and of every device in use whose rbd-nbd is dead."""
    living = _living()
    return living + _dead({mapping.device for mapping in living})


def _living():
    if not glob.glob("/sys/block/nbd*/pid") or which("rbd-nbd") is None:
        return []  # those of another program, or of the host outside a container
    found = run(["rbd-nbd", "list-mapped", "--format", "json"], 30).out
    return [_served(entry, proc.argv_of(int(entry["id"]))) for entry in json.loads(found or "[]")]


def _served(entry, argv):
    mapping = mapping_of(entry, proc.environ_of(entry["id"]))
    hook = None if mapping.read_only else argument_of(argv, "--quiesce-hook") if "--quiesce" in argv else ""
    return mapping._replace(encryption=argument_of(argv, "--encryption-format"), quiesce=hook)


def argument_of(argv, option):
    """Return the value of an option in a command line of rbd-nbd, empty for none; pure."""
    for word, value in zip(argv, argv[1:]):
        if word == option:
            return value
    return ""


def mapping_of(entry, environ):
    """Return the :class:`Mapping` of one entry of rbd-nbd's list and its daemon's environment."""
    pid, device = int(entry["id"]), entry["device"]
    snapshot = entry.get("snap") or ""
    snapshot = "" if snapshot == "-" else snapshot.lstrip("@")
    spec = Spec(entry["pool"], entry.get("namespace") or "", entry["image"], snapshot)
    fsid, image_id, snapshot_id = (environ.get(MARK, "").split(".") + ["", ""])[:3]
    fault = None if image_id else "rbd-nbd (pid {}) was started by hand, so that the id of the image is not known".format(pid)
    return Mapping(spec, device, NAME, _read_only(device), pid, fsid, image_id, int(snapshot_id) if snapshot_id else None, fault)


def _dead(served):
    """Return the mappings whose daemon is dead and whose device is still in use; one that nobody uses is the kernel's to give again."""
    found = []
    for path in sorted(glob.glob(os.path.join(RECORDS, "*"))):
        if path.count(".", len(RECORDS)) != 2:
            continue  # is being written
        try:
            with open(path) as file:
                kept = json.load(file)
        except (OSError, ValueError):
            continue  # unmapped just now
        if kept["device"] in served or proc.start_of(kept["pid"]) == kept["start"]:
            continue
        mapping = recorded(os.path.basename(path), kept)
        if device_users.users(mapping):
            found.append(mapping)
    return found


def recorded(name, kept):
    """Return the :class:`Mapping` of a record, named FSID.IMAGE_ID.SNAPSHOT_ID, whose rbd-nbd is dead."""
    fsid, image_id, snapshot_id = name.split(".")
    fault = "its rbd-nbd (pid {}) is dead".format(kept["pid"])
    ids = (fsid, image_id, int(snapshot_id) or None, fault, kept.get("encryption", ""))
    return Mapping(Spec(*kept["spec"]), kept["device"], NAME, kept["read_only"], None, *ids)


def _record(mapping):
    return os.path.join(RECORDS, "{}.{}.{}".format(mapping.fsid, mapping.image_id, mapping.snapshot_id or 0))


def _read_only(device):
    try:
        with open("/sys/block/{}/ro".format(os.path.basename(device))) as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def attach(wanted):
    """Start rbd-nbd for the image and return the :class:`Mapping`."""
    kernel.load_module("nbd", SYSFS)
    mark = ".".join([wanted.fsid, wanted.image_id] + ([str(wanted.snapshot_id)] if wanted.snapshot_id else []))
    settings = wanted.ceph.settings
    argv = ["rbd-nbd", "map", str(wanted.spec)] + _words(wanted.options) + ["--read-only"] * wanted.read_only
    argv += ["--exclusive"] * (wanted.exclusive and "exclusive-lock" in wanted.features)
    argv += _hook(wanted)
    env = {MARK: mark, quiesce_program.ENV: json.dumps({key: getattr(settings, key) for key in _HOOK_KEYS})}
    os.makedirs(RUN, mode=0o700, exist_ok=True)
    what, before = "RBD volume {}".format(wanted.spec), boot.unit(link_path(wanted.fsid, wanted.spec))
    service = ("rbd-volume-" + mark, what)
    if wanted.key:
        with secret.handed(wanted.key.passphrase) as path:
            argv += ["--encryption-format", wanted.key.format, "--encryption-passphrase-file", path]
            # Making the key of a passphrase takes seconds, and far more on a busy host.
            slow = max(settings.timeout, settings.progress_timeout)
            launch.start(argv + command_args(settings), *service, slow, before, env=env)
    else:
        launch.start(argv + command_args(settings), *service, settings.timeout, before, env=env)
    for mapping in _living():
        if (mapping.fsid, mapping.image_id, mapping.snapshot_id) == (wanted.fsid, wanted.image_id, wanted.snapshot_id):
            launch.leave_control_group(mapping.pid)
            _remember(mapping)
            kernel.node(mapping.device)
            return mapping
    raise errors.NotConverged("rbd-nbd ended without an error for {}, but lists no device for it.".format(wanted.spec))


def check(options):
    """Raise :class:`InvalidArgument` for an option that the driver does not take."""
    for key, value in options:
        if key == "quiesce" and value not in (None, "off"):
            raise errors.InvalidArgument("The option quiesce of the driver nbd is True or False, not {}.".format(value))
        if key.replace("_", "-") in _OURS:
            raise errors.InvalidArgument("The option {} of rbd-nbd is set by an argument of its own, or by the pillar.".format(key))


def _hook(wanted):
    """Return the words by which rbd-nbd runs our hook before and after a snapshot; Ceph 16 is the first that has it."""
    if wanted.read_only or not wants_hook(wanted.options) or "--quiesce-hook" not in run(["rbd-nbd", "--help"], 30, ok=None).out:
        return []
    return ["--quiesce", "--quiesce-hook", quiesce_program.hook()]


def wants_hook(options):
    """False where the options say ``quiesce: False``; pure."""
    return ("quiesce", "off") not in options


def _words(options):
    words = []
    for key, value in options:
        if key == "quiesce":
            continue  # see wants_hook
        words += ["--" + key] + ([] if value is None else [value])
    return words


def detach(mapping, limit):
    """Unmap the device and wait until rbd-nbd has written back and ended. One whose rbd-nbd is dead ended with its last user."""
    if mapping.pid is None:
        _forget(mapping)
        return
    start = proc.start_of(mapping.pid)
    run(["rbd-nbd", "unmap", mapping.device], limit)
    until = time.monotonic() + limit
    while start is not None and proc.start_of(mapping.pid) == start:
        if time.monotonic() > until:
            raise errors.CommandTimeout(
                "{} is unmapped, but its rbd-nbd (pid {}) did not end within {:g} s.".format(mapping.spec, mapping.pid, limit)
            )
        time.sleep(0.05)
    _forget(mapping)


def _remember(mapping):
    kept = {key: getattr(mapping, key) for key in ("spec", "device", "read_only", "pid", "encryption")}
    os.makedirs(RECORDS, mode=0o700, exist_ok=True)
    keep(_record(mapping), json.dumps(dict(kept, start=proc.start_of(mapping.pid))))


def _forget(mapping):
    try:
        os.unlink(_record(mapping))
    except FileNotFoundError:
        pass  # it was mapped by hand


def refresh(mapping, size, limit, offset=0):
    """rbd-nbd hears of a new size by itself; wait until the device has it, without the ``offset`` bytes of a LUKS header."""
    until = time.monotonic() + limit
    while size_of(mapping.device) < (size - offset) // 512 * 512:
        if time.monotonic() > until:
            raise errors.NotConverged("{} has {} bytes, not the image's {}.".format(mapping.device, size_of(mapping.device), size - offset))
        time.sleep(0.1)
