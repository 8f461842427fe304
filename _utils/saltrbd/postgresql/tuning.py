"""Settings from a node's memory and processors, as a start: each can be declared otherwise.

The shares are those of PostgreSQL's manual (Resource Consumption: a quarter of the memory for shared_buffers; Query Planning: what the
operating system caches counts in effective_cache_size), and the caps are where more has not helped.
"""

from saltrbd.postgresql.systems import number

MIB = 1024
GIB = 1024 * MIB

CONNECTIONS = 100
# Sorts and hashes of one query may take work_mem several times.
USES = 3


def settings(version, memory, processors, connections=CONNECTIONS):
    """Return settings for a server that may use ``memory`` KiB and has so many processors."""
    shared = _between(memory // 4, 16 * MIB, 8 * GIB)
    rest = max(memory - shared, 0)
    found = {
        "max_connections": connections,
        "shared_buffers": _text(shared),
        "effective_cache_size": _text(_between(memory * 3 // 4, 32 * MIB, 1024 * GIB)),
        "maintenance_work_mem": _text(_between(memory // 16, 16 * MIB, 2 * GIB)),
        "work_mem": _text(_between(rest // (connections * USES), 4 * MIB, 256 * MIB)),
        "checkpoint_completion_target": "0.9",
        "max_worker_processes": max(processors, 8),
    }
    if number(version) >= (9, 6):
        found["max_parallel_workers_per_gather"] = min(max(processors // 2, 0), 4)
    if number(version) >= (10,):
        found["max_parallel_workers"] = max(processors, 1)
    return found


def _between(value, least, most):
    return min(max(value, least), most)


def _text(kib):
    """Whole MiB: a kernel that counts a few KiB less after an update is no reason for a restart."""
    step = 16 if kib >= GIB else 1
    return "{}MB".format(max(kib // MIB // step * step, 1))
