"""A real master and minion over a site's pillar, and everything that is said on their event buses."""

import contextlib
import json
import threading
import time

import salt.utils.event

# Seconds for a highstate that formats LUKS and filesystems.
JOB_LIMIT = 240


class Ear:
    """Keeps every event of one daemon's bus: [(tag, the whole event as text)]."""

    def __init__(self, node, opts):
        self.heard, self._over = [], threading.Event()
        self._bus = salt.utils.event.get_event(node, opts=dict(opts), listen=True)
        assert self._bus.connect_pub(timeout=10)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while not self._over.is_set():
            event = self._bus.get_event(wait=0.2, tag="", full=True, auto_reconnect=True)
            if event:
                self.heard.append((event["tag"], json.dumps(event, default=str)))

    def taken(self):
        """What was heard since the last call; the thread only ever appends."""
        found = self.heard[:]
        del self.heard[: len(found)]
        return found

    def close(self):
        self._over.set()
        self._thread.join(10)
        self._bus.destroy()


class Daemons:
    """A master, a minion, and an ear at each bus."""

    def __init__(self, master, minion):
        self.master, self.minion = master, minion
        self.ears = {"master": Ear("master", master.config), "minion": Ear("minion", minion.config)}
        self._logs = {name: open(one.config["log_file"], errors="replace") for name, one in (("master", master), ("minion", minion))}

    def run(self, function, *args, **kwargs):
        """Run a function on the minion by the master and return what it returns, once its return was heard on the master's bus."""
        said = self.master.salt_cli(timeout=JOB_LIMIT).run(function, *args, minion_tgt=self.minion.id, _timeout=JOB_LIMIT, **kwargs)
        until = time.monotonic() + 20
        while not any(tag.endswith(f"/ret/{self.minion.id}") and f'"fun": "{function}"' in text for tag, text in self.ears["master"].heard):
            assert time.monotonic() < until, f"the return of {function} was not heard: {said}"
            time.sleep(0.1)
        return said.data

    def heard(self, states=0):
        """{bus: [(tag, text)]} since the last call, once each bus has told something, and so many states of themselves on the master's.

        What comes later is heard by the next call: nothing is lost.
        """
        until = time.monotonic() + 20
        while not self._all_told(states):
            assert time.monotonic() < until, {name: [tag for tag, _ in ear.heard] for name, ear in self.ears.items()}
            time.sleep(0.05)
        return {name: ear.taken() for name, ear in self.ears.items()}

    def _all_told(self, states):
        told = sum("/prog/" in tag for tag, _ in self.ears["master"].heard)
        return all(ear.heard for ear in self.ears.values()) and told >= states

    def rest(self):
        """What was heard since the last call of ``heard``, with what still comes within a second."""
        time.sleep(1)
        return {name: ear.taken() for name, ear in self.ears.items()}

    def logged(self):
        """{"master" and "minion": what it has logged, at debug level, since the last call}."""
        return {name: file.read() for name, file in self._logs.items()}

    def close(self):
        for one in (*self.ears.values(), *self._logs.values()):
            one.close()


@contextlib.contextmanager
def daemons(factories, site):
    """Start them; the minion's pillar is the master's, and the master's is the site's."""
    common = {"log_level_logfile": "debug", "enable_fqdns_grains": False, "enable_gpu_grains": False}
    roots = {
        "file_roots": {"base": [str(site.folder / "states"), str(site.repo / "salt")]},
        "pillar_roots": {"base": [str(site.folder / "pillar")]},
    }
    master = factories.salt_master_daemon(
        "planted-master", defaults={"root_dir": str(site.folder / "master")}, overrides={**common, **roots, "open_mode": True}
    )
    with master.started():
        minion = master.salt_minion_daemon(
            "planted-minion",
            defaults={"root_dir": str(site.folder / "minion-root")},
            overrides={**common, "module_dirs": [str(site.repo)], "state_events": True},
        )
        with minion.started():
            both = Daemons(master, minion)
            try:
                yield both
            finally:
                both.close()
