"""The commands of ``./lab`` once Debian's packages are there."""

import argparse
import os
import signal
import sys

from labkit import box, cleanup, cluster, container, demo, doctor, lane, minion, nodes, package, prepare, testing, vm
from labkit.commands import LabError, Step
from labkit.home import Home


def up(home, salt=None):
    """Install Salt, start the embedded cluster and set the minion up; what is there already is left as it is."""
    home.make()
    with home.locked():
        if salt:
            home.choose(salt=salt)
        prepare.salt_environment(home, home.choices().get("salt", prepare.SALT))
        if cluster.facts(home.cluster) is None:
            with Step("start the embedded Ceph (monitor, manager, OSD)"):
                cluster.start(home.cluster)
        elif not cluster.healthy(home.cluster):
            with Step("restart the embedded Ceph, which was found dead or half dead"):
                _restart(home)
        minion.configure(home)


def _restart(home):
    if not cluster.revive(home.cluster):
        # The data is lost with the OSD, so what was mapped from it can only be taken off.
        _complain(cleanup.clear(home.cluster))
        cluster.start(home.cluster)


def down(home):
    """Unmount, unmap and end everything of this lab and of its tests; downloads and environments stay."""
    if not home.folder.exists():
        print("The lab is down; it was never up here.")
        return
    problems = []
    for each in (home, home.tests(), lane.home_of(home).tests()):
        problems += vm.down(each) + nodes.down(each)
        with each.locked():
            if cluster.facts(each.cluster) or cluster.daemons(each.cluster):
                with Step(f"unmount, unmap and stop what runs in {each.cluster}"):
                    problems += cleanup.clear(each.cluster)
    _complain(problems)
    print("The lab is down.")


def _complain(problems):
    if problems:
        raise LabError("\n".join(problems))


def status(home):
    """Print what runs, what is mapped and mounted; return 0 where the cluster is healthy, else 1."""
    known = cluster.facts(home.cluster)
    if known is None:
        print("The lab is not running; ./lab up starts it.")
        return 1
    running = cluster.daemons(home.cluster)
    print(f"cluster   {known['fsid']} at {', '.join(known['monitors'])}, in {home.cluster}")
    print(f"daemons   {', '.join(f'{name} (pid {pid})' for name, pid in running.items()) or 'none'}")
    healthy = cluster.healthy(home.cluster)
    if healthy:
        print(f"health    {cluster.ceph(home.cluster, 'health')['status']}")
        print(f"pools     {', '.join(cluster.ceph(home.cluster, 'osd', 'pool', 'ls'))}")
    else:
        repairs = "starts it again" if "ceph-osd" in running else "makes a new and empty one, for its OSD is gone"
        print(f"health    the cluster does not answer; ./lab up {repairs}, ./lab down clears it away")
    held = cleanup.describe(cleanup.leftovers(known)._replace(exports=[])) or ["nothing"]
    for number, line in enumerate(held):
        print(f"{'mapped' if number == 0 else '':10}{line}")
    return 0 if healthy else 1


def shell(home, words):
    """Become a shell, or run ``-c COMMAND``, in which ceph, rbd and Salt's commands work on the lab."""
    environment = minion.environment(home)
    program = "/bin/sh" if words else os.environ.get("SHELL") or "/bin/sh"
    if not words:
        print("ceph -s and rbd ls answer here; exit leaves. Nothing stops with it: that is ./lab down.", flush=True)
    os.execve(program, [program, *words], environment)


def main(words):
    """Run one command and return its exit code."""
    # A time limit around the lab ends it by SIGTERM; what it started must be cleared away then as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(words[0], words[1:], Home()) or 0
    except LabError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("\nInterrupted. ./lab down clears away what runs.", file=sys.stderr)
        return 130


def _run(command, words, home):
    # These hand their words on as they are.
    if command == "salt-call":
        return minion.salt_call(home, words)
    if command == "shell":
        return shell(home, words)
    if command == "test":
        return testing.main(home, words)
    if command == "vm":
        return vm.main(home, words)
    if command == "nodes":
        return nodes.main(home, words)
    if command == "box":
        return box.main(home, words)
    if command in ("rpm", "deb"):
        return package.main(home, command, words)
    if command == "image":
        return container.main(home, words)
    parser = argparse.ArgumentParser(prog=f"./lab {command}", allow_abbrev=False)
    if command in ("up", "demo"):
        parser.add_argument("--salt", metavar="VERSION", help=f"another Salt than {prepare.SALT}, such as 3006.28")
    arguments = parser.parse_args(words)
    if command == "status":
        return status(home)
    if command == "doctor":
        return doctor.main(home)
    if command == "down":
        return down(home)
    up(home, arguments.salt)
    if command == "up":
        with Step("give Salt the modules"):
            minion.sync(home)
    return demo.main(home) if command == "demo" else status(home)
