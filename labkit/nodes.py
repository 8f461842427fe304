"""``./lab nodes``: booted nodes, a management host and others, as clients of an embedded cluster on this host."""

import contextlib
import os

from labkit import bridge, cluster, guests, node_image, prepare
from labkit.commands import LabError, Step
from labkit.node import NUMBERS, Node, name_of

USAGE = """\
usage: ./lab nodes up [COUNT]          boot nodes (3 by default): management, node1, node2, ...
       ./lab nodes run NODE [CMD...]   run a command in one; without CMD a shell
       ./lab nodes status              what runs
       ./lab nodes down                end the nodes, their cluster and their network"""

COUNT = 3


def main(home, words):
    """Run ``./lab nodes WORDS`` and return its exit code."""
    command, words = (words or ["help"])[0], words[1:]
    if command == "up" and len(words) < 2:
        up(home, range(1, _count(words) + 1))
        return status(home)
    if command == "run" and words:
        return running(home, words[0]).become(words[1:])
    if command == "status" and not words:
        return status(home)
    if command == "down" and not words:
        _complain(down(home))
        print("The nodes are down.")
        return 0
    print(USAGE)
    return 0 if command in ("help", "-h", "--help") else 2


def _count(words):
    if not words:
        return COUNT
    if not words[0].isdigit() or int(words[0]) not in NUMBERS:
        raise LabError(f"There can be {NUMBERS[0]} to {NUMBERS[-1]} nodes, not {words[0]}.")
    return int(words[0])


def up(home, numbers):
    """Bring the nodes with these numbers up, and all they need; return them as :class:`labkit.node.Node`.

    Tests give their nodes the Salt that they run on themselves.
    """
    own = home.nodes()
    own.make()
    venv = prepare.salt_environment(home, os.environ.get("RBD_LAB_SALT", prepare.SALT))
    image = node_image.ready(home.venvs.parent / "node-images", venv)
    with own.locked():
        network = guests.network(own)
        bridge.up(network)
        guests.start_cluster(own, network, any(node.pids() for node in _started(own)), "nodes", "./lab nodes")
        nodes = [Node(own, number, network) for number in numbers]
        missing = [node for node in nodes if not node.pids()]
        if missing:
            with Step(f"boot {', '.join(node.name for node in missing)}"):
                for node in missing:
                    node.start(image, venv)
                for node in missing:
                    node.wait()
    return nodes


def facts(home):
    """Return the facts of the nodes' cluster, as ``labkit.cluster.facts`` does."""
    return cluster.facts(home.nodes().cluster)


def running(home, name):
    """Return the running node of this name or number, or say how to get it."""
    for node in _started(home.nodes()):
        if name in (node.name, str(node.number)) and node.pids():
            return node
    known = ", ".join(name_of(number) for number in NUMBERS)
    raise LabError(f"No node {name} runs; ./lab nodes up boots them (their names: {known}).")


def _started(own):
    """Return the nodes that were started and not ended, also those that fell."""
    if not guests.plan(own).exists():
        return []
    network = guests.network(own)
    return [node for node in (Node(own, number, network) for number in NUMBERS) if node.folder.exists()]


def status(home):
    """Print what runs; return 0 where a node does, else 1."""
    own = home.nodes()
    nodes = [node for node in _started(own) if node.pids()]
    if not nodes:
        print("No node runs; ./lab nodes up boots them.")
        return 1
    known = cluster.facts(own.cluster)
    print(f"cluster   {known['fsid']} at {', '.join(known['monitors'])}, in {own.cluster}")
    for node in nodes:
        failed = node.failed_units()
        print(f"node      {node.name} at {node.address}, {'failed: ' + ', '.join(failed) if failed else 'no unit failed'}")
    return 0


def down(home):
    """End nodes, cluster and network of this lab; the image stays. Return one sentence for each thing that stayed."""
    own = home.nodes()
    if not own.folder.exists():
        return []
    with own.locked():
        for node in _started(own):
            node.power_off()
        problems = [problem for node in _started(own) for problem in node.end()]
        if any(node.pids() for node in _started(own)):
            return problems
        cluster.stop(own.cluster)
        if guests.plan(own).exists():
            bridge.down(guests.network(own))
            guests.plan(own).unlink()
    return problems


@contextlib.contextmanager
def for_tests(home):
    """Give the tests nodes of their own, and take all of it away after them: yields the home to bring them up in."""
    _complain(down(home))
    try:
        yield home
    finally:
        problems = down(home)
    _complain(problems)


def _complain(problems):
    if problems:
        raise LabError("\n".join(problems))
