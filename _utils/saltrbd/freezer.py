"""The freezing process (``freeze_helper``), seen from Salt: start, orders, events, time limits."""

import json
import os
import selectors
import subprocess
import sys
import time

from saltrbd import errors, launch, proc
from saltrbd.process import SYSTEM_PYTHON
from saltrbd.run import environment

HELPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "freeze_helper.py")
# Seconds that the process gets to be there, and to answer after the time limit has passed.
START, GRACE = 10.0, 2.0
# What ends the minion with its whole control group must not reach the process. systemd-run becomes the process itself, so that it stays
# our child; where no systemd runs, or starts no scope, it is moved to the roots of the control groups.
_SCOPE = ["systemd-run", "--scope", "--quiet", "--collect", "--slice=system.slice", "--"]


class Freezer:
    """The helper process, seen from Salt: it marks in the folder ``marks`` what it holds, goes on after us where it ``stays``, and ends
    with the process ``watch`` ([pid, start])."""

    def __init__(self, targets, settings, marks, seconds=None, stays=False, watch=None):
        self._targets = {str(spec): target for spec, target in targets.items()}
        self._settings, self._limit = settings, float(seconds or settings.freeze_timeout)
        self._process, self._buffer = None, b""
        self._armed = self._ended = False
        self._is_stuck = False
        self._synced, self._frozen, self._failed, self._busy = set(), set(), {}, set()
        self.thawed = {}
        told = [{"name": name, "path": one.mount_point, "number": one.number} for name, one in self._targets.items()]
        order = {"targets": told, "limit": self._limit, "marks": marks, "stays": stays, "watch": watch}
        self._order = json.dumps(order).encode("ascii") + b"\n"

    def prepare(self):
        """Start the process, wait until it is armed, and let it write back what is dirty."""
        if not (launch.has_systemd() and self._start(_SCOPE)):
            self._start([])
        if self._failed:
            raise self._failure()
        if not self._armed:
            raise errors.FreezeFailed("The process that freezes did not answer within {:g} s; nothing was frozen.".format(START))
        self._send(b"sync\n")
        self._sync()

    def freeze(self):
        """Freeze all, or raise with none of them frozen."""
        self._send(b"freeze\n")
        all_frozen = self._pump(self._limit + GRACE, lambda: self._frozen >= set(self._targets))
        if all_frozen and not self.thawed:
            return
        self._send(b"thaw\n")
        self._pump(GRACE, lambda: set(self.thawed) >= self._frozen, past_failures=True)
        if self._failed:
            raise self._failure()
        missing = set(self._targets) - self._frozen
        if not missing:
            raise errors.FreezeFailed("{} stood still for {:g} s before all were frozen.".format(self._places(self.thawed), self._limit))
        raise errors.CommandTimeout(
            "{} did not freeze within {:g} s, so nothing is frozen. {}".format(self._places(missing), self._limit, self._stuck())
        )

    def thaw(self):
        """Thaw all; raises :class:`CommandTimeout` when that is not done within the limit."""
        self._send(b"thaw\n")
        if not self._pump(self._settings.timeout, lambda: set(self.thawed) >= self._frozen) and not self._ended:
            missing = self._frozen - set(self.thawed)
            raise errors.CommandTimeout(
                "{} did not thaw within {:g} s. {}".format(self._places(missing), self._settings.timeout, self._stuck())
            )

    def intact(self):
        """True if every filesystem was thawed because we said so, and had stood still until then."""
        told = [name for name, event in self.thawed.items() if event["why"] == "told" and event["intact"]]
        return set(told) == set(self._targets)

    def leave(self, frozen=False):
        """Let go of the process: it ends by itself when nothing is ``frozen`` any more."""
        if self._process is None:
            return
        self._process.stdin.close()
        if not self._is_stuck and not frozen:
            try:
                self._process.wait(timeout=GRACE)  # it has the filesystem open until it ends
            except subprocess.TimeoutExpired:
                pass
        self._process.stdout.close()

    def _start(self, prefix):
        """Start the process; return whether it is armed or has refused."""
        words = prefix + [sys.executable or SYSTEM_PYTHON, "-E", "-s", "-S", HELPER, str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise errors.FreezeFailed("The process that freezes could not be started: {}.".format(error.strerror))
        self._ended = False
        if not prefix:  # before it starts its guard
            launch.move_to_roots(self._process.pid)
        self._send(self._order)
        self._pump(START, lambda: self._armed)
        return self._armed or bool(self._failed)

    def _sync(self):
        """Wait until all is written back; the limit counts from the last sector that was written."""
        written, until = None, 0.0
        while not self._pump(1.0, lambda: self._synced >= set(self._targets)):
            missing = set(self._targets) - self._synced
            if self._failed or self._ended:
                raise self._failure()
            now = [_sectors_written(self._targets[name].number) for name in sorted(missing)]
            if now != written:
                written, until = now, time.monotonic() + self._settings.timeout
            if time.monotonic() > until:
                raise errors.CommandTimeout(
                    "{} could not be written back, without progress for {:g} s, so nothing was frozen. {}".format(
                        self._places(missing), self._settings.timeout, self._stuck()
                    )
                )

    def _send(self, order):
        try:
            self._process.stdin.write(order)
        except OSError:
            pass  # that it is gone shows in its answers

    def _pump(self, limit, done, past_failures=False):
        """Read events until ``done()``, a failure, the end or the limit in seconds; return ``done()``."""
        until = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not (done() or self._ended or (self._failed and not past_failures)):
                if not selector.select(max(0.0, until - time.monotonic())):
                    break
                data = os.read(self._process.stdout.fileno(), 1 << 16)
                self._ended = not data
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    self._note(json.loads(line.decode("ascii")))
        return done()

    def _note(self, event):
        kind, name = event["event"], event.get("name")
        if kind == "armed":
            self._armed = True
        elif kind == "synced":
            self._synced.add(name)
        elif kind == "frozen":
            self._frozen.add(name)
        elif kind == "failed":
            self._failed[name] = event["error"]
            if event.get("busy"):
                self._busy.add(name)
        elif kind == "thawed":
            self._frozen.add(name)
            self.thawed[name] = event

    def _failure(self):
        if not self._failed:
            return errors.FreezeFailed("The process that freezes ended early; nothing is frozen.")
        reasons = ["{}: {}".format(self._places([name]), text) for name, text in sorted(self._failed.items())]
        return errors.FreezeFailed("Nothing is frozen. {}.".format("; ".join(reasons)), self._failed, self._busy)

    def _stuck(self):
        self._is_stuck = True
        return "Its process ({}) stays until the storage answers, and leaves nothing frozen.".format(proc.stuck(self._process.pid))

    def _places(self, names):
        return ", ".join("{} on {}".format(name, self._targets[name].mount_point) for name in sorted(names))


def _sectors_written(number):
    """Return how many sectors were written to a block device so far: whether writing back gets on."""
    try:
        with open("/sys/dev/block/{}/stat".format(number)) as file:
            return int(file.read().split()[6])
    except (OSError, IndexError, ValueError):
        return None
