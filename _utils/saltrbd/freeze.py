"""Filesystems that stand still: which can be frozen, holding them frozen, and for people a freeze that ends by itself.

The freezing is done by a process of its own (``freeze_helper``), which thaws when it is told, when its time is up, or when
Salt has gone. A step that blocks in the kernel (an OSD is down) is left and named; that process stays and thaws as
soon as the storage answers.
"""

import json
import os
import signal
import sys
import time
from collections import namedtuple
from contextlib import contextmanager

from saltrbd import device_find, errors, layers, proc
from saltrbd.freeze_helper import KEPT, THAWING
from saltrbd.freezer import GRACE, HELPER, Freezer
from saltrbd.mapping import RUN

# Where the helpers of freeze() say what they hold, and where those do whose freeze passes with a snapshot.
MARKS, PASSING = os.path.join(RUN, ".frozen"), os.path.join(RUN, ".passing")
_SUFFIXES = ("", THAWING, KEPT)
# Seconds from one try to freeze to the next while a freeze passes.
RETRY = 0.2
FS_TYPES = ("ext4", "xfs")
_OPTS = ("root_dir", "cachedir", "pki_dir", "sock_dir", "conf_file", "log_file", "pidfile", "extension_modules")

Target = namedtuple("Target", "spec mount_point device fs_type number")


def targets(ceph, specs, opts):
    """Return {spec: :class:`Target`, or the reason (text) why there is none} for image specs; ``opts`` is Salt's ``__opts__``.

    A target is the filesystem that this host has mounted read-write from the image: on its device, or on a layer over that device
    alone (LUKS, LVM, a partition); by a bind mount or in another mount namespace as well. The filesystem ``/`` and those that hold
    files of Salt, of this package or of Ceph's configuration are never one.
    """
    mounts, own = _mounts_by_device(), own_devices(ceph.settings, opts)
    mappings = _mappings(ceph, specs)
    return {spec: _target(spec, mappings[spec], mounts, own) for spec in specs}


def on_device(name, device, own):
    """Return the :class:`Target` on a device, with ``name`` for its spec, or the reason why there is none; ``own``: :func:`own_devices`."""
    return _on_device(name, device, _mounts_by_device(), own)


def _mounts_by_device():
    found = {}
    for mount in proc.all_mounts():
        found.setdefault(mount.device, []).append(mount)
    return found


def _mappings(ceph, specs):
    """Return {spec: mapping or None}, faulty ones as well. Raises :class:`PermissionDenied` for a spec that may not be read."""
    here = device_find.mapped_list(ceph)
    found = {mapping.spec: mapping for mapping in here if not mapping.fault}
    # An image may have been renamed: then its device is known by its id, and its old name is the faulty one, in the same place.
    doubtful = {(mapping.spec.pool, mapping.spec.namespace) for mapping in here if mapping.fault}
    look = [spec for spec in specs if spec not in found and (spec.pool, spec.namespace) in doubtful]
    found.update((spec, device_find.find(ceph, spec)) for spec in look)
    return {spec: found.get(spec) for spec in specs}


def _target(spec, mapping, mounts, own):
    if mapping is None:
        return "it is not mapped on this host"
    if mapping.fault:
        return "its device on this host is of no use: {}".format(mapping.fault)
    return _on_device(spec, mapping.device, mounts, own)


def _on_device(spec, device, mounts, own):
    numbers, shared = layers.above(number_of(device))
    if shared:
        return "{} stands on it and on other devices as well, so that no freeze of this image alone holds it".format(", ".join(shared))
    return chosen(spec, device, [mount for number in numbers for mount in mounts.get(number, ())], own)


def chosen(spec, device, mounts, own):
    """Return the :class:`Target` among all mounts of an image, or the reason why there is none; ``own`` is from :func:`own_devices`."""
    if not mounts:
        return "no filesystem of it is mounted on this host"
    writable = [mount for mount in mounts if "rw" in mount.super_options.split(",")]
    if not writable:
        return "its filesystem is mounted read-only on {}".format(_place(mounts[0]))
    if len({mount.device for mount in writable}) > 1:
        return "several filesystems stand on it ({})".format(", ".join(sorted({_place(mount) for mount in writable})))
    # Ours before those of other namespaces, all of it before a folder of it, and rather one that nothing covers.
    mount = min(reversed(writable), key=lambda one: (not _is_seen(one), one.pid != "self", one.root != "/"))
    if mount.fs_type not in FS_TYPES:
        return "its filesystem on {} is {}, not one of {}".format(_place(mount), mount.fs_type, ", ".join(FS_TYPES))
    if mount.device in own:
        return "its filesystem on {} holds {}, which must not stand still".format(_place(mount), own[mount.device])
    return Target(spec, _place(mount), device, mount.fs_type, mount.device)


def _place(mount):
    """Return the path by which this process reaches a mount."""
    return mount.point if mount.pid == "self" else "/proc/{}/root{}".format(mount.pid, mount.point)


def _is_seen(mount):
    try:
        device = os.stat(_place(mount)).st_dev
    except OSError:
        return False
    return "{}:{}".format(os.major(device), os.minor(device)) == mount.device


def number_of(path):
    """Return "major:minor" of a block device."""
    number = os.stat(path).st_rdev
    return "{}:{}".format(os.major(number), os.minor(number))


def own_devices(settings, opts, pids=("self",)):
    """Return {"major:minor": path} of the filesystems that hold what Salt, this package and Ceph's clients need, and what ``pids`` have
    open."""
    paths = ["/", sys.executable, sys.prefix, __file__, "/tmp", "/var/log", settings.conf, settings.keyring]  # noqa: S108
    paths += [opts.get(key) for key in _OPTS] + list(opts.get("module_dirs") or ())
    found = {}
    for path in paths:
        if path and isinstance(path, str) and os.path.isabs(path):
            found.setdefault(_filesystem(path), path)
    for path in [path for pid in pids for path in _open_files(pid)]:
        try:
            if os.readlink(path).startswith("/") and not os.readlink(path).startswith("/dev/"):
                found.setdefault(_filesystem(path), os.readlink(path))
        except OSError:
            continue  # the one that listed the folder
    return found


def _open_files(pid):
    folder = "/proc/{}/fd".format(pid)
    return [os.path.join(folder, name) for name in (os.listdir(folder) if os.path.isdir(folder) else ())]


def _filesystem(path):
    while True:
        try:
            number = os.stat(path).st_dev
        except OSError:
            path = os.path.dirname(path)
            continue
        return "{}:{}".format(os.major(number), os.minor(number))


class Hold:
    """What became of a freeze: after it ``seconds`` that each stood still, by spec, and ``intact``."""

    def __init__(self):
        self.seconds, self.intact = {}, False


@contextmanager
def held(targets, settings):
    """Hold the filesystems of ``{spec: Target}`` frozen while the body runs, and yield a :class:`Hold`.

    They are synced first, so that the standstill is short. All are frozen or none: raises :class:`FreezeFailed` or
    :class:`CommandTimeout` otherwise. After the body, ``hold.intact`` is True if every one stood still until we thawed it,
    and ``hold.seconds`` says how long. They are thawed after ``settings.freeze_timeout`` seconds at the latest.
    """
    helper = patiently(lambda: _frozen(targets, settings, PASSING), targets, settings)
    hold = Hold()
    try:
        try:
            yield hold
        finally:
            helper.thaw()
        hold.intact = helper.intact()
        hold.seconds = {spec: helper.thawed[str(spec)]["seconds"] for spec in targets if str(spec) in helper.thawed}
    finally:
        helper.leave()


def freeze(targets, settings, seconds=None, marks=MARKS, watch=None):
    """Freeze the filesystems of ``{spec: Target}`` for at most ``seconds`` (``settings.freeze_timeout``); they stay frozen when we end.

    All are frozen or none. Raises :class:`FreezeFailed` or :class:`CommandTimeout`. :func:`thaw` ends it earlier, and so does the end of
    the process ``watch`` ([pid, start]).
    """
    _frozen(targets, settings, marks, seconds, True, watch).leave(frozen=True)


def _frozen(targets, settings, marks, *more):
    """Return the :class:`Freezer` that holds them all."""
    os.makedirs(marks, mode=0o700, exist_ok=True)
    helper = Freezer(targets, settings, marks, *more)
    try:
        helper.prepare()
        helper.freeze()
    except BaseException:
        helper.leave()
        raise
    return helper


def patiently(begin, targets, settings):
    """Return ``begin()``, which freezes; while a freeze for another snapshot stands in its way, that one is waited for.

    It passes within ``settings.freeze_timeout``. Raises what ``begin`` raises.
    """
    until, strange = time.monotonic() + settings.freeze_timeout + GRACE, 0
    numbers = {str(spec): target.number for spec, target in targets.items()}
    while True:
        try:
            return begin()
        except errors.FreezeFailed as error:
            passing = any(_holder(path + suffix) for path in (_passing(numbers[name]) for name in error.busy) for suffix in _SUFFIXES)
            # One that just begins or ends has no mark.
            strange = 0 if passing else strange + 1
            if set(error.busy) != set(error.blocked) or not error.busy or strange > 1 or time.monotonic() > until:
                raise
        time.sleep(RETRY)


def thaw(targets, settings):
    """End what :func:`freeze` began, for the filesystems of ``{spec: Target}`` and those frozen together with them.

    Returns the names of all that are thawed. What somebody else froze is not touched. Raises :class:`FreezeFailed`, or
    :class:`CommandTimeout` when the storage does not answer.
    """
    pids = set()
    for spec, target in targets.items():
        path = os.path.join(MARKS, target.number)
        pid = _holder(path)
        if pid is None:
            raise errors.FreezeFailed(
                "The filesystem of {} on {} was not frozen by rbd_filesystem.freeze. If somebody else froze it: fsfreeze "
                "--unfreeze {}.".format(spec, target.mount_point, target.mount_point)
            )
        pids.add(pid)
    marks = [_mark(os.path.join(MARKS, name)) for name in os.listdir(MARKS)]
    ours = sorted(mark["name"] for mark in marks if mark and mark["pid"] in pids)
    _end(pids, ours, settings)
    return ours


def thaw_passing(name, settings):
    """End what the quiesce hook froze for the device ``name``; return whether anything of it was there. Raises :class:`CommandTimeout`."""
    marks = [os.path.join(PASSING, number) for number in (os.listdir(PASSING) if os.path.isdir(PASSING) else ())]
    pids = {_holder(path) for path in marks if (_read(path) or {}).get("name") == name} - {None}
    _end(pids, [name], settings)
    return bool(pids)


def keep(number):
    """Let what stands still for a snapshot of Salt's go on to do so until :func:`unkeep`, or until its time is up.

    Returns False where nothing does, or where it is being thawed: freeze it then. To wait for Salt to thaw it would be a deadlock: librbd
    makes an image's snapshots one after the other, and Salt's may wait for the one that we are asked for.
    """
    try:
        os.rename(_passing(number), _passing(number) + KEPT)
    except OSError:
        return False
    return _holder(_passing(number) + KEPT) is not None


def unkeep(number):
    """End :func:`keep`; return False where its time was up before, or who held it is dead.

    It is Salt's again: the next snapshot that somebody makes meanwhile can keep it, and another run of Salt waits for it.
    """
    held = _holder(_passing(number) + KEPT) is not None
    try:
        os.rename(_passing(number) + KEPT, _passing(number)) if held else os.unlink(_passing(number) + KEPT)
    except OSError:
        return False
    return held


def _passing(number):
    return os.path.join(PASSING, number)


def _end(pids, names, settings):
    """Let these helpers thaw what they hold, and wait for it."""
    holders = {pid: proc.start_of(pid) for pid in pids}
    for pid in holders:
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            pass  # its time was up just now
    until = time.monotonic() + settings.timeout
    while any(start is not None and proc.start_of(pid) == start for pid, start in holders.items()):
        if time.monotonic() > until:
            raise errors.CommandTimeout(
                "The filesystems of {} did not thaw within {:g} s; {} try on and thaw them when the storage answers.".format(
                    ", ".join(names), settings.timeout, ", ".join("pid {}".format(pid) for pid in holders)
                )
            )
        time.sleep(0.05)


def _read(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _mark(path):
    """Return what a helper says there of what it holds, or None where none does, or it is gone."""
    mark = _read(path)
    if mark is None or os.path.basename(HELPER) not in " ".join(proc.argv_of(mark["pid"])):
        return None
    return mark


def _holder(path):
    """Return the pid of the helper that left this mark, or None for a helper that is gone."""
    return (_mark(path) or {}).get("pid")
