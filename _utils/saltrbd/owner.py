"""Which host may write to an image: a RADOS lock of our own on the image's header object.

librbd's exclusive lock wanders to whoever writes, so two daemons on one image both start and destroy each other's filesystem.
Ours is taken before the device is made and given back after it is gone. It names host and boot, and the address of
the daemon that writes. rbd-nbd's own ``--exclusive`` comes on top where the image has the feature.

The decision, for a mapping that will write:

    nobody holds it     watchers or advisory locks?  refuse : take it
    this host, now      a device of it here?         it is ours
                        a daemon without a device?   end the daemon, take it over
                        its watch still there?       refuse (30 s) : take it over
    this host, before   the watch still there?       refuse (30 s) : blocklist the address, then take it over
    its last boot
    another host        the watch still there?       refuse
                        its address known?           blocklist the address, then take it over : refuse
"""

import json
import time
import uuid
from collections import namedtuple
from contextlib import contextmanager

from saltrbd import errors, proc, users
from saltrbd.run import run
from saltrbd.settings import command_args

LOCK = "saltrbd"
# A daemon that was cut off from the cluster comes back with its writes as long as this list has not named it.
BLOCKLIST_SECONDS = 365 * 86400
# Another client may have the image open for an instant: to resize it, for a snapshot (1 s).
PASSING = 2.5

Holder = namedtuple("Holder", "object locker cookie address facts")
Verdict = namedtuple("Verdict", "refusal ours blocklist holder", defaults=(None, False, None, None))


def me(settings):
    """Return what a lock says of its holder: host, boot and pid namespace (a container has its own)."""
    return {"host": settings.host, "boot": proc.boot_id(), "pids": proc.pid_namespace()}


def judge(spec, holder, using, served, mine):
    """Return the :class:`Verdict` on a writable mapping of ``spec`` by this host; pure.

    ``using`` is from the worker (watchers, locks); ``served`` is "device" where the image has a device on this host, "daemon"
    where only a half-started daemon runs, else ""; ``mine`` is from :func:`me`. A verdict without a refusal that is not
    ``ours`` may take the lock, after breaking ``holder``'s and blocklisting the address ``blocklist``.
    """
    watchers = using["watchers"]
    if holder is None:
        return _unheld(spec, using, served)
    host, address = holder.facts.get("host") or "an unnamed host", holder.facts.get("address")
    working = _is_working(holder)
    held = "{} is {} by the host {} (address {})".format(
        spec, "being encrypted or shrunk" if working else "mapped", host, address or holder.address
    )
    here = host == mine["host"]
    if here and all(holder.facts.get(key) == mine[key] for key in ("boot", "pids")):
        if served == "device":
            return Verdict(ours=True, holder=holder)
        if watchers and not served:
            return Verdict(_wait(spec, "its daemon on this host, which is dead", watchers))
        return Verdict(holder=holder)
    if here and holder.facts.get("boot") != mine["boot"]:
        if watchers:
            return Verdict(_wait(spec, "this host's mapping before its last boot", watchers))
        # Another machine may bear the same name (a container that moved, a clone): then its daemon may still live.
        return Verdict(blocklist=address, holder=holder)
    if watchers:
        first = "try again when that is done" if working else "unmap it there first"
        return Verdict("{}; {}. {} rbd_device.fenced locks it out at once.".format(held, first, users.DEAD))
    if not address:
        return Verdict("{}, {}".format(held, unnoted(spec, holder)))
    return Verdict(blocklist=address, holder=holder)


def unnoted(spec, held):
    """Say what is to be done about a lock whose holder's address nobody knows."""
    words = "which ended before it had noted who writes. Make sure that no daemon of it runs there, then run '{}'."
    if _is_working(held):
        words = "which has no device while it encrypts or shrinks an image. Try again when that is done; if it died over that, run '{}'."
    return words.format(" ".join(_break_words(spec, held)))


def _is_working(held):
    """Tell whether a lock is that of :func:`hold`."""
    return held.facts.get("driver") == ""


def _break_words(spec, held):
    """The command that takes a lock away."""
    where = ["-p", spec.pool] + (["--namespace", spec.namespace] if spec.namespace else [])
    return ["rados"] + where + ["lock", "break", held.object, LOCK, held.locker, "--lock-cookie", held.cookie]


def _unheld(spec, using, served):
    if served == "daemon":
        return Verdict()
    if served:
        return Verdict(
            "{} is mapped on this host, but not exclusively. Unmap it first, or declare exclusive: False (for filesystems that "
            "several hosts may mount).".format(spec)
        )
    if using["watchers"]:
        return Verdict(
            "{} is in use by {}; unmap or close it there first. {}".format(spec, ", ".join(map(users.words, using["watchers"])), users.DEAD)
        )
    if using["locks"]:
        return Verdict(
            "{} has the advisory lock of {}; see 'rbd lock ls {}'.".format(spec, ", ".join(map(users.lock_words, using["locks"])), spec)
        )
    return Verdict()


def _wait(spec, whose, watchers):
    return "{} is still watched from {} by {}; the cluster drops a dead client's watch after 30 s, try again then.".format(
        spec, ", ".join(watcher["address"] for watcher in watchers), whose
    )


def locked_out(verdict):
    """Return the sentences that say whom taking the lock as a verdict allows locks out; pure."""
    if not verdict or not verdict.blocklist:
        return []
    text = "The daemon at {} of the host {}, which is gone, is locked out of the cluster."
    return [text.format(verdict.blocklist, verdict.holder.facts["host"])]


def look(ceph, spec, image_id, served, living=list, released=False):
    """Read lock and users and return the :class:`Verdict`; a client that only passes is waited for.

    ``living`` gives of the watchers those that a dry run would not have locked out; ``released``: it would have taken the lock away.
    """
    until = time.monotonic() + PASSING
    while True:
        found = None if released else holder(ceph, spec, image_id)
        using = users.named(ceph.call("image_users", spec.head), ceph.settings.host, found)
        using["watchers"] = living(using["watchers"])
        verdict = judge(spec, found, using, served, me(ceph.settings))
        if not verdict.refusal or found is not None or served or time.monotonic() > until:
            return verdict
        time.sleep(0.25)


def holder(ceph, spec, image_id):
    """Return the :class:`Holder` of the image's lock, or None."""
    found = ceph.call("image_lock_holder", spec.head, image_id=image_id, name=LOCK)
    if found is None:
        return None
    return Holder("rbd_header." + image_id, found["name"], found["cookie"], found["address"], _facts(found["description"]))


def annotate_devices(facts, mappings):
    """Add this host's devices of an image and of its snapshots as ``devices``: those that only read leave no watch."""
    by_snapshot = {item["id"]: item for item in facts["snapshots"]}
    for mapping in mappings:
        if mapping.image_id != facts["id"] or not mapping.device:
            continue
        place = by_snapshot.get(mapping.snapshot_id) if mapping.snapshot_id else facts
        if place is None or not mapping.read_only:
            continue
        place["devices"] = place.get("devices", []) + ["the read-only device {} of {} on this host".format(mapping.device, mapping.spec)]


def annotate(ceph, spec, facts):
    """Add our own lock to an image's ``locks``, and mark with ``here`` what belongs to this host's mapping of it."""
    held = holder(ceph, spec, facts["id"])
    users.named(facts, ceph.settings.host, held)
    if held is None:
        return
    mine = me(ceph.settings)
    here = all(held.facts.get(key) == mine[key] for key in mine)
    host = held.facts.get("host") or "an unnamed host"
    address = held.facts.get("address") or held.address
    facts["locks"].append(
        {
            "client": "the host {}".format(host),
            "cookie": LOCK,
            "address": address,
            "here": here,
            "elsewhere": bool(held.facts.get("host")) and host != mine["host"],
            "host": held.facts.get("host"),
            "driver": held.facts.get("driver"),
        }
    )
    for watcher in facts["watchers"]:
        watcher["here"] = here and watcher["client"] == held.facts.get("client")


def _facts(description):
    try:
        facts = json.loads(description)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def take(ceph, spec, image_id, verdict, cookie, driver):
    """Take the lock as the verdict allows; raises :class:`Busy` when another host was quicker."""
    if verdict.blocklist:
        _blocklist(ceph, spec, verdict)
    if verdict.holder:
        release(ceph, spec, verdict.holder)
    _lock(ceph, spec, image_id, cookie, dict(me(ceph.settings), driver=driver), False)


@contextmanager
def hold(ceph, spec, image_id, verdict):
    """Have the lock for the block, in which no device is made; raises as :func:`take`."""
    cookie = uuid.uuid4().hex
    take(ceph, spec, image_id, verdict, cookie, "")
    try:
        yield
    finally:
        held = holder(ceph, spec, image_id)
        if held and held.cookie == cookie:
            release(ceph, spec, held)


def note(ceph, spec, image_id, cookie, driver, watcher, pid):
    """Write into our lock who writes: the daemon's address, for the host that may have to lock it out one day."""
    facts = dict(me(ceph.settings), driver=driver, address=watcher["address"], client=watcher["client"], pid=pid)
    _lock(ceph, spec, image_id, cookie, facts, True)


def _lock(ceph, spec, image_id, cookie, facts, renew):
    facts["time"] = int(time.time())
    description = json.dumps(facts, sort_keys=True)
    try:
        ceph.call("image_lock", spec.head, image_id=image_id, name=LOCK, cookie=cookie, description=description, renew=renew)
    except errors.Busy:
        other = holder(ceph, spec, image_id)
        if other is None:
            raise
        raise errors.Busy(
            "{} is being mapped by the host {} (address {}) at this moment.".format(
                spec, other.facts.get("host") or "an unnamed host", other.facts.get("address") or other.address
            )
        )


def release(ceph, spec, held):
    """Take the lock away from this one holder; fine if that holder has it no more."""
    image_id, mine = held.object[len("rbd_header.") :], {"name": held.locker, "cookie": held.cookie}
    ceph.call("image_lock_break", spec.head, image_id=image_id, name=LOCK, holder=mine)


def _blocklist(ceph, spec, verdict):
    facts = verdict.holder.facts
    argv = ["ceph", "osd", "blocklist", "add", verdict.blocklist, str(BLOCKLIST_SECONDS)] + command_args(ceph.settings)
    try:
        run(argv, ceph.settings.timeout)
    except errors.CommandFailed as error:
        raise errors.Refused(
            "{} was mapped by the host {} (address {}), whose daemon is gone. It may be cut off and come back with its writes, and "
            "this host could not lock it out ({}). Give client.{} the capability mon 'profile rbd', or run as an administrator "
            "'ceph osd blocklist add {} {}' and then '{}'.".format(
                spec,
                facts.get("host"),
                verdict.blocklist,
                str(error).rstrip("."),
                ceph.settings.user,
                verdict.blocklist,
                BLOCKLIST_SECONDS,
                " ".join(_break_words(spec, verdict.holder)),
            )
        )
