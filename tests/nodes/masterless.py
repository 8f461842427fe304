"""A fresh node to which states are applied by ``salt-call --local``, with the Salt that the tests run on."""

import json
import shutil

from labkit import nodes
from labkit.home import REPO

STATES = "/srv/states"
PILLAR = "/srv/pillar"


class Results(dict):
    """What a run of states returned, by the states' ids."""

    def failed(self):
        return {key: row["comment"] for key, row in self.items() if row["result"] is False}

    def changed(self):
        return {key for key, row in self.items() if row["changes"] or row["result"] is None}


class Host:
    """A node with a copy of this checkout's states and a pillar of its own."""

    def __init__(self, lab_home, number):
        (self.node,) = nodes.up(lab_home, [number])
        for name in ("salt", "_beacons", "_modules", "_runners", "_states", "_utils"):
            shutil.copytree(REPO / name, self.node.root / STATES[1:] / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        self.minion = {
            "id": self.node.name,
            "file_client": "local",
            "file_roots": {"base": [f"{STATES}/salt"]},
            "pillar_roots": {"base": [PILLAR]},
            # At debug, Salt itself writes the rendered pillar into its log.
            "log_level_logfile": "info",
        }
        self.configure()
        self.node.write(f"{PILLAR}/top.sls", json.dumps({"base": {"*": ["all"]}}))
        self.pillar({})
        self.node.run("salt-call", "--local", "saltutil.sync_all", timeout=120)

    def configure(self, **more):
        """Set keys of the minion's configuration."""
        self.minion.update(more)
        self.node.write("/etc/salt/minion", json.dumps(self.minion))

    def pillar(self, pillar):
        """Write the whole pillar."""
        self.node.write(f"{PILLAR}/all.sls", json.dumps(pillar), 0o600)

    def call(self, *words, timeout=600):
        """Return what an execution function returns."""
        _, out, _ = self.node.run("salt-call", "--local", "--out=json", *words, timeout=timeout, check=False)
        return json.loads(out)["local"]

    def apply(self, sls, test=False):
        """Apply states and return the :class:`Results`."""
        answer = self.call("state.apply", sls, f"test={test}")
        assert isinstance(answer, dict), answer
        rows = sorted(answer.values(), key=lambda row: row["__run_num__"])
        # A state with several names has the same id for each of them.
        return Results((row["__id__"] if row["__id__"] != row["name"] else row["name"], row) for row in rows)

    def applied(self, sls):
        """Apply states, all of which must succeed."""
        found = self.apply(sls)
        assert not found.failed()
        return found
