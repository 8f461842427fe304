"""Running the tools of this host: argument lists, a time limit for each, and never a wait without an end.

``subprocess.run(timeout=...)`` kills its child at the limit and then waits for it. A child that sleeps in the kernel
(state D: mkfs, umount or fsfreeze while an OSD is down) does not die, and Salt would hang with it. So here the output
goes into files, not pipes, and a child that survives SIGKILL is left and named.
"""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections import namedtuple

from saltrbd import errors
from saltrbd.proc import stuck

Result = namedtuple("Result", "code out err")

# Seconds that a killed child gets to disappear.
KILL_WAIT = 2.0
# Lines of a failed tool's stderr that its error carries.
LAST_LINES = 6
_READ_AT_MOST = 1 << 26

# Which Debian package brings a tool, for the message of CommandNotFound.
PACKAGES = {
    "blkdiscard": "util-linux",
    "blkid": "util-linux",
    "blockdev": "mount",
    "btrfs": "btrfs-progs",
    "ceph": "ceph-common",
    "cryptsetup": "cryptsetup-bin",
    "dd": "coreutils",
    "e2fsck": "e2fsprogs",
    "e2label": "e2fsprogs",
    "findmnt": "util-linux",
    "fsfreeze": "util-linux",
    "fstrim": "util-linux",
    "fuser": "psmisc",
    "fusermount3": "fuse3",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "modprobe": "kmod",
    "mount": "mount",
    "od": "coreutils",
    "qemu-storage-daemon": "qemu-utils and qemu-block-extra",
    "rados": "ceph-common",
    "rbd": "ceph-common",
    "rbd-nbd": "rbd-nbd",
    "resize2fs": "e2fsprogs",
    "systemctl": "systemd",
    "systemd-run": "systemd",
    "tune2fs": "e2fsprogs",
    "umount": "mount",
    "unshare": "util-linux",
    "xfs_admin": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "xfs_io": "xfsprogs",
    "xfs_logprint": "xfsprogs",
    "xfs_repair": "xfsprogs",
}
# Salt's own PATH may lack the folders of system tools.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(extra=None):
    """Return the environment of a tool: C locale, system folders in PATH, nothing of Salt's own Python or Ceph's arguments."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "LC_", "LANG")) and key not in ("LD_LIBRARY_PATH", "LD_PRELOAD", "CEPH_ARGS")
    }
    folders = kept.get("PATH", "").split(":") + _PATH.split(":")
    kept.update(LC_ALL="C", LANGUAGE="C", PATH=":".join(dict.fromkeys(folder for folder in folders if folder)))
    kept.update(extra or {})
    return kept


def which(tool):
    """Return the path of a tool, or None."""
    for folder in environment()["PATH"].split(":"):
        path = os.path.join(folder, tool)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(argv, limit, input=None, ok=(0,), env=None, device=None):
    """Run ``argv`` for at most ``limit`` seconds and return ``Result(code, out, err)``, the outputs as text.

    With ``device`` (a path such as /dev/rbd0) the limit counts from the last input or output that this block device completed.
    ``input`` is text for stdin (else /dev/null), which stays in memory: it may be a secret. ``ok`` are the exit codes that are no error
    (None: all), ``env`` is added to the environment. Raises :class:`CommandNotFound`, :class:`CommandFailed` with the last
    lines of stderr, or :class:`CommandTimeout`; then the whole process group got SIGKILL, and a child that is still there is named
    with its pid, state and kernel function. Example: ``run(["blkid", "-p", "/dev/rbd0"], 30, ok=(0, 2))``.
    """
    argv = [str(word) for word in argv]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _in_memory() as stdin:
        if input is not None:
            stdin.write(input.encode("utf-8"))
            stdin.seek(0)
        process = _start(argv, stdin if input is not None else subprocess.DEVNULL, out, err, env)
        try:
            code = _wait(process, limit, device)
        except subprocess.TimeoutExpired:
            raise errors.CommandTimeout(_ended(argv, process, limit) + _words(err))
        except BaseException:
            _kill(process)
            raise
        result = Result(code, _text(out), _text(err))
    if ok is not None and code not in ok:
        raise errors.CommandFailed(_failure(argv, result))
    return result


def _in_memory():
    return os.fdopen(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b")


def _wait(process, limit, device):
    """Return the exit code; raises TimeoutExpired."""
    until, seen = time.monotonic() + limit, _completed(device)
    while not _ends(process, until - time.monotonic() if device is None else min(1.0, until - time.monotonic())):
        now = _completed(device)
        if now != seen:
            until, seen = time.monotonic() + limit, now
        if time.monotonic() >= until:
            raise subprocess.TimeoutExpired(process.args, limit)
    return process.wait()


def _ends(process, seconds):
    """Wait for the end of a child; return whether it came."""
    seconds = max(0.0, seconds)
    try:
        descriptor = os.pidfd_open(process.pid)  # Python 3.9, Linux 5.3: no polling, which would cost up to 50 ms
    except (AttributeError, OSError):
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _completed(device):
    """Return what a block device has read, written and discarded so far."""
    if device is None:
        return None
    try:
        with open("/sys/class/block/{}/stat".format(os.path.basename(device))) as file:
            fields = file.read().split()
    except OSError:
        return None
    return [fields[index] for index in (0, 2, 4, 6, 11, 13) if index < len(fields)]


def _start(argv, stdin, out, err, env):
    try:
        return subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=err, env=environment(env), cwd="/", start_new_session=True)
    except FileNotFoundError:
        tool = os.path.basename(argv[0])
        hint = "; install {} (Debian's name)".format(PACKAGES[tool]) if tool in PACKAGES else ""
        raise errors.CommandNotFound("The command {} is not installed on this host{}.".format(tool, hint))
    except OSError as error:
        raise errors.CommandFailed("The command {} cannot be run: {}.".format(argv[0], error.strerror))


def _kill(process):
    """Kill the process group; return whether the child is gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)  # the child is not reaped yet, so its pid is its own
    except OSError:
        pass
    try:
        process.wait(timeout=KILL_WAIT)
    except subprocess.TimeoutExpired:
        return False
    return True


def _ended(argv, process, limit):
    text = "The command '{}' did not end within {:g} s".format(" ".join(argv), limit)
    if _kill(process):
        return text + " and was killed."
    left = stuck(process.pid)
    # Python would wait for the child when it drops the object; this one is init's from now on.
    process.returncode = -signal.SIGKILL
    return text + "; it survives SIGKILL and is left behind: {}. It ends when the storage answers again.".format(left)


def _text(file):
    file.seek(0)
    return file.read(_READ_AT_MOST).decode("utf-8", "replace")


def _words(err):
    lines = [line.strip() for line in _text(err).splitlines() if line.strip()][-LAST_LINES:]
    return " It said: {}".format(" / ".join(lines)) if lines else ""


def _failure(argv, result):
    lines = [line.strip() for line in (result.err or result.out).splitlines() if line.strip()][-LAST_LINES:]
    how = "with code {}".format(result.code) if result.code >= 0 else "by signal {}".format(-result.code)
    return "The command '{}' ended {}{}".format(" ".join(argv), how, ": " + " / ".join(lines) if lines else ".")
