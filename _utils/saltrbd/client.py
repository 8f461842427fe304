"""The client of the worker: many calls at once, each with a time limit, in the process that Salt runs in.

``get(settings)`` returns the one client of this process; a forked child gets one of its own.
"""

import atexit
import logging
import os
import selectors
import threading
import time
from collections import deque, namedtuple

from saltrbd import errors
from saltrbd.calls import CALLS
from saltrbd.process import Worker, line_of
from saltrbd.settings import monitors_for_people
from saltrbd.size import show
from saltrbd.spec import Spec

# After a connection that failed the next ones get this part of the limit, at least these seconds: a highstate of a hundred
# states must not wait a hundred times for monitors that are down, and a cluster that is back answers in a moment.
IMPATIENCE, LEAST_PATIENCE = 0.2, 2.0
# Workers, one after the other, of which every thread hangs, before a batch gives up what is not begun yet.
ROUNDS = 2

log = logging.getLogger(__name__)
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
    """A call on its way. ``lost`` is the error class and the words for an answer that never came."""

    __slots__ = ("index", "op", "args", "number", "limit", "expires", "lost", "left", "tried", "tenths")

    def __init__(self, index, op, args, number, settings):
        self.index, self.op, self.args, self.number = index, op, args, number
        self.limit = settings.progress_timeout if CALLS[op].long else settings.timeout
        self.expires = self.lost = None
        self.left = ""  # what is said of a worker that does not die
        self.tried = False
        self.tenths = 0

    def got_on(self, fraction):
        """Tell the log how far long work is, at each tenth."""
        tenths = int(fraction * 10)
        if tenths > self.tenths:
            self.tenths = tenths
            log.info("%s: %d %%", _what(self, True), tenths * 10)


def get(settings):
    """Return this process's client for these settings; the worker starts at the first call."""
    return _clients.get(settings) or _clients.setdefault(settings, Client(settings))


def close_all():
    """End every worker of this process."""
    while _clients:
        _clients.popitem()[1].close()


def close_idle():
    """End the workers that have nothing to do; a newer core has taken this one's place."""
    for client in list(_clients.values()):
        client.close(wait=False)


def _forget_all():
    """In a forked child: the parent's pipes must not be held, and an answer that is the parent's never be read."""
    for client in _clients.values():
        client.forget()
    _clients.clear()


atexit.register(close_all)
os.register_at_fork(after_in_child=_forget_all)


class Client:
    """Calls operations of ``saltrbd.worker``; see ``saltrbd.calls`` for their names.

    It may be used from many threads: one batch is carried out at a time, the others wait for it.
    """

    def __init__(self, settings):
        self.settings = settings
        self._number = 0
        self._fence = None
        self._reached = True
        self._monitors = monitors_for_people(settings)
        self._worker = None
        self.forget()

    def forget(self):
        """Begin anew in a forked child: the worker, and the lock that another thread may have held, are the parent's."""
        if self._worker:
            self._worker.abandon()
        self._worker = None
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def _mine(self):
        """Return the lock of this process."""
        if self._pid != os.getpid():
            self.forget()
        return self._lock

    @property
    def fsid(self):
        """The fsid of the cluster; connects if no worker runs."""
        with self._mine():
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
        became of the hanging call is read by the new one. So it is when the worker dies; then questions are asked once
        more. A call ends within its limit (``rbd:timeout``, for long work ``rbd:progress_timeout`` without progress);
        reading what became of it may take ``rbd:timeout`` more. Where nothing answers at all, calls for which no thread
        was free (``rbd:threads``) are given up after two such limits.
        """
        with self._mine():
            return self._batch(requests, ROUNDS)

    def all(self, requests):
        """Carry out the batch and return the results; where some failed, raise the first error's class with every sentence."""
        outcomes = self.batch(requests)
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        if not failed:
            return [outcome.result for outcome in outcomes]
        raise errors.together(failed)

    def close(self, wait=True):
        """End the worker; it starts again at the next call. Without ``wait`` a worker that another thread uses stays."""
        lock = self._mine()
        if not lock.acquire(blocking=wait):
            return
        try:
            worker, self._worker = self._worker, None
            if worker:
                worker.end()
        finally:
            lock.release()

    def _batch(self, requests, rounds, look=True):
        outcomes = [None] * len(requests)
        waiting = deque()
        for index, (op, args) in enumerate(requests):
            self._number += 1
            waiting.append(_Flight(index, op, args, self._number, self.settings))
        lost = []
        while waiting and rounds:
            try:
                self._start()
            except errors.RbdError as error:
                for flight in waiting:
                    outcomes[flight.index] = Outcome(None, self._unreached(error, flight))
                waiting.clear()
                break
            gone, hangs = self._fly(waiting, outcomes)
            lost += gone
            rounds -= hangs
        for flight in waiting:
            outcomes[flight.index] = Outcome(None, self._not_begun(flight))
        if lost:
            self._settle(lost, outcomes, look)
        return outcomes

    def _start(self):
        if self._worker and self._worker.alive():
            return
        if self._worker:
            self._lose([])
        limit = self.settings.timeout
        if not self._reached:
            limit = min(limit, max(limit * IMPATIENCE, LEAST_PATIENCE))
        self._reached = False
        self._worker = Worker.start(self.settings, limit, self._fence)
        self._reached, self._fence, self._monitors = True, None, self._worker.monitors

    def _lose(self, lost):
        """Kill the worker; what it had open for the lost writes is shut out by the next one."""
        worker, self._worker = self._worker, None
        left = worker.kill()
        for flight in lost:
            flight.left = left
        if any(CALLS[flight.op].writes for flight in lost):
            self._fence = (worker.fsid, worker.sessions)

    def _fly(self, waiting, outcomes):
        """Send what waits while there is a free thread, gather answers; return (the flights without an answer, whether
        nothing answers at all)."""
        worker, flying, hung, answered, shut_out = self._worker, {}, [], False, False
        with selectors.DefaultSelector() as selector:
            selector.register(worker.answers, selectors.EVENT_READ)
            while flying or waiting:
                while waiting and len(flying) + len(hung) < self.settings.threads:
                    self._depart(waiting.popleft(), worker, flying, outcomes)
                if not flying:
                    break  # nothing is left, or every thread hangs: the rest needs a new worker
                if not self._wait(selector, worker, flying):
                    died = self._cut_off(flying, waiting, worker.last_words())
                    self._lose(hung + died)
                    return hung + died, False
                for answer in worker.read():
                    flight = flying.get(answer.get("id"))
                    if flight is None:
                        continue  # the late answer of a call that was given up
                    if "progress" in answer:
                        flight.expires = time.monotonic() + max(flight.limit, answer["within"])
                        flight.got_on(answer["progress"])
                        continue
                    del flying[flight.number]
                    answered = True
                    outcomes[flight.index] = self._outcome(flight, answer)
                    shut_out = shut_out or isinstance(outcomes[flight.index].error, errors.SessionLost)
                hung += self._expired(flying)
        if hung or shut_out:
            self._lose(hung)
        return hung, bool(hung) and not answered

    @staticmethod
    def _cut_off(flying, waiting, words):
        """Put the questions that a dying worker left back to what waits, once; return the other flights."""
        died = []
        for flight in flying.values():
            flight.lost = errors.WorkerDied, "was cut off, because the worker process ended" + words
            if CALLS[flight.op].writes or flight.tried:
                died.append(flight)
            else:
                flight.tried = True
                waiting.appendleft(flight)
        return died

    @staticmethod
    def _depart(flight, worker, flying, outcomes):
        try:
            line = line_of({"id": flight.number, "op": flight.op, "args": flight.args})
        except (TypeError, ValueError) as error:
            wrong = errors.InvalidArgument("{} was not tried: its arguments cannot be sent ({}).".format(_what(flight, True), error))
            outcomes[flight.index] = Outcome(None, wrong)
            return
        flight.expires = time.monotonic() + flight.limit
        flying[flight.number] = flight
        worker.send(line)

    def _expired(self, flying):
        """Take the flights whose time is up out of ``flying`` and return them."""
        now = time.monotonic()
        expired = [flying.pop(flight.number) for flight in list(flying.values()) if flight.expires <= now]
        for flight in expired:
            words = "made no progress for {:g} s on" if CALLS[flight.op].long else "had no answer within {:g} s from"
            words = (words + " the cluster at {}").format(flight.limit, self._monitors)
            flight.lost = errors.CephTimeout, words
        return expired

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
            "{} failed: {}.{}".format(_what(flight, True), told["message"].rstrip("."), self._hint(told["name"], flight.args, flight.op))
        )
        error.facts = told["facts"]
        return Outcome(None, error)

    def _hint(self, name, args, op=""):
        if name == "PermissionDenied" and op == "blocklist_remove":
            return " Mon 'profile rbd' is not enough: give client.{} mon 'profile rbd, allow command \"osd blocklist\"'.".format(
                self.settings.user
            )
        if name == "PermissionDenied":
            pools = [args.get("pool"), args.get("data_pool"), (args.get("parent") or {}).get("pool")]
            grants = ["profile rbd pool=" + pool for pool in dict.fromkeys(pools) if pool] or ["profile rbd"]
            return " Give client.{} the capabilities mon 'profile rbd' and osd '{}'.".format(self.settings.user, ", ".join(grants))
        if name == "ReadOnly":
            return " The lock of a client that has died is only broken for a user with the capability mon 'profile rbd'."
        if name == "SessionLost":
            return " The next call connects anew; 'ceph osd blocklist ls' shows who is shut out, for instance this whole host."
        return ""

    def _unreached(self, error, flight):
        same = type(error)("{} (This was for {}; nothing was done.)".format(error, _what(flight)))
        same.facts = {}
        return same

    def _not_begun(self, flight):
        error = errors.CephTimeout(
            "{} was not begun: no call before it had an answer within its limit from the cluster at {}. Nothing was done.".format(
                _what(flight, True), self._monitors
            )
        )
        error.facts = {"op": flight.op, "seen": None}
        return error

    def _settle(self, lost, outcomes, look):
        """Give every lost call its error; what a write became is read again by a new worker."""
        seen = {}
        writes = [flight for flight in lost if CALLS[flight.op].writes and flight.args.get("image")]
        if look and writes:
            ask = [("image_info", _place(flight)) for flight in writes]
            seen = {flight.index: outcome for flight, outcome in zip(writes, self._batch(ask, 1, look=False))}
        for flight in lost:
            outcomes[flight.index] = Outcome(None, _lost(flight, seen.get(flight.index)))


def _place(flight):
    """The arguments of image_info for the image that a lost write was about; one that is removed is found in the trash too."""
    where = dict({key: flight.args.get(key, "") for key in ("pool", "namespace", "image")}, users=True)
    return dict(where, image_id=flight.args["image_id"]) if flight.op in ("image_remove", "trash_remove") else where


def _lost(flight, again):
    kind, words = flight.lost
    text = "{} {}.".format(_what(flight, True), words)
    if CALLS[flight.op].writes:
        text += " Its outcome is unknown" + (": " + _second_look(flight, again) if again else "") + "."
    error = kind(text + flight.left)
    error.facts = {"op": flight.op, "seen": again.result if again else None, "unknown": CALLS[flight.op].writes}
    return error


def _what(flight, first=False):
    """What the call does, and to what; ``first`` at the start of a sentence."""
    doing, args = CALLS[flight.op].doing, flight.args
    place = [args.get("pool"), args.get("namespace")]
    if args.get("image"):
        place = [str(Spec(args.get("pool", ""), args.get("namespace", ""), args["image"], args.get("snapshot") or ""))]
    doing = doing[0].upper() + doing[1:] if first else doing
    return " ".join([doing] + ["/".join(part for part in place if part)] * any(place))


def _second_look(flight, outcome):
    if isinstance(outcome.error, errors.ImageNotFound):
        return "a new worker finds no such image"
    if outcome.error is not None:
        return "a second look was not possible either ({})".format(str(outcome.error).rstrip("."))
    facts = outcome.result
    users = sorted({watcher["address"] for watcher in facts["watchers"]})
    # What a writer meets most often: the holder of the exclusive lock does not answer.
    using = "; it is in use by {} (one that has died holds up writes for 30 s)".format(", ".join(users)) if users else ""
    wanted = flight.args.get("snapshot")
    if wanted:
        found = [item for item in facts["snapshots"] if item["name"] == wanted]
        if not found:
            return "a new worker finds the image without that snapshot" + using
        return "a new worker finds the snapshot, {}protected{}".format("" if found[0]["protected"] else "not ", using)
    found = "a new worker finds the image, {}, with {} snapshots{}".format(show(facts["size"]), len(facts["snapshots"]), using)
    if flight.op == "image_remove":
        found += "; if its name is gone it lies in the trash, where 'rbd trash rm' by the id {} ends the removal".format(facts["id"])
    return found
