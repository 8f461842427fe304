"""The worker: JSON lines on stdin and stdout, one RADOS session, many images at once.

Started by ``saltrbd.client`` as ``PYTHON -E -s .../saltrbd/worker PARENT_PID``. The first line is ``{"hello": SETTINGS}``; every other one
is ``{"id": N, "op": NAME, "args": {...}}``. An answer is ``{"id": N, "ok": RESULT}`` or ``{"id": N, "error": {...}}``;
before it may come ``{"id": N, "progress": FRACTION}``. Standard library and Ceph's bindings only, Python 3.6 or newer.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

# Below this many seconds a line of progress would only cost; the client's limit is far longer.
PROGRESS_EVERY = 0.5


class Answers:
    """Whole lines onto the real stdout, from any thread."""

    def __init__(self, descriptor):
        self._descriptor, self._lock = descriptor, threading.Lock()

    def send(self, **answer):
        line = (json.dumps(answer) + "\n").encode("ascii")
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                os._exit(0)  # nobody reads any more: Salt is gone


def watch_parent(parent):
    """End when Salt ends, however it ends. End of file on stdin is not enough: a forked child of Salt may hold it open."""
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(0)


def progress_for(answers, number):
    """Return the function that an operation calls with a fraction from 0 to 1 while it gets on."""
    last = [0.0]

    def report(fraction):
        now = time.monotonic()
        if now - last[0] >= PROGRESS_EVERY:
            last[0] = now
            answers.send(id=number, progress=round(fraction, 4))

    return report


def run(session, operations, describe, answers, request):
    """Carry out one request and answer it."""
    number = request["id"]
    try:
        result = operations[request["op"]](session, progress_for(answers, number), **request["args"])
    except BaseException as error:  # whatever it is, the caller gets an answer
        name, message, facts = describe(error)
        answers.send(id=number, error={"name": name, "message": message, "facts": facts})
        return
    answers.send(id=number, ok=result)


def main():
    answers = Answers(os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    parent = int(sys.argv[1])
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    lines = iter(sys.stdin.buffer.readline, b"")
    settings = json.loads(next(lines).decode("utf-8"))["hello"]
    try:
        import operations
        from session import Session, describe
    except ImportError as error:
        answers.send(hello={"error": {"name": "NoBindings", "message": str(error), "facts": {}}})
        return
    try:
        session = Session(settings)
    except Exception as error:
        name, message, facts = describe(error)
        if name in ("CephError", "ImageNotFound", "CephTimeout", "InvalidArgument"):
            name = "ClusterUnreachable"  # an error of the connection is never one of an image
        answers.send(hello={"error": {"name": name, "message": message, "facts": facts}})
        return
    answers.send(hello={"fsid": session.fsid, "threads": settings["threads"], "pid": os.getpid()})
    pool = ThreadPoolExecutor(max_workers=settings["threads"])
    for line in lines:
        pool.submit(run, session, operations.ALL, describe, answers, json.loads(line.decode("utf-8")))


if __name__ == "__main__":
    try:
        main()
    finally:
        sys.stderr.flush()
        os._exit(0)  # a thread that hangs in librados must not hold the process
