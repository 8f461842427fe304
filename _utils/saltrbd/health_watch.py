"""When to look at the storage, and when to report: for the beacon ``rbd_health``, which must not wait for anything.

The look is a process of its own (:mod:`saltrbd.health_look`). Each turn takes some milliseconds: it starts one, sees whether it has ended,
or kills one that has not; and never waits.
"""

import json
import os
import subprocess
import sys
import time

from saltrbd import health, health_look, proc, run

_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from saltrbd import health_look; health_look.main()"
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# How often a change is reported: the first report may find no master.
REPEATS = 3
# One for each folder of a minion; it outlives a reload of the beacons.
_watches = {}


def watch_of(folder):
    """Return the :class:`Watch` of a minion, whose reports lie in this folder."""
    return _watches.setdefault(folder, Watch(folder))


class Watch:
    """The looks of one minion, one after the other."""

    def __init__(self, folder):
        self._folder = folder
        self._process = self._began = None
        self._next, self._killed, self._last = 0.0, False, None
        self._sent, self._sent_at, self._times = None, None, 0

    def turn(self, request, interval, now=None):
        """Return a report if one has come since the last turn, else None; start the next look when it is time.

        ``request()`` returns what :func:`saltrbd.health_look.look` takes; ``interval``: seconds from one look to the next.
        """
        now = time.monotonic() if now is None else now
        report = self._ended(now) if self._process else None
        if self._process is None and now >= self._next:
            self._next = now + interval
            self._start(request(), now)
        return report

    def _start(self, request, now):
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._began, self._killed = now, False
        started = "{}.{}".format(time.time(), os.getpid())
        stdin = os.fdopen(os.memfd_create("look", os.MFD_CLOEXEC), "w+b")
        with stdin:
            # In memory: the pillar's rbd: may hold a passphrase.
            stdin.write(json.dumps(dict(request, started=started)).encode("utf-8"))
            stdin.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-EsB", "-c", _CODE, _FOLDER, self._path()],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=run.environment(),
                cwd="/",
                start_new_session=True,
            )
        self._last = started

    def _path(self):
        return os.path.join(self._folder, "report.json")

    def _ended(self, now):
        if self._process.poll() is None:
            if now - self._began < health_look.LIMIT:
                return None
            if not self._killed:
                self._killed = True
                self._process.kill()  # its worker follows by itself
                return None
            if now < self._next:
                return None
            self._next = now + health_look.LIMIT
            return _lost("{} does not end, even when it is killed: {}.".format(_WHAT, proc.stuck(self._process.pid)))
        code, self._process = self._process.returncode, None
        report = self._read()
        if report is None:
            how = "did not end within {:g} s".format(health_look.LIMIT) if self._killed else "ended with code {}".format(code)
            return _lost("{} {}. rbd_cluster.doctor looks more closely.".format(_WHAT, how))
        return report

    def _read(self):
        try:
            with open(self._path(), encoding="utf-8") as file:
                report = json.load(file)
        except (OSError, ValueError):
            return None
        return report if report.pop("started", None) == self._last else None

    def to_send(self, report, every, now=None):
        """Return whether a report is to be sent: it says something new, or that was sent less than :data:`REPEATS` times, or the last one
        was sent ``every`` seconds ago."""
        now = time.monotonic() if now is None else now
        said = _said(report)
        self._times = 0 if said != self._sent else self._times
        if self._times >= REPEATS and now - self._sent_at < every:
            return False
        self._sent, self._sent_at, self._times = said, now, self._times + 1
        return True


_WHAT = "The look of this host at its storage"


def _said(report):
    """What of a report is news: not its figures, which change all the time."""
    return report["cluster"], sorted(report["looked"]), sorted((one["area"], one["subject"], one["level"]) for one in report["found"])


def _lost(text):
    return {"cluster": "", "looked": ["look"], "found": [health.item("look", "look", health.FAULT, text)]}
