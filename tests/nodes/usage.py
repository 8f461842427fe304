"""What a run takes on the nodes: seconds, and the most memory that each node's processes had at once."""

import contextlib
import threading
import time
from pathlib import Path

# Printed at the end of the tests.
LINES = []

# Control groups, version 1 and 2: the file, and the word before the bytes of the processes' own memory.
_MEMORY = (("/sys/fs/cgroup/memory/{}/memory.stat", "total_rss"), ("/sys/fs/cgroup/{}/memory.stat", "anon"))


@contextlib.contextmanager
def measured(what, nodes):
    """Add one line to ``LINES`` about what is done inside."""
    most, done = {node.name: 0 for node in nodes}, threading.Event()

    def watch():
        while not done.wait(0.5):
            for node in nodes:
                most[node.name] = max(most[node.name], memory(node.machine))

    watcher = threading.Thread(target=watch, daemon=True)
    before, began = memory_of(nodes), time.monotonic()
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        seconds = time.monotonic() - began
        parts = [f"{name} {top >> 20} MiB ({before[name] >> 20} before)" for name, top in most.items()]
        LINES.append(f"{what} of {len(nodes)} nodes: {seconds:.1f} s; most memory at once: {', '.join(parts)}")


def memory_of(nodes):
    """Return the bytes of the processes of each node, by its name."""
    return {node.name: memory(node.machine) for node in nodes}


def memory(group):
    """Return the bytes that the processes of a control group have for themselves, without the page cache."""
    for path, word in _MEMORY:
        with contextlib.suppress(OSError):
            lines = Path(path.format(group)).read_text().splitlines()
            return int(next(line.split()[1] for line in lines if line.split()[0] == word))
    raise AssertionError(f"no control group of this host tells the memory of {group}")
