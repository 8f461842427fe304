"""What pillar and minion configuration say of the cluster and of this package.

``ceph:`` names the cluster (conf, user, keyring, fsid, monitors) and what a declaration leaves out (pool, namespace,
fs_type); ``rbd:`` holds limits. A key in the pillar wins over the same key in the minion's configuration.
"""

from collections import namedtuple

from saltrbd import errors
from saltrbd.errors import InvalidPillar, quoted

DEFAULT_CONF = "/etc/ceph/ceph.conf"

_DEFAULTS = {
    # ceph:
    "conf": "",
    "user": "admin",
    "keyring": "",
    "fsid": "",
    "monitors": (),
    "pool": "rbd",
    "namespace": "",
    "fs_type": "ext4",
    # rbd:
    # Seconds for a question or a small change; librados itself waits 300 s for its monitors (client_mount_timeout).
    "timeout": 30.0,
    # Seconds that long work (flatten, rollback, remove, a slow diff) may go on without progress.
    "progress_timeout": 300.0,
    # Images worked on at once. Snapshots are batched by the monitor once per paxos_propose_interval (1 s), so that 200
    # at once take 2.6 s where 64 at once take 4 s.
    "threads": 200,
    # The interpreter that can import rados and rbd; empty: Salt's own, then /usr/bin/python3.
    "python": "",
    # Seconds that a filesystem stands still at most.
    "freeze_timeout": 15.0,
    # What maps an image where a declaration says nothing: auto, krbd, nbd or fuse.
    "driver": "auto",
    # Parents that an image may stand on, and from how many on it is told; the kernel maps 16. The numbers are ceph-csi's.
    "max_depth": 8,
    "warn_depth": 4,
    # Snapshots that an image may have, and from how many on it is told; krbd maps 510. The numbers are ceph-csi's.
    "max_snapshots": 450,
    "warn_snapshots": 250,
    # Not a key of the pillar: who this host is, for locks and messages.
    "host": "",
}
_CEPH_KEYS = ("conf", "user", "keyring", "fsid", "monitors", "pool", "namespace", "fs_type")
# Read by the state tree salt/ceph alone: the text of the keyring is no setting, and goes nowhere else.
_TREE_KEYS = ("keyring_text",)
# The largest values; an image with 16384 snapshots becomes unreadable (ceph PR 67577).
_COUNTS = {"max_depth": 100, "warn_depth": 100, "max_snapshots": 16383, "warn_snapshots": 16383}
RBD_KEYS = ("timeout", "progress_timeout", "threads", "python", "freeze_timeout", "driver", *_COUNTS)

Settings = namedtuple("Settings", sorted(_DEFAULTS))


def plain(value):
    """Return pillar data as plain dicts, lists and scalars (Salt 3008 hands out masking containers)."""
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def unknown_keys(pillar):
    """Return the mistake of a pillar whose ``ceph:`` has keys that nobody knows, or an empty text.

    A typo in ``fsid`` must not switch a guard off.
    """
    section = plain(pillar.get("ceph") or {})
    told = errors.unknown_keys(section, _CEPH_KEYS + _TREE_KEYS) if isinstance(section, dict) else ""
    return told and "ceph: " + told


def load(opts, pillar):
    """Return the :class:`Settings` from ``__opts__`` and ``__pillar__``; raises :class:`InvalidPillar`."""
    values = dict(_DEFAULTS)
    for name, keys in (("ceph", _CEPH_KEYS), ("rbd", RBD_KEYS)):
        for source in (opts, pillar):
            section = source.get(name) or {}
            if not hasattr(section, "items"):
                raise InvalidPillar("'{}:' must be a mapping, not {}.".format(name, quoted(section)))
            # Only these keys: rbd: may also hold thousands of volumes, and this is read several times for each state.
            values.update((key, plain(section[key])) for key in keys if section.get(key) is not None)
    values["host"] = str(opts.get("id") or "")
    return Settings(**_checked(values))


def restored(values):
    """Return the :class:`Settings` from the dict of one that was kept, maybe by another version; raises :class:`InvalidPillar`."""
    known = {key: value for key, value in values.items() if key in _DEFAULTS}
    return Settings(**_checked(dict(_DEFAULTS, **known)))


def _checked(values):
    wrong = []
    for key in ("timeout", "progress_timeout", "freeze_timeout"):
        number = values[key]
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number <= 86400:
            wrong.append("rbd:{} must be seconds, more than 0 and at most 86400, not {}".format(key, quoted(number)))
    threads = values["threads"]
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1000:
        wrong.append("rbd:threads must be a number from 1 to 1000, not {}".format(quoted(threads)))
    for key, most in _COUNTS.items():
        number = values[key]
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            wrong.append("rbd:{} must be a number from 1 to {}, not {}".format(key, most, quoted(number)))
    for key in ("conf", "user", "keyring", "fsid", "pool", "namespace", "fs_type"):
        if not _line(values[key]):
            wrong.append("ceph:{} must be one line of text, not {}; put it in quotes".format(key, quoted(values[key])))
    for key in ("python", "driver"):
        if not _line(values[key]):
            wrong.append("rbd:{} must be one line of text, not {}".format(key, quoted(values[key])))
    if values["user"] in ("", "client."):
        wrong.append("ceph:user is empty; it must be a Ceph user's name, such as admin")
    monitors = values["monitors"]
    monitors = [monitors] if isinstance(monitors, str) else monitors
    if not isinstance(monitors, (list, tuple)) or not all(_line(item) and item for item in monitors):
        wrong.append("ceph:monitors must be a list of addresses such as 192.0.2.1:6789, not {}".format(quoted(monitors)))
        monitors = ()
    if wrong:
        raise InvalidPillar("; ".join(wrong) + ".")
    values["monitors"] = tuple(monitors)
    values["user"] = values["user"][len("client.") :] if values["user"].startswith("client.") else values["user"]
    return values


def _line(value):
    return isinstance(value, str) and (not value or value.isprintable())


def mon_host(settings):
    """Return the text of Ceph's option ``mon_host`` for the declared monitors, empty where a conf file names them."""
    return ",".join(settings.monitors)


def conf_file(settings):
    """Return the path of the Ceph configuration file, or empty where the monitors are given and no file is."""
    return settings.conf or ("" if settings.monitors else DEFAULT_CONF)


def monitors_for_people(settings):
    """Return where the monitors are, for messages: their addresses, or the file that names them."""
    return ", ".join(settings.monitors) or conf_file(settings)


def command_args(settings):
    """Return the options that make ``rbd``, ``rados`` or ``ceph`` talk to this cluster as this user."""
    args = ["--id", settings.user]
    args += ["--conf", conf_file(settings) or "/dev/null"]
    if settings.monitors:
        args += ["-m", mon_host(settings)]
    if settings.keyring:
        args += ["--keyring", settings.keyring]
    return args
