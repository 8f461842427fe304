"""What the lab's machines and its nodes have in common: a bridge, a cluster on this host bound to it, a console."""

import json

from labkit import bridge, cluster
from labkit.commands import LabError, Step


def plan(own):
    """Return the path of the file that says which network the guests of this home have."""
    return own.folder / "network.json"


def network(own):
    """Return the network that this lab's guests have, or choose one and write it down: ``down`` removes what it names."""
    path = plan(own)
    try:
        return bridge.Network(**json.loads(path.read_text()))
    except FileNotFoundError:
        chosen = bridge.plan(own.folder)
        path.write_text(json.dumps(chosen._asdict()) + "\n")
        return chosen


def start_cluster(own, where, running, who, command):
    """Start the guests' own cluster on the network ``where`` unless it answers; ``running``: guests still need what a dead one held.

    ``who`` names the guests, ``command`` is the one that clears them away.
    """
    if cluster.facts(own.cluster) and cluster.healthy(own.cluster):
        return
    if cluster.facts(own.cluster) and running:
        if cluster.revive(own.cluster):
            return
        raise LabError(f"The {who}' cluster is dead and its data is lost; {command} down clears {who} and cluster away.")
    with Step(f"start the {who}' own embedded Ceph"):
        cluster.start(own.cluster, bridge.address(where))


def last_words(console):
    """Return what a guest's console said last, for an error."""
    try:
        lines = console.read_text(errors="replace").splitlines()[-10:]
    except OSError:
        lines = []
    return f"Its console ({console}) says last:\n" + "\n".join(lines)
