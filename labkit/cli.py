"""The commands of ``./lab`` once the packages are there."""

import os
import subprocess
import sys
from pathlib import Path

from labkit import cluster
from labkit.commands import LabError, Step

HOME = Path(os.environ.get("RBD_LAB_HOME") or "/var/lib/salt-rbd-lab").resolve()


def up(_words):
    """Start the embedded cluster."""
    with Step("start the embedded Ceph cluster"):
        cluster.start(HOME / "cluster")
    return 0


def down(_words):
    """End the embedded cluster."""
    with Step("stop the embedded Ceph cluster"):
        cluster.stop(HOME / "cluster")
    return 0


def status(_words):
    """Say whether the lab runs."""
    if cluster.facts(HOME / "cluster") is None:
        print("The lab is not running; start it with ./lab up.")
        return 1
    return subprocess.call(["ceph", "-s"], env=cluster.environment(HOME / "cluster"))


def shell(words):
    """Open a shell, or run one command, in which ceph and rbd talk to the lab's cluster."""
    return subprocess.call(["/bin/sh", *words], env=cluster.environment(HOME / "cluster"))


COMMANDS = {"up": up, "down": down, "status": status, "shell": shell}


def main(words):
    """Run one command and return its exit code."""
    try:
        return COMMANDS[words[0]](words[1:])
    except LabError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
