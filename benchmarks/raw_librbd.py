"""The same work by librbd alone, one image after the other, in one process: the floor for a caller that does not gather.

``/usr/bin/python3 raw_librbd.py POOL COUNT`` with CEPH_CONF set; prints JSON: {work: [seconds per image]}.
"""

import json
import os
import sys
import time

import rados
import rbd

pool, count = sys.argv[1], int(sys.argv[2])
SIZE = 64 << 20


def timed(work):
    """Return the seconds that each call takes."""
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    return seconds


with rados.Rados(conffile=os.environ["CEPH_CONF"], name="client.admin") as cluster, cluster.open_ioctx(pool) as context:

    def read(number):
        """Open an image and ask."""
        with rbd.Image(context, f"raw{number}", read_only=True) as image:
            image.size(), image.features(), list(image.list_snaps())

    def snapshot(number):
        """Snapshot and protect."""
        with rbd.Image(context, f"raw{number}") as image:
            image.create_snap("s")
            image.protect_snap("s")

    def clone(number):
        """Clone the snapshot."""
        rbd.RBD().clone(context, f"raw{number}", "s", context, f"rawclone{number}")

    def desk(number):
        """Clone the first image's snapshot."""
        rbd.RBD().clone(context, "raw0", "s", context, f"rawdesk{number}")

    print(
        json.dumps(
            {
                "create": timed(lambda number: rbd.RBD().create(context, f"raw{number}", SIZE)),
                "read": timed(read),
                "snapshot + protect": timed(snapshot),
                "clone": timed(clone),
                "clones of one snapshot": timed(desk),
            }
        )
    )
