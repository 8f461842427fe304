"""The worker: JSON lines on stdin and stdout, one RADOS session, many images at once.

Started by ``saltrbd.client`` as ``PYTHON -E -s .../saltrbd/worker PARENT_PID``. The first line is ``{"hello": SETTINGS}``;
every other one is ``{"id": N, "op": NAME, "args": {...}}``. An answer is ``{"id": N, "ok": RESULT}`` or ``{"id": N,
"error": {...}}``; before it may come ``{"id": N, "progress": FRACTION, "within": SECONDS}``: the call gets on, and its next
sign of life may take so long. Of itself the worker tells ``{"monitors": TEXT}`` before it connects, and ``{"session":
ADDRESS}`` for each session. Standard library and Ceph's bindings only, Python 3.6 or newer.
"""

import faulthandler
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

# Below this many seconds a line of progress would only cost; the client's limit is far longer.
PROGRESS_EVERY = 0.5
# How often the worker looks whether Salt is still there, how long what has begun may go on without it, and how long the
# monitor has to shut this session out. Together they stay below 2 s, after which no worker of a dead Salt may be left.
LOOK_EVERY = 0.2
FINISH = 0.8
FENCE = 0.8


class Answers:
    """Whole lines onto the real stdout, from any thread."""

    def __init__(self, descriptor):
        self._descriptor, self._lock = descriptor, threading.Lock()
        # What the interpreter may have printed before it came here ends with this line.
        self._write(b"\n")

    def send(self, **answer):
        """Write one line; raises TypeError or ValueError for what JSON cannot carry."""
        self._write((json.dumps(answer) + "\n").encode("ascii"))

    def _write(self, line):
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                pass  # nobody reads any more: Salt is gone, and this process ends when what it has begun is done


class Work:
    """What is under way."""

    def __init__(self):
        self._running = set()
        self.session = None

    def submit(self, pool, *call):
        """Have a thread of the pool carry out ``function, *arguments``."""
        future = pool.submit(*call)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def finish(self):
        """End the process, after what has begun. An image whose client is cut off in a write stays locked for 30 s, so what
        takes longer is shut out of the cluster."""
        running = list(self._running)
        for future in running:
            future.cancel()
        if wait(running, timeout=FINISH).not_done and self.session:
            fence = threading.Thread(target=self.session.fence, args=((self.session.fsid, self.session.addresses),), daemon=True)
            fence.start()
            fence.join(FENCE)
        os._exit(0)


def watch_parent(parent, work):
    """End when Salt ends, however it ends. End of file on stdin is not enough: a forked child of Salt may hold it open."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    work.finish()


def progress_for(answers, number):
    """Return the function that an operation calls with a fraction from 0 to 1 while it gets on.

    ``within`` are the seconds that the next step may take without a sign of life, where librbd's call has no callback.
    """
    last = [0.0]

    def report(fraction, within=0):
        now = time.monotonic()
        if within or now - last[0] >= PROGRESS_EVERY:
            last[0] = now
            answers.send(id=number, progress=round(fraction, 4), within=within)
        return 0  # the bindings take what a callback returns for a number

    return report


def run(session, operations, describe, answers, request):
    """Carry out one request and answer it."""
    number = request["id"]
    try:
        result = operations[request["op"]](session, progress_for(answers, number), **request["args"])
        answers.send(id=number, ok=result)
    except BaseException as error:  # noqa: BLE001 whatever it is, the caller gets an answer
        name, message, facts = describe(error)
        answers.send(id=number, error={"name": name, "message": message, "facts": facts})


def connect(answers, settings):
    """Import the bindings, connect and greet; returns (session, operations, describe), or None when that failed."""
    try:
        import operations
        from session import Session, connection_error, describe
    except ImportError as error:
        answers.send(hello={"error": {"name": "NoBindings", "message": str(error), "facts": {}}})
        return None
    try:
        session = Session(settings, answers.send)
    except Exception as error:  # noqa: BLE001 whatever it is, the client tells it to people
        name, message, facts = connection_error(error)
        answers.send(hello={"error": {"name": name, "message": message, "facts": facts}})
        return None
    session.fence(settings["fence"])
    answers.send(hello={"fsid": session.fsid})
    return session, operations.ALL, describe


def main():
    """Serve until stdin ends or Salt does."""
    faulthandler.enable()
    # The bindings' times do not say their zone, and not all of them are in the same one (seen in 16.2); in UTC all are right.
    os.environ["TZ"] = "UTC"
    time.tzset()
    answers = Answers(os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    work = Work()
    threading.Thread(target=watch_parent, args=(int(sys.argv[1]), work), daemon=True).start()
    lines = iter(sys.stdin.buffer.readline, b"")
    settings = json.loads(next(lines).decode("utf-8"))["hello"]
    connected = connect(answers, settings)
    if connected is None:
        return
    session, operations, describe = connected
    work.session = session
    pool = ThreadPoolExecutor(max_workers=settings["threads"])
    for line in lines:
        work.submit(pool, run, session, operations, describe, answers, json.loads(line.decode("utf-8")))
    work.finish()


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 the process must end, and say why
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # a thread that hangs in librados must not hold the process
