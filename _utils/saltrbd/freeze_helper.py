"""The process that freezes and thaws filesystems, so that none stays frozen because somebody died.

Started by ``saltrbd.freeze`` as ``PYTHON -E -s -S freeze_helper.py PARENT_PID``; the first line on stdin is JSON:
``{"targets": [{"name", "path", "number"}], "limit": SECONDS, "marks": FOLDER, "stays": BOOL, "watch": [PID, START] or null}``; then
come the lines ``sync``, ``freeze`` and ``thaw``. Each event is a JSON line on stdout: armed, synced, frozen, failed (``busy``: by a
freeze of somebody else), thawed (with ``why`` and ``seconds``), end. It thaws when it is told, also by SIGUSR1, ``limit`` seconds after
the first freeze began, when the process to ``watch`` is gone, and when whoever asked is gone, unless it ``stays``. What it holds stands
in ``marks``: a file named by the device's number. Who renames that to NUMBER.kept before the thaw keeps it frozen until it is renamed back,
or until the limit. A second process, the guard, holds the same filesystems open and thaws them if this one is killed or stopped.
Standard library only, Python 3.6 or newer.
"""

import ctypes
import errno
import fcntl
import json
import os
import queue
import select
import signal
import sys
import threading
import time

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
# Seconds past the time limit after which the guard takes a stopped helper for lost.
GUARD_GRACE = 3.0
RETRY = 0.2
# With mlockall a thread's whole stack may become resident.
STACK = 256 << 10
# What becomes of a mark: see above.
THAWING, KEPT = ".thawing", ".kept"
_DEAF = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR2)

libc = ctypes.CDLL(None, use_errno=True)


def arm():
    """Become hard to stop, to swap out and to pick for the out-of-memory killer."""
    for number in _DEAF:
        signal.signal(number, signal.SIG_IGN)
    threading.stack_size(STACK)
    if libc.mlockall(1 | 2 | 4) != 0:  # current, future, on fault; older kernels know only the first two
        libc.mlockall(1 | 2)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
    except OSError:
        pass  # it takes a capability that a container may lack


def thaw(descriptor):
    """Thaw until it is done; return False when it was not frozen any more: somebody else thawed it."""
    while True:
        try:
            fcntl.ioctl(descriptor, FITHAW, 0)
            return True
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
        time.sleep(RETRY)


def lives(pid, start):
    """True while the process that began at this clock tick since the boot has not ended."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and int(fields[19]) == start


def guard(pipe, descriptors, limit, helper):
    """Wait for the helper's end. What it had frozen, or was about to freeze, is thawed here when it did not do it."""
    held, buffer, until = set(), b"", None
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        if not select.select([pipe], [], [], left)[0]:
            if os.getppid() == helper:  # still there past the limit: it was stopped
                os.kill(helper, signal.SIGKILL)
            until = None
            continue
        data = os.read(pipe, 4096)
        if not data:
            break
        *words, buffer = (buffer + data).split(b"\n")
        for word in words:
            index = int(word[1:])
            if word[:1] == b"+":
                held.add(index)
                until = until or time.monotonic() + limit + GUARD_GRACE
            else:
                held.discard(index)
        if not held:
            until = None
    threads = [threading.Thread(target=thaw, args=(descriptors[index],)) for index in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def is_kept(mark):
    """Say by the mark that it is being thawed, unless somebody else needs it frozen; return whether somebody does."""
    try:
        os.rename(mark, mark + THAWING)
    except FileNotFoundError:
        pass  # it is kept, was renamed before, or could not be made
    except OSError:
        return False
    # It may have been renamed back just now: then it is ours to rename the next time, or somebody's to keep once more.
    return any(os.path.exists(mark + suffix) for suffix in (KEPT, "", KEPT))


class Target:
    """One filesystem: its open root folder and whether it is frozen by us."""

    def __init__(self, index, told):
        self.index, self.name, self.path, self.number = index, told["name"], told["path"], told["number"]
        self.descriptor = self.error = self.started = None
        self.frozen = False
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            device = os.fstat(self.descriptor).st_dev
            if "{}:{}".format(os.major(device), os.minor(device)) != self.number:
                self.error = "something else is mounted over it"
        except OSError as error:
            self.error = error.strerror


class Helper:
    """Freezes, holds, thaws; every step that may block in the kernel has a thread of its own."""

    def __init__(self, order, parent):
        self.targets = [Target(index, told) for index, told in enumerate(order["targets"])]
        self.limit, self.marks, self.parent = float(order["limit"]), order["marks"], parent
        self.stays, self.watch = order["stays"], order["watch"]
        self.events = queue.Queue()
        self.lock = threading.Lock()
        self.expires = None  # set by the first freeze
        self.let_go = None  # the reason, once thawing has begun
        self.asker_gone = self.told = False
        self.threads = []

    def say(self, **event):
        """Tell the asker; one that is gone is no reason to stop."""
        try:
            os.write(1, (json.dumps(event) + "\n").encode("ascii"))
        except OSError:
            pass

    def start_guard(self):
        """Fork the guard, before there is a thread."""
        here, there = os.pipe()
        helper = os.getpid()
        self.guard = os.fork()
        if self.guard == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            os.close(there)
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1):
                os.dup2(null, standard)
            try:
                guard(here, [target.descriptor for target in self.targets], self.limit, helper)
            finally:
                os._exit(0)
        os.close(here)
        self.pipe = there

    def tell_guard(self, sign, target):
        """Say that a freeze begins (+) or that nothing is left to thaw (-). Raises OSError when the guard is gone."""
        os.write(self.pipe, "{}{}\n".format(sign, target.index).encode("ascii"))

    def sync(self):
        """Write back what is dirty, of all filesystems at once."""
        for target in self.targets:
            self.spawn(self.sync_one, target)

    def sync_one(self, target):
        """Write back what is dirty of one filesystem."""
        if libc.syncfs(target.descriptor) != 0:
            self.say(event="failed", name=target.name, error="syncing: " + os.strerror(ctypes.get_errno()))
            return
        self.say(event="synced", name=target.name)

    def freeze(self):
        """Freeze all filesystems at once; the clock runs from here."""
        self.expires = time.monotonic() + self.limit
        for target in self.targets:
            self.spawn(self.freeze_one, target)

    def freeze_one(self, target):
        """Freeze one filesystem, and thaw it at once when all are to be thawed by then."""
        try:
            self.tell_guard("+", target)
        except OSError:
            self.say(event="failed", name=target.name, error="the process that guards the freeze is gone")
            return
        try:
            target.started = time.monotonic()
            fcntl.ioctl(target.descriptor, FIFREEZE, 0)
        except OSError as error:
            self.forget(target)
            busy = error.errno == errno.EBUSY
            text = "it is frozen already, by somebody else" if busy else error.strerror
            self.say(event="failed", name=target.name, error=text, busy=busy)
            return
        self.mark(target)
        with self.lock:
            target.frozen = True
            late = self.let_go
        if late:
            self.thaw_one(target, late)
            return
        self.say(event="frozen", name=target.name)

    def thaw(self, why):
        """Begin to thaw all that is frozen; a freeze that is still on its way is undone when it arrives."""
        with self.lock:
            if self.let_go:
                return
            self.let_go = why
            frozen = [target for target in self.targets if target.frozen]
        for target in frozen:
            self.spawn(self.thaw_one, target, why)

    def thaw_one(self, target, why):
        """Thaw one filesystem and say how long it stood still."""
        intact = thaw(target.descriptor)
        seconds = time.monotonic() - target.started
        self.forget(target)
        self.unmark(target)
        self.say(event="thawed", name=target.name, why=why, intact=intact, seconds=seconds)

    def forget(self, target):
        """Tell the guard that there is nothing to thaw."""
        try:
            self.tell_guard("-", target)
        except OSError:
            pass  # nobody is there who could thaw it a second time

    def mark(self, target):
        """For ``rbd_filesystem.thaw`` and for the next freeze: who holds this filesystem. What is there is of one that was killed."""
        self.unmark(target)
        try:
            with open(os.path.join(self.marks, target.number), "w") as file:
                file.write(json.dumps({"pid": os.getpid(), "name": target.name, "path": target.path}))
        except OSError:
            pass  # then only the time limit thaws it

    def unmark(self, target):
        """Take the mark away, whatever has become of it."""
        for suffix in ("", THAWING, KEPT):
            try:
                os.unlink(os.path.join(self.marks, target.number + suffix))
            except OSError:
                pass

    def is_kept(self):
        """True while somebody else needs one of ours frozen; of the others nobody can keep one any more."""
        kept = [is_kept(os.path.join(self.marks, target.number)) for target in self.targets if target.frozen]  # each has to be renamed
        return any(kept)

    def spawn(self, function, *arguments):
        """Run a step in a thread of its own."""
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        self.threads.append(thread)

    def serve(self):
        """Read orders until all is thawed."""
        buffer = b""
        while not self.let_go:
            wait = 0.1 if self.expires is None else max(0.0, min(0.1, self.expires - time.monotonic()))
            if self.asker_gone:
                time.sleep(wait)
            elif select.select([0], [], [], wait)[0]:
                data = os.read(0, 4096)
                self.asker_gone = not data
                *orders, buffer = (buffer + data).split(b"\n")
                for order in orders:
                    self.obey(order)
            self.asker_gone = self.asker_gone or os.getppid() != self.parent
            if self.watch and not lives(*self.watch):
                self.thaw("gone")
            gone = self.asker_gone and not (self.stays and self.expires)
            if (self.told or gone) and not self.is_kept():
                self.thaw("told" if self.told else "gone")
            if self.expires is not None and time.monotonic() >= self.expires:
                self.thaw("limit")
        for thread in self.threads:
            thread.join()
        self.say(event="end")
        os.close(self.pipe)
        os.waitpid(self.guard, 0)

    def obey(self, order):
        """Carry out one line from stdin."""
        if order == b"sync":
            self.sync()
        elif order == b"freeze":
            self.freeze()
        elif order == b"thaw":
            self.told = True


def main():
    """Read the order, start the guard, serve."""
    arm()
    helper = Helper(json.loads(sys.stdin.buffer.raw.readline().decode("utf-8")), int(sys.argv[1]))
    wrong = [target for target in helper.targets if target.error]
    for target in wrong:
        helper.say(event="failed", name=target.name, error=target.error)
    if wrong:
        return
    signal.signal(signal.SIGUSR1, lambda number, frame: setattr(helper, "told", True))
    helper.start_guard()
    helper.say(event="armed", pid=os.getpid())
    helper.serve()


if __name__ == "__main__":
    main()
