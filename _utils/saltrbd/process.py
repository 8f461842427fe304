"""The worker as a child process: start, lines out, lines in, end."""

import importlib.util
import json
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import time

from saltrbd import errors, proc
from saltrbd.settings import conf_file, mon_host, monitors_for_people

log = logging.getLogger(__name__)

SYSTEM_PYTHON = "/usr/bin/python3"
# Seconds in which a worker that is asked to end finishes what it has begun (its own limits are shorter).
END_WAIT = 2.0
# Seconds that a killed child gets; one that is still there (state D) is left, never waited for.
KILL_WAIT = 2.0
_READ = 1 << 20
_LAST_WORDS = 500
# An address with a port that is not Ceph's own and no protocol: there librados waits where a key is wrong.
_BARE_PORT = re.compile(r"(?:^|[\s,])(?!v[12]:)(?:\[[0-9a-fA-F:]+\]|[^\s,:\[\]/]+):(?!(?:3300|6789)\b)\d+")
_BARE_PORT_HINT = " A wrong key ends like this too where an address has a port and no protocol: write v2:HOST:PORT or v1:HOST:PORT."
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker")


def interpreters(settings):
    """Return the interpreters to try: the configured one alone, else Salt's own, then the system's."""
    if settings.python:
        return [settings.python]
    found = [sys.executable] if sys.executable else []
    return found + [SYSTEM_PYTHON] * (SYSTEM_PYTHON not in found)


def _environment():
    """The environment for a foreign interpreter: nothing that would make it load Salt's own modules or libraries, and
    nothing that librados takes for settings."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "CEPH_")) and key not in ("LD_LIBRARY_PATH", "LD_PRELOAD")
    }


class Worker:
    """A running worker that has connected. ``start`` makes one."""

    def __init__(self, process, log, settings):
        self._process, self._log = process, log
        self._program, self._configured = process.args[0], bool(settings.python)
        self.requests, self.answers = process.stdin, process.stdout
        os.set_blocking(self.requests.fileno(), False)
        os.set_blocking(self.answers.fileno(), False)
        self._out, self._in, self._searched, self._eof = bytearray(), bytearray(), 0, False
        # Whether it has said anything that a worker says.
        self._heard = False
        self.fsid = None
        # Where the monitors are; what the configuration file says of them comes from the worker, once it has read it.
        self.monitors, self._file = monitors_for_people(settings), not settings.monitors
        # The addresses of its sessions, as the cluster sees them.
        self.sessions = []

    @classmethod
    def start(cls, settings, limit=None, fence=None):
        """Start a worker and wait until it has connected to the right cluster.

        ``limit`` is the number of seconds for the connection (default ``settings.timeout``). ``fence`` is (fsid, session
        addresses) of a worker that ended in the middle of writes: they are shut out of that cluster, so that their locks
        and watches go at once and nothing of theirs is carried out later.

        Raises :class:`NoBindings`, :class:`ClusterUnreachable`, :class:`AuthenticationFailed`,
        :class:`InvalidConfiguration`, :class:`WrongCluster` or :class:`WorkerDied`.
        """
        limit = settings.timeout if limit is None else limit
        tried, death = [], None
        for python in interpreters(settings):
            if not settings.python and python == sys.executable and not _importable():
                tried.append("{}: no module named rbd".format(python))
                continue
            try:
                return cls._start(settings, python, limit, fence)
            except errors.NoBindings as error:
                tried.append("{}: {}".format(python, error))
            except errors.WorkerDied as error:
                death = error
        if death:
            raise death
        raise errors.NoBindings(
            "No Python on this host can import rados and rbd ({}). Install python3-rados and python3-rbd (Debian's and "
            "RHEL's names), or name an interpreter that has them as rbd:python.".format("; ".join(tried))
        )

    @classmethod
    def _start(cls, settings, python, limit, fence):
        # In memory: neither a full nor a read-only /tmp is in the way, and nothing stays on a disk.
        log = os.fdopen(os.memfd_create("saltrbd-worker"), "w+b", buffering=0)
        try:
            process = subprocess.Popen(
                [python, "-E", "-s", _HERE, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # Ctrl-C is for Salt; the worker follows when Salt has ended
            )
        except OSError as error:
            log.close()
            raise errors.NoBindings(error.strerror or str(error))
        worker = cls(process, log, settings)
        try:
            worker._greet(settings, limit, fence)
        except errors.RbdError as error:
            left = worker.kill()
            if left:
                raise type(error)(str(error) + left)
            raise
        except BaseException:
            worker.kill()
            raise
        return worker

    def _greet(self, settings, limit, fence):
        hello = {
            "conf": conf_file(settings),
            "mon_host": mon_host(settings),
            "user": settings.user,
            "keyring": settings.keyring,
            "timeout": settings.timeout,
            "threads": settings.threads,
            "fence": fence,
        }
        self.send({"hello": hello})
        answer = self._first_answer(limit)
        at = "the cluster at {} as client.{}".format(self.monitors, settings.user)
        if answer is None and not self._heard:
            raise errors.WorkerDied("The worker process did not start within {:g} s.{}".format(limit, self._what_is_it()))
        if answer is None:
            raise errors.ClusterUnreachable(
                "Connecting to {} had no answer within {:g} s. Look whether the monitors run, and whether this host reaches them.{}".format(
                    at, limit, _BARE_PORT_HINT if _BARE_PORT.search(self.monitors) else ""
                )
            )
        told = answer.get("error")
        if told and told["name"] == "NoBindings":
            raise errors.NoBindings(told["message"])
        if told:
            raise errors.by_name(told["name"])("Connecting to {} failed: {}.".format(at, told["message"].rstrip(".")))
        self.fsid = answer["fsid"]
        if settings.fsid and settings.fsid != self.fsid:
            raise errors.WrongCluster(
                "The cluster at {} has the fsid {}, but ceph:fsid is {}; nothing was done. Correct ceph:monitors, "
                "ceph:conf or ceph:fsid.".format(self.monitors, self.fsid, settings.fsid)
            )

    def _first_answer(self, limit):
        until = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            while time.monotonic() < until:
                if selector.select(max(0.0, until - time.monotonic())):
                    self.fill()
                for answer in self.read():
                    if "hello" in answer:
                        return answer["hello"]
                if self._eof:
                    hint = "" if self._heard else self._what_is_it()
                    raise errors.WorkerDied("The worker process ended before it had connected{}.{}".format(self.last_words(), hint))
        return None

    def _what_is_it(self):
        """A worker's first line, which comes before anything that can fail or last, did not come: perhaps this is no Python."""
        named = ", which rbd:python names," if self._configured else ""
        return " The program {}{} must be a Python 3.6 or newer with the modules rados and rbd.".format(self._program, named)

    def last_words(self):
        """Return how the process ended and the end of what it wrote on stderr, to be put into a sentence."""
        try:
            code = self._process.wait(timeout=KILL_WAIT)
        except subprocess.TimeoutExpired:
            return ", and is still there as pid {}".format(self.pid)
        how = " by {}".format(_signal(-code)) if code < 0 else " with code {}".format(code) if code else ""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS)).decode("utf-8", "replace")
        lines = " / ".join(line.strip() for line in text.splitlines() if line.strip())
        return how + ("; its last words: {}".format(lines.rstrip(".")) if lines else "")

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
        """Take a request (what ``json`` can carry, or bytes that are a line of it); as much as fits is written at once."""
        self._out += request if isinstance(request, bytes) else line_of(request)
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
        """Yield the answers read so far. What a library printed is none, and what the worker tells of itself is kept."""
        while True:
            end = self._in.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._in)
                return
            answer = _parsed(bytes(self._in[:end]))
            self._heard = self._heard or end == 0 or bool(answer)
            del self._in[: end + 1]
            self._searched = 0
            if "monitors" in answer:
                if self._file and answer["monitors"]:
                    self.monitors = "{} ({})".format(answer["monitors"], self.monitors)
            elif "session" in answer:
                self.sessions.append(answer["session"])
            elif answer:
                yield answer

    def end(self):
        """Ask the process to end, which it does at once, or when what it has begun is done; else kill it."""
        self.requests.close()
        try:
            self._process.wait(timeout=END_WAIT)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self):
        """End the process now, and return an empty text; one that survives SIGKILL (state D) is left, never waited for, and named in
        the log and in the sentence that is returned."""
        left = ""
        try:
            self._process.kill()
            self._process.wait(timeout=KILL_WAIT)
        except subprocess.TimeoutExpired:
            left = " The worker process survives SIGKILL and is left behind: {}.".format(proc.stuck(self.pid))
            log.warning(left.strip())
        except OSError:
            pass
        self._close()
        return left

    def abandon(self):
        """In a forked child: give up the parent's worker without touching it."""
        self._process.returncode = 0  # it is no child of this process, so nothing is to be waited for
        self._close()

    def _close(self):
        for pipe in (self.requests, self.answers, self._log):
            pipe.close()


def line_of(request):
    """Return a request as the line that the worker reads; raises TypeError or ValueError for what JSON cannot carry."""
    return (json.dumps(request) + "\n").encode("ascii")


def _parsed(line):
    if not line.startswith(b"{"):
        return {}
    try:
        return json.loads(line.decode("ascii"))
    except ValueError:
        return {}


def _importable():
    """True if this process's own Python knows a module rbd; saves the start of an interpreter that cannot serve."""
    try:
        return importlib.util.find_spec("rbd") is not None
    except (ImportError, ValueError):
        return False


def _signal(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal {}".format(number)
