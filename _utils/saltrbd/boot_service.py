"""What the unit ``rbd-volume@`` runs when a node starts and stops; see ``saltrbd.boot``."""

import signal
import sys
import time

from saltrbd import boot, client, device, errors, owner
from saltrbd import settings as settings_
from saltrbd.device_find import snapshot_id
from saltrbd.spec import Spec

# What passes by itself, and the seconds that it is waited for. A cluster that is starting too, or whose names cannot be resolved yet.
# An image in use: the cluster drops the watch of this node's last boot after 30 s (osd_client_watch_timeout). Not supported, failed: a
# kernel module or a device node that comes a moment later.
_PASSING = (
    (
        (
            errors.ClusterUnreachable,
            errors.CephTimeout,
            errors.CommandTimeout,
            errors.WorkerDied,
            errors.SessionLost,
            errors.InvalidConfiguration,
        ),
        300,
    ),
    ((errors.Busy, errors.NotSupported, errors.CommandFailed, OSError), 60),
)
PAUSE = 2.0


def main(argv):
    """``attach`` or ``detach``, and the unit's instance."""
    action, instance = argv
    kept = boot.load(instance)
    if kept is None and action == "detach" and not boot.there(instance):
        return  # whoever took the record away has unmapped the image
    if kept is None:
        sys.exit("{}/{}.json is missing or damaged; the state rbd_device.mapped writes it.".format(boot.FOLDER, instance))
    # systemd ends it: what is half mapped is taken back.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("It was ended."))
    try:
        ceph, spec = client.get(settings_.restored(kept["settings"])), Spec(*kept["spec"])
        if action == "attach":
            print("{} is {}.".format(spec, attach(ceph, spec, kept, instance).device))
        else:
            device.unmap(ceph, spec, keep_boot=True)
    except (errors.RbdError, OSError, TypeError) as error:
        sys.exit(str(error))


def attach(ceph, spec, kept, instance):
    """Map the image as the record says and return its mapping; what may pass is tried again. Raises the last error."""

    def guard(current):
        _check(ceph, spec, kept, instance, current)

    began, limit, said = time.monotonic(), None, ""
    while True:
        try:
            wanted = (kept[key] for key in ("driver", "read_only", "exclusive", "options"))
            return device.map_image(ceph, spec, *wanted, guard=guard)
        except (errors.RbdError, OSError) as error:
            reason = error
        now, patience = time.monotonic(), max([seconds for kinds, seconds in _PASSING if isinstance(reason, kinds)], default=0)
        if patience != limit:
            began, limit = now, patience  # another reason, another clock: what waits for the cluster first waits for the image then
        if now - began >= limit:
            raise reason
        if str(reason) != said:
            said = str(reason)
            print("Not yet: {}".format(said), flush=True)
        time.sleep(PAUSE)


def _check(ceph, spec, kept, instance, current):
    """Refuse what only Salt may do, with the pillar of today; ``current`` is a device_plan.Current. It is asked under the host's lock."""
    if boot.load(instance) != kept:
        raise errors.Refused("{} is not to be mapped at boot any more.".format(spec))
    ids = current.image["id"], snapshot_id(current.image, spec)
    if ids != (kept["image_id"], kept["snapshot_id"]):
        raise errors.Refused(
            "{} is another one by now (id {}, not {}), so it is not mapped at boot; the state rbd_device.mapped takes it.".format(
                spec, *((ids[0], kept["image_id"]) if ids[0] != kept["image_id"] else (ids[1], kept["snapshot_id"]))
            )
        )
    held = current.verdict.holder if current.verdict else None
    host = held.facts.get("host") if held else None
    if held and host != owner.me(ceph.settings)["host"]:
        raise errors.Refused(
            "{} was mapped last by the host {}; at boot nothing is taken over from another host, the state rbd_device.mapped does.".format(
                spec, host or "without a name"
            )
        )
