"""
What the RbdCollector decides: which volumes are due, what is published under which name. Runs on Python 2.7 too.
"""

import os
import re
import select
import time


def lines(stream, until):
    """Yield the lines of a pipe until its end, or until the time is up."""
    rest = b""
    while True:
        ready = select.select([stream], [], [], max(0.0, until - time.time()))[0]
        data = os.read(stream.fileno(), 65536) if ready else b""
        if not data:
            return
        found = (rest + data).split(b"\n")
        rest = found.pop()
        for line in found:
            yield line


def as_list(value):
    """Return what configobj has read as a list: one item without a comma is text."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value] if value else []


def due(volumes, used, interval, now):
    """Return the volumes whose used bytes are to be measured, the oldest measurement first."""
    asked = [(used.get(name, (0, 0))[1], name) for name in volumes]
    return [name for measured, name in sorted(asked) if now - measured >= interval]


def metrics(known, used):
    """Yield (name, value) of everything that is published of the volumes that could be read."""
    for name in sorted(known):
        prefix = ".".join(re.sub("[^A-Za-z0-9_-]", "_", part) for part in name.split("/"))
        for key in sorted(known[name]):
            yield "{0}.{1}".format(prefix, key), known[name][key]
        if name in used:
            yield prefix + ".used", used[name][0]
