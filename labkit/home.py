"""Where the lab keeps what it makes, and the checkout it belongs to."""

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path

from labkit.commands import LabError

REPO = Path(__file__).resolve().parent.parent


class Home:
    """The lab's folder: the cluster, the minion, generated pillar, logs; and the environments shared by all labs."""

    def __init__(self, folder=None, venvs=None):
        # ./lab sets both. The environments need not lie inside: another lab need not install Salt again.
        self.folder = Path(folder or os.environ["RBD_LAB_HOME"]).resolve()
        self.venvs = Path(venvs or os.environ["RBD_LAB_VENVS"]).resolve()
        self.cluster = self.folder / "cluster"
        self.minion = self.folder / "minion"
        self.pillar = self.folder / "pillar"
        self.log = self.folder / "log"
        self._choices = self.folder / "lab.json"

    def make(self):
        """Create the folder, readable for its owner alone."""
        for folder in (self.folder, self.log):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)

    def locked(self):
        """Hold this home, so that no other run sets up or takes down what is in it."""
        return locked(self.folder / "lock", f"what is in {self.folder}")

    def tests(self):
        """Return the home of the tests: a cluster of its own beside the demo's."""
        return Home(self.folder / "test", self.venvs)

    def machines(self):
        """Return the home of the machines of `./lab vm`: a cluster of their own, on their bridge."""
        return Home(self.folder / "vm", self.venvs)

    def nodes(self):
        """Return the home of the nodes of `./lab nodes`: a cluster of their own, on their bridge."""
        return Home(self.folder / "nodes", self.venvs)

    def choices(self):
        """Return what ``up`` was told (the Salt version), or nothing where it never ran."""
        try:
            return json.loads(self._choices.read_text())
        except (OSError, ValueError):
            return {}

    def choose(self, **values):
        """Remember a choice for the commands that follow."""
        self._choices.write_text(json.dumps({**self.choices(), **values}) + "\n")


@contextmanager
def locked(path, what):
    """Hold a lock file, so that two runs do not set up or take down the same thing at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"Another run is busy with {what} (it holds {path}); try again when it has finished.") from None
        yield
