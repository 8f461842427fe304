"""Finding and ending processes by what their command line says, never by a bare number or a name.

A pid that was written down can belong to somebody else by now. So every process is looked up in
/proc by its arguments, held by a pidfd, and looked at once more before it gets a signal.
"""

import os
import signal
import time
from pathlib import Path


def arguments(pid):
    """Return the argument list of a process, or an empty list where it is gone or a kernel thread."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in raw.split(b"\0")[:-1]]


def state(pid):
    """Return the one-letter state of a process (R, S, D, T, Z ...), or an empty string where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def find(wanted):
    """Return the pids, oldest first, whose argument list satisfies ``wanted(arguments)``; never our own.

    A container's processes are left out: the same path in their arguments is another file there.
    """
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return sorted(pid for pid in pids if pid != os.getpid() and _matches(pid, wanted))


def _matches(pid, wanted):
    argv = arguments(pid)
    return bool(argv) and wanted(argv) and state(pid) != "Z" and _namespace(pid) == _namespace("self")


def _namespace(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def end(pids, wanted, patience=10):
    """End the processes that still satisfy ``wanted``: politely first, then for sure.

    Returns the pids that are there even after SIGKILL: the kernel holds them in an uninterruptible wait.
    """
    held = {}
    try:
        for pid in pids:
            try:
                held[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            if not _matches(pid, wanted):
                os.close(held.pop(pid))
        for sign, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 5)):
            for fd in held.values():
                _send(fd, sign)
                # A stopped process gets its SIGTERM only when it goes on.
                _send(fd, signal.SIGCONT)
            deadline = time.monotonic() + wait
            while held and time.monotonic() < deadline:
                for pid in [pid for pid in held if state(pid) in ("", "Z")]:
                    os.close(held.pop(pid))
                time.sleep(0.05)
        return sorted(held)
    finally:
        for fd in held.values():
            os.close(fd)


def _send(fd, sign):
    try:
        signal.pidfd_send_signal(fd, sign)
    except ProcessLookupError:
        pass


def resume(pids):
    """Let processes that were stopped (state T) go on."""
    for pid in pids:
        if state(pid) == "T":
            os.kill(pid, signal.SIGCONT)
