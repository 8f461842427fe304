"""What the doctor asks of a cluster. Nothing is written: each attempt to write is one that cannot succeed."""

import json
import time

import rados
import rbd
from session import WorkerError, describe

# An object that nobody has: taking it away needs the right to write, and changes nothing.
_NO_OBJECT = "saltrbd.doctor.no-such-object"
# No address: a monitor looks first whether the user may shut clients out, and then at the address.
_NO_ADDRESS = "nonsense/0"
_DENIED = (-1, -13)


def ask(session, command, **words):
    """Return a monitor's answer to a question, None for an empty one."""
    code, output, status = session.rados.mon_command(json.dumps(dict(words, prefix=command, format="json")), b"")
    if code:
        raise WorkerError(
            "PermissionDenied" if code in _DENIED else "CephError", "'ceph {}' answered {} ({})".format(command, code, status)
        )
    return json.loads(output.decode("utf-8") or "null")


def doctor_clock(session, report):
    """The newest entry of the cluster's log and the time here, in seconds since 1970; a manager writes one every two seconds."""
    entries = ask(session, "log last", num=1, level="debug", channel="cluster") or []
    here = time.time()
    return {"stamp": entries[-1]["stamp"] if entries else None, "here": here}


def doctor_rights(session, report):
    """Whether the user may shut out a dead client, as ``mon 'profile rbd'`` lets it."""
    ask = {"prefix": "osd blocklist", "blocklistop": "add", "addr": _NO_ADDRESS, "format": "json"}
    code, _, status = session.rados.mon_command(json.dumps(ask), b"")
    return {"blocklist": code not in _DENIED, "status": status}


def doctor_health(session, report):
    """What 'ceph health' says: {"status", "checks": {code: sentence}}."""
    told = ask(session, "health")
    return {"status": told["status"], "checks": {name: check["summary"]["message"] for name, check in told["checks"].items()}}


def doctor_pool(session, report, pool, namespace=""):
    """What the user may do in a pool: {"list", "write", "execute"}, each None where it may, else Ceph's words."""
    context = session.ioctx(pool, namespace)
    return {
        "list": _denied(lambda: rbd.RBD().list(context)),
        "write": _denied(lambda: context.remove_object(_NO_OBJECT)),
        "execute": _denied(lambda: context.execute(_NO_OBJECT, "rbd", "get_id", b"")),
    }


def _denied(attempt):
    try:
        attempt()
    except rados.ObjectNotFound:
        return None  # the attempt was permitted, and found nothing
    except (rados.Error, rbd.Error) as error:
        return describe(error)[1]
    return None


OPERATIONS = {
    "doctor_clock": doctor_clock,
    "doctor_rights": doctor_rights,
    "doctor_health": doctor_health,
    "doctor_pool": doctor_pool,
}
