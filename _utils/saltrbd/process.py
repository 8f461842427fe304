"""The worker as a child process: start, lines out, lines in, end."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time

from saltrbd import errors
from saltrbd.settings import conf_file, mon_host, monitors_for_people

SYSTEM_PYTHON = "/usr/bin/python3"
# Seconds that a killed child gets; one that is still there (state D) is left, never waited for.
KILL_WAIT = 2.0
_READ = 1 << 16
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker")


def interpreters(settings):
    """Return the interpreters to try: the configured one alone, else Salt's own, then the system's."""
    if settings.python:
        return [settings.python]
    found = [sys.executable] if sys.executable else []
    return found + [SYSTEM_PYTHON] * (SYSTEM_PYTHON not in found)


def _environment():
    """The environment for a foreign interpreter: nothing that would make it load Salt's own modules or libraries."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key not in ("LD_LIBRARY_PATH", "CEPH_ARGS")
    }


class Worker:
    """A running worker that has connected. ``start`` makes one."""

    def __init__(self, process, log):
        self._process, self._log = process, log
        self.requests, self.answers = process.stdin, process.stdout
        os.set_blocking(self.requests.fileno(), False)
        os.set_blocking(self.answers.fileno(), False)
        self._out, self._in, self._eof = bytearray(), bytearray(), False

    @classmethod
    def start(cls, settings):
        """Start a worker and wait until it has connected to the right cluster.

        Raises :class:`NoBindings`, :class:`ClusterUnreachable`, :class:`PermissionDenied` or :class:`WrongCluster`.
        """
        tried = []
        for python in interpreters(settings):
            try:
                return cls._start(settings, python)
            except errors.NoBindings as error:
                tried.append("{}: {}".format(python, error))
        raise errors.NoBindings(
            "No Python on this host can import rados and rbd ({}). Install python3-rados and python3-rbd (Debian's and "
            "RHEL's names), or name an interpreter that has them as rbd:python.".format("; ".join(tried))
        )

    @classmethod
    def _start(cls, settings, python):
        log = tempfile.TemporaryFile()
        try:
            process = subprocess.Popen(
                [python, "-E", "-s", _HERE, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for Salt; the worker follows when Salt has ended
            )
        except OSError as error:
            log.close()
            raise errors.NoBindings(error.strerror or str(error))
        worker = cls(process, log)
        try:
            worker._greet(settings)
        except BaseException:
            worker.end()
            raise
        return worker

    def _greet(self, settings):
        hello = {
            "conf": conf_file(settings),
            "mon_host": mon_host(settings),
            "user": settings.user,
            "keyring": settings.keyring,
            "timeout": settings.timeout,
            "threads": settings.threads,
        }
        self.send({"hello": hello})
        answer = self._first_answer(settings.timeout)
        at = "the cluster at {} as client.{}".format(monitors_for_people(settings), settings.user)
        if answer is None:
            raise errors.ClusterUnreachable("Connecting to {} had no answer within {:g} s.".format(at, settings.timeout))
        told = answer["hello"].get("error")
        if told and told["name"] == "NoBindings":
            raise errors.NoBindings(told["message"])
        if told:
            raise errors.by_name(told["name"])("Connecting to {} failed: {}.".format(at, told["message"].rstrip(".")))
        self.fsid = answer["hello"]["fsid"]
        if settings.fsid and settings.fsid != self.fsid:
            raise errors.WrongCluster(
                "The cluster at {} has the fsid {}, but ceph:fsid is {}; nothing was done. Correct ceph:monitors, "
                "ceph:conf or ceph:fsid.".format(monitors_for_people(settings), self.fsid, settings.fsid)
            )

    def _first_answer(self, limit):
        until = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            while time.monotonic() < until:
                self.flush()
                if selector.select(max(0.0, until - time.monotonic())):
                    self.fill()
                for answer in self.read():
                    return answer
                if self._eof:
                    raise errors.WorkerDied("The worker process ended before it had connected. {}".format(self._last_words()))
        return None

    def _last_words(self):
        self._log.seek(0)
        return self._log.read()[-500:].decode("utf-8", "replace").strip()

    @property
    def pid(self):
        """The process id."""
        return self._process.pid

    def alive(self):
        """True while the process runs and its answers are not at their end."""
        return not self._eof and self._process.poll() is None

    def ended(self):
        """True when no further answer can come."""
        return self._eof

    def send(self, request):
        """Take a request; as much as fits is written at once."""
        self._out += (json.dumps(request) + "\n").encode("ascii")
        self.flush()

    def unsent(self):
        """True while a request waits for room in the pipe."""
        return bool(self._out)

    def flush(self):
        """Write what fits."""
        while self._out:
            try:
                del self._out[: os.write(self.requests.fileno(), self._out)]
            except BlockingIOError:
                return
            except OSError:  # the worker is gone: its answers end too, and the caller sees that
                self._out.clear()

    def fill(self):
        """Read what is there."""
        try:
            data = os.read(self.answers.fileno(), _READ)
        except BlockingIOError:
            return
        self._in += data
        self._eof = not data

    def read(self):
        """Yield the answers read so far."""
        while True:
            line, newline, rest = self._in.partition(b"\n")
            if not newline:
                return
            self._in = rest
            yield json.loads(line.decode("ascii"))

    def end(self):
        """End the process; one that does not end is left and said so by nobody waiting for it."""
        for pipe in (self.requests, self.answers, self._log):
            pipe.close()
        try:
            self._process.kill()
            self._process.wait(timeout=KILL_WAIT)
        except (subprocess.TimeoutExpired, OSError):
            pass
