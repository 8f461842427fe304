"""The read-only check of a filesystem that is not mounted.

A journal that waits to be replayed is no damage: it is the normal state after a crash, and of a snapshot of a mounted
filesystem. The next mount replays it.
"""

from collections import namedtuple

from saltrbd import errors, superblock
from saltrbd.run import run

# ``state``: clean, unclean (a journal waits to be replayed) or damaged; ``text``: the check's own words on damage.
Check = namedtuple("Check", "state text")
LAST_LINES = 3


def check(device, fs_type, limit, full=False, block=None):
    """Check the ext4 or xfs on a device without writing; ``full`` makes ext4 read everything, as xfs always does.

    ``block`` is the superblock where the caller has read it.

    Raises :class:`CommandTimeout` after ``limit`` seconds in which nothing was read.
    """
    if fs_type == "xfs":
        return _xfs(device, limit)
    return _ext4(device, limit, full, block or superblock.read(device, limit))


def _ext4(device, limit, full, found):
    if found and found.replay and not full:
        return Check("unclean", "")
    result = run(["e2fsck", "-n"] + ["-f"] * full + [device], limit, ok=None, device=device)
    if result.code == 0:
        return Check("unclean" if found and found.replay else "clean", "")
    # What e2fsck says of a filesystem with an unplayed journal is about a state that no mount will ever see.
    if result.code == 4 and found and found.replay:
        return Check("unclean", "")
    if result.code >= 8:  # not what it found, but that it could not look
        raise errors.CommandFailed("{} cannot be checked: {}.".format(device, _last("e2fsck", result)))
    return Check("damaged", _last("e2fsck", result))


def _xfs(device, limit):
    result = run(["xfs_repair", "-n", device], limit, ok=None, device=device)
    if result.code == 0:
        return Check("clean", "")
    superblock.read(device, limit)  # an unreadable device is no damage, and raises here
    if log_is_dirty(device, limit):
        return Check("unclean", "")
    return Check("damaged", _last("xfs_repair", result))


def log_is_dirty(device, limit):
    """Tell whether the log of an xfs that is not mounted waits to be replayed; False for one that cannot be read."""
    lines = run(["xfs_logprint", "-t", device], limit, ok=None).out.splitlines()
    return any("log tail:" in line and "state: <DIRTY>" in line for line in lines)


def _last(tool, result):
    lines = [line.strip() for line in (result.out + "\n" + result.err).splitlines()]
    # xfs_repair's threads count the allocation groups as they get there: the same damage would read otherwise each time.
    lines = [line for line in lines if line and not line.startswith("- agno =")]
    return "{} ended with code {}: {}".format(tool, result.code, " / ".join(lines[-LAST_LINES:]))
