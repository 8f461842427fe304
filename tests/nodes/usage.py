"""What a run takes on the nodes: seconds, the processors' time, and the most memory that each node's processes had at once."""

import contextlib
import threading
import time
from pathlib import Path

# Printed at the end of the tests.
LINES = []

# Control groups, version 1 and 2: a file of the group, the word before the number (none: the number stands alone), and its unit.
_MEMORY = (("memory/{}/memory.stat", "total_rss", 1), ("{}/memory.stat", "anon", 1))
_PROCESSORS = (("cpuacct/{}/cpuacct.usage", "", 1e-9), ("{}/cpu.stat", "usage_usec", 1e-6))


@contextlib.contextmanager
def measured(what, nodes):
    """Add one line to ``LINES`` about what is done inside."""
    most, done = {node.name: 0 for node in nodes}, threading.Event()

    def watch():
        while not done.wait(0.5):
            for node in nodes:
                most[node.name] = max(most[node.name], _read(_MEMORY, node.machine))

    watcher = threading.Thread(target=watch, daemon=True)
    held, busy, began = _all(_MEMORY, nodes), _all(_PROCESSORS, nodes), time.monotonic()
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        seconds, worked = time.monotonic() - began, sum(_all(_PROCESSORS, nodes).values()) - sum(busy.values())
        memory = [f"{name} {int(top) >> 20} MiB ({int(held[name]) >> 20} before)" for name, top in most.items()]
        LINES.append(f"{what} of {len(nodes)} nodes: {seconds:.0f} s, {worked:.0f} s of a processor; memory: {', '.join(memory)}")


def _all(places, nodes):
    return {node.name: _read(places, node.machine) for node in nodes}


def _read(places, group):
    """Return what the control group of a node's processes says; of memory what they have for themselves, without the page cache."""
    for path, word, unit in places:
        with contextlib.suppress(OSError):
            lines = Path("/sys/fs/cgroup", path.format(group)).read_text().splitlines()
            return float(next(line.split()[-1] for line in lines if not word or line.split()[0] == word)) * unit
    raise AssertionError(f"No control group of this host tells what {group} takes.")
