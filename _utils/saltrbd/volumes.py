"""The pillar's ``rbd:`` section: checked as a whole, every mistake told, and laid out as what the state tree declares."""

import posixpath

from saltrbd import clone, device_plan, image, mkfs_options, mount, snapshot, volume_encryption
from saltrbd import spec as specs
from saltrbd.errors import InvalidPillar, RbdError, quoted, unknown_keys
from saltrbd.settings import RBD_KEYS

FS_TYPES = ("ext4", "xfs")
DRIVERS = ("auto", "krbd", "nbd", "fuse")
_PLACE = {"pool", "namespace", "image"}
_LAYOUT = {"size", "features", "object_size", "stripe_unit", "stripe_count", "data_pool", "metadata", "config"}
_MOUNT = {"mount", "fs_type", "mount_options", "persist", "grow", "driver", "map_options", "exclusive", "encryption"}
VOLUME_KEYS = _PLACE | _LAYOUT | _MOUNT | {"allow_shrink", "restore_from_trash", "label", "mkfs_options", "snapshots"}
CLONE_KEYS = _PLACE | _LAYOUT | _MOUNT | {"parent", "clone_format", "restore_from_trash", "snapshots"}
SNAPSHOT_KEYS = {"protected", "consistency"}
_FLAGS = ("persist", "grow", "exclusive", "allow_shrink", "protected")


class _Reader:
    """Walks over the declarations and keeps every mistake."""

    def __init__(self, settings):
        self.settings, self.mistakes = settings, []

    def wrong(self, where, text):
        self.mistakes.append("{}: {}".format(where, text.rstrip(".")))

    def attempt(self, where, function, *args, **kwargs):
        """Return what the function returns; keep its error as a mistake, and return None."""
        try:
            return function(*args, **kwargs)
        except RbdError as error:
            self.wrong(where, str(error))
            return None

    def mapping(self, where, value, keys=None):
        """Return the value as a mapping (an empty one for None), without the keys that nobody knows."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(where, "must be a mapping, not {}".format(quoted(value)))
            return {}
        unknown = unknown_keys(value, keys) if keys is not None else ""
        if unknown:
            self.wrong(where, unknown)
        return {key: item for key, item in value.items() if keys is None or key in keys}


def read(section, settings, exists=None, mistake=""):
    """Return the list of volumes and clones that ``section`` (the pillar's ``rbd:``) declares, each a dict.

    ``exists(snapshot specs)`` returns those that the cluster has; it is asked for parents that the pillar does not
    declare. Raises :class:`InvalidPillar` with every mistake in one message, first ``mistake``, one of ``ceph:`` that is known already.
    """
    reader = _Reader(settings)
    reader.mistakes += [mistake] if mistake else []
    section = reader.mapping("rbd", section, set(RBD_KEYS) | {"namespaces", "volumes", "clones"})
    _namespaces(reader, section)
    entries = []
    for kind, keys in (("volumes", VOLUME_KEYS), ("clones", CLONE_KEYS)):
        for name, declared in reader.mapping("rbd:" + kind, section.get(kind)).items():
            where = "rbd:{}:{}".format(kind, _shown(name))
            entry = _entry(reader, where, name, reader.mapping(where, declared, keys), kind == "clones")
            if entry:
                entries.append(entry)
    volume_encryption.settle(reader, entries)
    _check_together(reader, entries, exists)
    if reader.mistakes:
        raise InvalidPillar.of(reader.mistakes)
    _level(entries)
    return entries


def namespaces(section, settings):
    """Return the namespaces that ``section`` declares, as specs without an image; its mistakes are :func:`read`'s."""
    return _namespaces(_Reader(settings), section if isinstance(section, dict) else {})


def _namespaces(reader, section):
    declared = section.get("namespaces")
    if declared is not None and not isinstance(declared, list):
        reader.wrong("rbd:namespaces", "must be a list of pool/namespace, not {}".format(quoted(declared)))
        declared = None
    found = [reader.attempt("rbd:namespaces", specs.parse_namespace, name, reader.settings.pool) for name in declared or ()]
    return sorted(set(found) - {None})


def _entry(reader, where, name, declared, is_clone):
    chosen = reader.settings
    pool, namespace = declared.get("pool", chosen.pool), declared.get("namespace", "" if "pool" in declared else chosen.namespace)
    found = reader.attempt(where, _place, pool, namespace, declared.get("image", name))
    _check_flags(reader, where, declared)
    want = reader.attempt(
        where,
        image.desired,
        *(
            declared.get(key)
            for key in ("size", "features", "object_size", "stripe_unit", "stripe_count", "data_pool", "metadata", "config")
        ),
    )
    entry = {
        "where": where,
        "spec": found,
        "clone": is_clone,
        "image": {
            key: declared[key] for key in sorted(_LAYOUT | {"allow_shrink", "restore_from_trash", "clone_format"}) if key in declared
        },
        "parent": _parent(reader, where, declared) if is_clone else None,
        "snapshots": _snapshots(reader, where, declared),
        "mount": _mount(reader, where, declared),
        "fs_type": declared.get("fs_type", None if is_clone else chosen.fs_type),
        "size": want and want["size"],
    }
    for key in ("label", "mkfs_options", "mount_options", "persist", "grow", "driver", "map_options", "exclusive"):
        entry[key] = declared.get(key)
    path = ["rbd", "clones" if is_clone else "volumes", name]
    entry["encryption"] = volume_encryption.read(reader, where, path, declared) if found else None
    if not is_clone and declared.get("size") is None:
        reader.wrong(where, "has no size")
    return entry if found else None


def _shown(name):
    """A key of the pillar for a message: as it is where that is plain text."""
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) < 100 else quoted(name)


def _there(names):
    """The names that there are, for a message: ten of them at most."""
    shown = sorted(map(_shown, names))
    more = " and {} more".format(len(shown) - 10) if len(shown) > 10 else ""
    return "there are {}{}".format(", ".join(shown[:10]), more) if shown else "it has none"


def _place(pool, namespace, name):
    if not isinstance(name, str):
        raise InvalidPillar("the name {} is not text; put it in quotes".format(quoted(name)))
    if "/" in name or "@" in name:
        raise InvalidPillar("the key (or image) is an image's name alone; declare pool and namespace below it")
    return specs.Spec(
        specs.check_name(pool, "pool"),
        "" if namespace == "" else specs.check_name(namespace, "namespace"),
        specs.check_name(name, "image name"),
        "",
    )


def _check_flags(reader, where, declared):
    for key in _FLAGS:
        if key in declared and not isinstance(declared[key], bool):
            reader.wrong(where, "{} must be True or False, not {}".format(key, quoted(declared[key])))
    for key, choices, otherwise in (("fs_type", FS_TYPES, reader.settings.fs_type), ("driver", DRIVERS, reader.settings.driver)):
        value = declared.get(key, otherwise)
        if value not in choices and (key in declared or declared.get("mount") is not None):
            section = "" if key in declared else "ceph:" if key == "fs_type" else "rbd:"
            reader.wrong(where, "{}{} must be one of {}, not {}".format(section, key, ", ".join(choices), quoted(value)))
    if "label" in declared and not (isinstance(declared["label"], str) and declared["label"].isprintable() and declared["label"]):
        reader.wrong(where, "label must be text, not {}".format(quoted(declared["label"])))
    if "clone_format" in declared:
        reader.attempt(where, clone.check_format, declared["clone_format"])
    restore = declared.get("restore_from_trash")
    if restore is not None and not isinstance(restore, (bool, str)):
        reader.wrong(where, "restore_from_trash must be True, False or an id in quotes, not {}".format(quoted(restore)))
    for key in ("mount_options", "mkfs_options", "map_options"):
        value = declared.get(key)
        words = value.split(",") if isinstance(value, str) else value
        if value is not None and not (isinstance(words, list) and all(isinstance(word, str) and word for word in words)):
            reader.wrong(where, "{} must be a list of words, not {}".format(key, quoted(value)))
    _check_host_words(reader, where, declared)
    for key in ("fs_type", "mount_options", "persist", "grow", "driver", "map_options", "exclusive", "label", "mkfs_options"):
        if key in declared and declared.get("mount") is None:
            reader.wrong(where, "{} has no use without a mount".format(key))


def _check_host_words(reader, where, declared):
    """What mkfs, mount and the driver would refuse later is refused here, unless something worse has been told."""
    if declared.get("mount") is None or any(mistake.startswith(where + ":") for mistake in reader.mistakes):
        return
    fs_type = declared.get("fs_type", reader.settings.fs_type)
    if "label" in declared or "mkfs_options" in declared:
        reader.attempt(where, mkfs_options.desired, reader.settings, fs_type, declared.get("label"), declared.get("mkfs_options"))
    if "mount_options" in declared:
        reader.attempt(where, mount.check_options, declared["mount_options"])
    if "map_options" in declared:
        driver, options = declared.get("driver", reader.settings.driver), declared["map_options"]
        reader.attempt(where, device_plan.desired, reader.settings, specs.Spec("pool", "", "image", ""), driver, options=options)


def _parent(reader, where, declared):
    if "parent" not in declared:
        reader.wrong(where, "has no parent (pool/image@snapshot)")
        return None
    chosen = reader.settings
    return reader.attempt(where, specs.parse_snapshot, declared["parent"], chosen.pool, chosen.namespace)


def _mount(reader, where, declared):
    mount = declared.get("mount")
    if mount is None:
        return None
    if (
        not isinstance(mount, str)
        or not mount.startswith("/")
        or posixpath.normpath(mount) != mount
        or mount == "/"
        or mount.startswith("//")
    ):
        reader.wrong(where, "mount must be an absolute path in its plain form, below /, not {}".format(quoted(mount)))
        return None
    if any(char.isspace() or not char.isprintable() for char in mount):
        reader.wrong(where, "mount {} holds white space or an unprintable character".format(quoted(mount)))
        return None
    return mount


def _snapshots(reader, where, declared):
    found = {}
    for name, options in reader.mapping(where + ":snapshots", declared.get("snapshots")).items():
        below = "{}:snapshots:{}".format(where, _shown(name))
        options = reader.mapping(below, options, SNAPSHOT_KEYS)
        reader.attempt(below, specs.check_name, name, "snapshot name")
        _check_flags(reader, below, options)
        consistency = options.get("consistency", "auto")
        reader.attempt(below, snapshot.check_consistency, consistency)
        if consistency == "filesystem" and declared.get("mount") is None:
            reader.wrong(below, "consistency: filesystem needs a mount, where the filesystem can be frozen")
        found[name] = {"protected": options.get("protected", False), "consistency": consistency}
    return found


def _check_together(reader, entries, exists):
    seen, mounts = {}, {}
    for entry in entries:
        other = seen.setdefault(entry["spec"], entry)
        if other is not entry:
            reader.wrong(entry["where"], "{} is declared by {} already".format(entry["spec"], other["where"]))
        other = mounts.setdefault(entry["mount"], entry) if entry["mount"] else entry
        if other is not entry:
            reader.wrong(entry["where"], "the mount point {} is {}'s already".format(entry["mount"], other["where"]))
    foreign = []
    for entry in entries:
        parent = entry["parent"]
        if parent is None:
            continue
        declared = seen.get(parent.head)
        if declared is None:
            foreign.append(entry)
        elif parent.snapshot not in declared["snapshots"]:
            reader.wrong(
                entry["where"],
                "its parent {} is not among the snapshots of {} ({})".format(parent, declared["where"], _there(declared["snapshots"])),
            )
    _check_order(reader, entries)
    if foreign and exists:
        there = exists([entry["parent"] for entry in foreign])
        for entry in foreign:
            if entry["parent"] not in there:
                reader.wrong(entry["where"], "its parent {} is declared nowhere and does not exist".format(entry["parent"]))


def _waits_for(entries):
    """Return {spec: the specs that it waits for}: a clone for its parent, a mount for the mounts above it."""
    mounts = {entry["mount"]: entry["spec"] for entry in entries if entry["mount"]}
    there = {entry["spec"] for entry in entries}
    waits = {}
    for entry in entries:
        above = [entry["parent"].head] if entry["parent"] and entry["parent"].head in there else []
        path = entry["mount"] or "/"
        while path != "/":
            path = posixpath.dirname(path)
            above += [mounts[path]] if path in mounts else []
        waits[entry["spec"]] = above
    return waits


def _levels(waits):
    """Return {spec: the longest way down to it}, without those that wait for themselves over any number of steps."""
    levels, left = {}, dict(waits)
    while left:
        free = {spec for spec, above in left.items() if all(other in levels for other in above)}
        if not free:
            break
        for spec in free:
            levels[spec] = max((levels[other] + 1 for other in left.pop(spec)), default=0)
    return levels


def _check_order(reader, entries):
    """Nothing may wait for itself: a clone of its own clone, or a parent mounted below its clone."""
    waits = _waits_for(entries)
    levels = _levels(waits)
    for entry in entries:
        if entry["spec"] not in levels and _reaches(waits, entry["spec"]):
            reader.wrong(
                entry["where"], "{} would have to be there before itself, by way of its parent and its mount point".format(entry["spec"])
            )


def _reaches(waits, spec):
    """True when ``spec`` waits for itself, over any number of steps."""
    met, ahead = set(), list(waits[spec])
    while ahead:
        other = ahead.pop()
        if other == spec:
            return True
        if other not in met:
            met.add(other)
            ahead += waits[other]
    return False


def _level(entries):
    """Give each entry the number of steps before it: what is gathered in one state must not wait for itself."""
    levels = _levels(_waits_for(entries))
    types = {entry["spec"]: entry["fs_type"] for entry in entries}
    for entry in sorted(entries, key=lambda item: levels[item["spec"]]):
        entry["level"] = levels[entry["spec"]]
        if entry["clone"] and entry["fs_type"] is None:  # a clone has its parent's filesystem
            entry["fs_type"] = types[entry["spec"]] = types.get(entry["parent"].head)
