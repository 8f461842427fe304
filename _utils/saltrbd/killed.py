"""How long the data in an image counts as what a killed run of this package left there."""

import time

# Without a signature nothing tells what a killed mkfs or LUKS format has written from what somebody wrote to the device since, and the
# kernel's rbd does not note when an image was written. So it counts as theirs for so long only, whoever wrote it, and never longer.
SECONDS = 600
# A mark from later than now was made by a host whose clock says nothing about when that was.
CLOCKS_APART = 60


def is_late(image, began):
    """Tell whether data without a signature may be another's than that of the mkfs or format that ``began`` then (Unix time)."""
    now = int(time.time())
    rolled_back = any(item["type"] in ("user", "group") for item in image["snapshots"])  # or may be: the mark outlives that
    # librbd's time of the last write comes after now only where this host's clock is behind: then the time has passed all the same.
    passed = now > began + SECONDS or image["modified"] > began + SECONDS
    return rolled_back or passed or began > now + CLOCKS_APART
