"""Which process is killed in which moment: drawn by a number, so that a run can be repeated."""

import random
from collections import namedtuple

# Where a kill can land. They overlap: a snapshot is taken while filesystems are frozen.
PHASES = {
    "frozen": "while a filesystem is frozen",
    "mkfs": "inside mkfs",
    "unmounted": "between map and mount",
    "snapshot": "inside a snapshot",
    "clone": "inside a clone",
}
# Who can be hit in a phase. The helper and its guard live only around a freeze; a device's daemon that dies costs half a minute,
# until the cluster drops its watch, so it is drawn less often.
_ANY = ("salt",) * 4 + ("worker",) * 3 + ("daemon",)
VICTIMS = {
    "frozen": ("salt", "salt+helper", "salt+helper", "helper", "helper", "guard", "worker", "salt+worker", "daemon"),
    "snapshot": ("salt", "salt+helper", "helper", "worker", "worker", "salt+worker"),
    "mkfs": ("salt", "salt", "salt+mkfs", "mkfs", "worker", "daemon"),
    "unmounted": _ANY,
    "clone": ("salt", "salt", "worker", "worker", "salt+worker"),
    None: _ANY,
}


class Kill(namedtuple("Kill", "number aim victim moment")):
    """``aim``: the phase that is waited for, or None; ``moment`` 0 to 1: how far into it, or into the whole run."""

    def __str__(self):
        return f"{self.number}-{self.aim or 'any'}-{self.victim}"


def plan(kills, seed):
    """Return the list of :class:`Kill`: of every six, each phase is aimed at once, and one is anywhere."""
    drawn, found = random.Random(seed), []
    while len(found) < kills:
        aims = [*PHASES, None]
        drawn.shuffle(aims)
        for aim in aims:
            found.append(Kill(len(found), aim, drawn.choice(VICTIMS[aim]), drawn.random()))
    return found[:kills]
