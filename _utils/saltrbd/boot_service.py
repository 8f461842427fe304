"""What the unit ``rbd-volume@`` runs when a node starts and stops; see ``saltrbd.boot``."""

import sys
import time

from saltrbd import boot, client, device, errors
from saltrbd.settings import Settings
from saltrbd.spec import Spec

# What passes by itself, and the seconds that it is waited for. An image that is in use: the cluster drops the watch of this node's
# last boot after 30 s (osd_client_watch_timeout). Not supported, failed: a kernel module or
# a device node that comes a moment later.
_PASSING = (
    ((errors.ClusterUnreachable, errors.CephTimeout, errors.CommandTimeout, errors.WorkerDied), boot.PATIENCE),
    ((errors.Busy, errors.NotSupported, errors.CommandFailed), 60),
)
PAUSE = 2.0


def main(argv):
    """``attach`` or ``detach``, and the unit's instance."""
    action, instance = argv
    kept = boot.load(instance)
    if kept is None and action == "detach":
        return  # whoever took the record away has unmapped the image
    if kept is None:
        sys.exit("{}/{}.json is missing or damaged; the state rbd_device.mapped writes it.".format(boot.FOLDER, instance))
    ceph = client.get(Settings(**dict(kept["settings"], monitors=tuple(kept["settings"]["monitors"]))))
    spec = Spec(*kept["spec"])
    try:
        if action == "attach":
            print("{} is {}.".format(spec, attach(ceph, spec, kept).device))
        else:
            device.unmap(ceph, spec, keep_boot=True)
    except errors.RbdError as error:
        sys.exit(str(error))


def attach(ceph, spec, kept):
    """Map the image as the record says and return its mapping; what may pass is tried again. Raises the last error."""
    began, said = time.monotonic(), ""
    while True:
        try:
            _same_image(ceph, spec, kept)
            return device.map_image(ceph, spec, *(kept[key] for key in ("driver", "read_only", "exclusive", "options")))
        except errors.RbdError as error:
            reason = error
        limit = max([seconds for kinds, seconds in _PASSING if isinstance(reason, kinds)], default=0)
        if time.monotonic() - began >= limit:
            raise reason
        if str(reason) != said:
            said = str(reason)
            print("Not yet: {}".format(said), flush=True)
        time.sleep(PAUSE)


def _same_image(ceph, spec, kept):
    now = ceph.call("image_info", spec.head)["id"]
    if now != kept["image_id"]:
        raise errors.Refused(
            "{} is another image by now (id {}, not {}), so it is not mapped at boot; the state rbd_device.mapped takes it.".format(
                spec, now, kept["image_id"]
            )
        )
