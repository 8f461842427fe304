"""The client of the worker: many calls at once, each with a time limit, in the process that Salt runs in.

``get(settings)`` returns the one client of this process; a forked child gets one of its own.
"""

import atexit
import os
import selectors
import threading
import time
from collections import deque, namedtuple

from saltrbd import errors
from saltrbd.calls import CALLS
from saltrbd.process import Worker
from saltrbd.settings import monitors_for_people
from saltrbd.size import show
from saltrbd.spec import Spec

_clients = {}


class Outcome(namedtuple("Outcome", "result error")):
    """What became of one call of a batch: a result, or an error (a class of ``saltrbd.errors``)."""

    __slots__ = ()

    def get(self):
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result


class _Flight:
    """A call on its way."""

    __slots__ = ("index", "op", "args", "number", "limit", "expires")

    def __init__(self, index, op, args, settings):
        self.index, self.op, self.args = index, op, args
        self.limit = settings.progress_timeout if CALLS[op].long else settings.timeout
        self.number = self.expires = None


def get(settings):
    """Return this process's client for these settings; the worker starts at the first call."""
    if settings not in _clients:
        _clients[settings] = Client(settings)
    return _clients[settings]


def close_all():
    """End every worker of this process."""
    while _clients:
        _clients.popitem()[1].close()


atexit.register(close_all)
# A forked child shares the parent's pipes: it must never read an answer that is the parent's.
os.register_at_fork(after_in_child=_clients.clear)


class Client:
    """Calls operations of ``saltrbd.worker``; see ``saltrbd.calls`` for their names."""

    def __init__(self, settings):
        self.settings = settings
        self._worker = None
        self._lock = threading.RLock()
        self._number = 0

    @property
    def fsid(self):
        """The fsid of the cluster; connects if no worker runs."""
        with self._lock:
            self._start()
            return self._worker.fsid

    def call(self, op, spec=None, **args):
        """Carry out one operation and return its result; raises an error of ``saltrbd.errors``."""
        if spec is not None:
            args.update(spec.where())
        return self.batch([(op, args)])[0].get()

    def batch(self, requests):
        """Carry out ``[(op, args), ...]`` at once and return an :class:`Outcome` for each, in order.

        A call that hangs does not hold up the others: they are answered first, then the worker is replaced, and what
        became of the hanging call is read by the new one.
        """
        with self._lock:
            return self._batch(requests, look=True)

    def close(self):
        """End the worker."""
        worker, self._worker = self._worker, None
        if worker:
            worker.end()

    def _batch(self, requests, look):
        outcomes = [None] * len(requests)
        waiting = deque(_Flight(index, op, args, self.settings) for index, (op, args) in enumerate(requests))
        lost = []
        while waiting:
            try:
                self._start()
            except errors.RbdError as error:
                for flight in waiting:
                    outcomes[flight.index] = Outcome(None, self._unreached(error, flight))
                break
            lost += self._fly(waiting, outcomes)
        if lost:
            self._settle(lost, outcomes, look)
        return outcomes

    def _start(self):
        if self._worker and self._worker.alive():
            return
        self._worker = None
        self._worker = Worker.start(self.settings)

    def _fly(self, waiting, outcomes):
        """Send what waits while there is a free thread, gather answers; return the flights without an answer."""
        worker, flying, hung = self._worker, {}, []
        with selectors.DefaultSelector() as selector:
            selector.register(worker.answers, selectors.EVENT_READ)
            while flying or waiting:
                while waiting and len(flying) + len(hung) < self.settings.threads:
                    flight = waiting.popleft()
                    self._number += 1
                    flight.number, flight.expires = self._number, time.monotonic() + flight.limit
                    flying[flight.number] = flight
                    worker.send({"id": flight.number, "op": flight.op, "args": flight.args})
                if not flying:
                    break  # every thread hangs: the rest needs a new worker
                if not self._wait(selector, worker, flying):
                    died = [(flight, errors.WorkerDied) for flight in list(flying.values()) + hung]
                    self.close()
                    return died
                for answer in worker.read():
                    flight = flying.get(answer["id"])
                    if flight is None:
                        continue  # the late answer of a call that was given up
                    if "progress" in answer:
                        flight.expires = time.monotonic() + flight.limit
                        continue
                    del flying[flight.number]
                    outcomes[flight.index] = self._outcome(flight, answer)
                now = time.monotonic()
                for flight in [one for one in flying.values() if one.expires <= now]:
                    hung.append(flying.pop(flight.number))
        if hung:
            self.close()
        return [(flight, errors.CephTimeout) for flight in hung]

    @staticmethod
    def _wait(selector, worker, flying):
        """Wait for an answer or the next deadline; False when the worker has ended and all its answers are read."""
        if worker.ended():
            return False
        writing = selectors.EVENT_WRITE if worker.unsent() else 0
        soonest = min(flight.expires for flight in flying.values())
        if writing:
            selector.register(worker.requests, writing)
        ready = selector.select(max(0.0, soonest - time.monotonic()))
        if writing:
            selector.unregister(worker.requests)
        for key, _ in ready:
            worker.flush() if key.fileobj is worker.requests else worker.fill()
        return True

    def _outcome(self, flight, answer):
        if "ok" in answer:
            return Outcome(answer["ok"], None)
        told = answer["error"]
        error = errors.by_name(told["name"])(
            "{} {} failed: {}.{}".format(
                CALLS[flight.op].doing.capitalize(), _target(flight.args), told["message"].rstrip("."), self._hint(told["name"])
            )
        )
        error.facts = told["facts"]
        return Outcome(None, error)

    def _hint(self, name):
        if name == "PermissionDenied":
            return " Give client.{} the capabilities mon 'profile rbd' and osd 'profile rbd pool=POOL'.".format(
                self.settings.user
            )
        return ""

    def _unreached(self, error, flight):
        same = type(error)("{} (This was for {} {}; nothing was done.)".format(error, CALLS[flight.op].doing, _target(flight.args)))
        same.facts = {}
        return same

    def _settle(self, lost, outcomes, look):
        """Give every lost call its error; what a write became is read again by a new worker."""
        seen = {}
        writes = [flight for flight, _ in lost if CALLS[flight.op].writes and flight.args.get("image")]
        if look and writes:
            ask = [
                ("image_info", {key: flight.args.get(key, "") for key in ("pool", "namespace", "image")}) for flight in writes
            ]
            seen = {flight.index: outcome for flight, outcome in zip(writes, self._batch(ask, look=False))}
        for flight, kind in lost:
            outcomes[flight.index] = Outcome(None, self._lost(flight, kind, seen.get(flight.index)))

    def _lost(self, flight, kind, again):
        call = CALLS[flight.op]
        if kind is errors.CephTimeout:
            why = "had no answer within {:g} s from the cluster at {}".format(
                flight.limit, monitors_for_people(self.settings)
            )
        else:
            why = "was cut off, because the worker process ended"
        text = "{} {} {}.".format(call.doing.capitalize(), _target(flight.args), why)
        if call.writes:
            text += " Its outcome is unknown" + (": " + _second_look(again) if again else "") + "."
        error = kind(text)
        error.facts = {"op": flight.op, "seen": again.result if again else None}
        return error


def _target(args):
    if args.get("image"):
        return str(Spec(args.get("pool", ""), args.get("namespace", ""), args["image"], args.get("snapshot") or ""))
    return "/".join(part for part in (args.get("pool"), args.get("namespace")) if part) or "of the cluster"


def _second_look(outcome):
    if isinstance(outcome.error, errors.ImageNotFound):
        return "a new worker finds no such image"
    if outcome.error is not None:
        return "a second look was not possible either ({})".format(str(outcome.error).rstrip("."))
    names = [item["name"] for item in outcome.result["snapshots"]]
    return "a new worker sees the image with {} and {}".format(
        show(outcome.result["size"]), "the snapshots " + ", ".join(names) if names else "no snapshots"
    )
