"""The state of the alerts as a file of the master: whole or not at all, one writer at a time."""

import contextlib
import fcntl
import json
import logging
import os
import time

from saltplatform import alerts

log = logging.getLogger(__name__)
# Seconds to wait for another writer, who holds the lock for milliseconds.
PATIENCE = 30.0
_KEYS = set(alerts.empty())


class Busy(Exception):
    """Another process holds the lock."""


class Store:
    """The file ``state.json`` in a folder."""

    def __init__(self, folder):
        self.folder, self.path = folder, os.path.join(folder, "state.json")

    @contextlib.contextmanager
    def locked(self, name="lock", patience=PATIENCE):
        """Hold a lock while the body runs; raises :class:`Busy` where another one holds it for too long."""
        descriptor = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise Busy("{} is held by another process.".format(os.path.join(self.folder, name)))
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def changed(self):
        """Yield the state; it is written if the body does not raise and has changed it."""
        with self.locked():
            state = self.read()
            before = json.dumps(state)
            yield state
            if json.dumps(state) != before:
                self._write(state)

    def read(self):
        """Return the state; an empty one where there is none, or none that can be understood, which is put aside."""
        try:
            with open(self.path, encoding="utf-8") as file:
                state = json.load(file)
        except FileNotFoundError:
            return alerts.empty()
        except ValueError:
            state = None
        if isinstance(state, dict) and state.get("version") == alerts.VERSION and set(state) >= _KEYS:
            return state
        aside = "{}.broken-{}".format(self.path, int(time.time()))
        os.replace(self.path, aside)
        log.error("%s was no state of alerts; it is %s now. What was open will be told once more.", self.path, aside)
        return alerts.empty()

    def _write(self, state):
        fresh = self.path + ".new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
