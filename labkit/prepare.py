"""Virtual environments: Salt with what the tests need, one for each Salt version; the linters in another.

They have no system site packages, like Salt's own packages have none: Salt must work without the Ceph bindings.
An environment is named by everything that it is made of, so that another checkout with the same needs finds it.
"""

import configparser
import hashlib
import os
import shutil
import sys
from pathlib import Path

from labkit.commands import LabError, Step, clean_environment, run
from labkit.home import REPO, locked

SALT = "3008.3"
OTHER_SALT = "3006.28"

PYTHON = "/usr/bin/python3"

# timelib, which Salt needs, builds only with a setuptools that still has distutils' old ways.
BUILD_CONSTRAINT = "setuptools<75.6.0"


def salt_environment(home, version):
    """Return the folder of the environment with this Salt and the tests' tools, made first where it is missing."""
    # A machine of ./lab vm has its host's.
    if os.environ.get("RBD_LAB_SALT_ENVIRONMENT"):
        return Path(os.environ["RBD_LAB_SALT_ENVIRONMENT"])
    extras = ("tests", "postgresql", "platform", "kubernetes")
    wanted = [f"salt=={version}", *dict.fromkeys(package for name in extras for package in extra(name))]
    return _environment(home, f"salt-{version}", wanted, f"install Salt {version} and the tests' tools")


def lint_environment(home):
    """Return the folder of the environment with the linters, made first where it is missing."""
    return _environment(home, "lint", extra("lint"), "install the linters")


def extra(name):
    """Return the requirements that setup.cfg lists under an extra."""
    return setup()["options.extras_require"][name].split()


def setup():
    """Return what setup.cfg says, by section."""
    found = configparser.ConfigParser()
    found.read(REPO / "setup.cfg")
    return found


def _environment(home, name, wanted, what):
    made_of = "\n".join([sys.version, BUILD_CONSTRAINT, *wanted])
    key = hashlib.sha256(made_of.encode()).hexdigest()[:8]
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    folder = home.venvs / f"{name}-{python}-{key}"
    # Written last: an environment without it was interrupted, and is made anew.
    complete = folder / "complete"
    if complete.exists():
        return folder
    with locked(home.venvs / f"{folder.name}.lock", f"the environment {folder.name}"), Step(what):
        shutil.rmtree(folder, ignore_errors=True)
        run([PYTHON, "-m", "venv", folder], timeout=120)
        constraints = folder / "constraints.txt"
        constraints.write_text(BUILD_CONSTRAINT + "\n")
        # The variable, not the option, reaches the environment in which pip builds timelib.
        env = clean_environment(PIP_CONSTRAINT=str(constraints))
        pip = [folder / "bin/pip", "--disable-pip-version-check", "--quiet", "--no-input"]
        try:
            run([*pip, "install", *wanted], timeout=1200, env=env)
        except LabError as problem:
            raise LabError(
                f"{problem}\npip could not fetch or build these: {', '.join(wanted)}. It uses the machine's own"
                " configuration (pip config list) for the package index and its certificates."
            ) from None
        complete.write_text(made_of + "\n")
    return folder
