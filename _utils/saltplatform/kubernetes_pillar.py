"""The pillar's ``kubernetes:``, read together with ``ceph:`` and the volumes of ``rbd:``: what is served, and why something is not."""

import uuid
from collections import namedtuple

from saltrbd import features, image
from saltrbd import spec as specs
from saltrbd.errors import InvalidPillar, RbdError, quoted

from saltplatform import kubernetes_library as library
from saltplatform import kubernetes_names as names
from saltplatform.kubernetes_schema import SECTION

FOLDER = "/etc/kubernetes/rbd"
# The CSI specification's limit in bytes of a text for which it names no other (section Size Limits).
MAX_HANDLE = 128
# A file's name has 255 bytes, with what comes before and after an object's name.
MAX_NAME = 200
# What the driver needs to hear of an image whose features the pillar leaves to the cluster; it looks at the image for the others.
_FEATURES = "layering"
_DEFAULTS = {
    "namespace": "default",
    "secret": "csi-rbd-secret",
    "config_map": "ceph-csi-config",
    "tools_image": "busybox:1.37",
}

Declared = namedtuple(
    "Declared",
    "namespace driver_namespace version secret config_map clusters monitors user storage_classes snapshot_classes volumes pods tools_image",
)
# ``fs_type`` is None for a block device; ``size`` is bytes.
Volume = namedtuple("Volume", "spec name claim size block fs_type access_modes mount_options mounter labels features data_pool cluster_id")
Class = namedtuple("Class", "name cluster_id pool fs_type given")


class _Reader:
    """Keeps every mistake."""

    def __init__(self, section, ceph):
        self.section, self.ceph, self.mistakes, self.clusters = section, ceph, [], {}

    def wrong(self, where, text):
        self.mistakes.append("{}: {}".format(where, text.rstrip(".")))

    def attempt(self, where, function, *args):
        """Return what the function returns; keep its error as a mistake, and return None."""
        try:
            return function(*args)
        except RbdError as error:
            self.wrong(where, str(error))
            return None

    def get(self, key):
        value = self.section.get(key)
        return _DEFAULTS.get(key) if value is None else value

    def name(self, where, text, is_name=names.is_subdomain):
        if not is_name(text) or len(text) > MAX_NAME:
            dots = "" if is_name is names.is_label else " with dots between"
            kind = "must be a name of RFC 1123 (lower case letters, digits and -{}) of {} characters at most, not {}"
            self.wrong(where, kind.format(dots, names.MAX_LABEL if is_name is names.is_label else MAX_NAME, quoted(text)))
        return text

    def cluster_id(self, where, namespace):
        """Return the driver's clusterID for a RADOS namespace, and remember that it is needed."""
        if namespace not in self.clusters:
            declared = (self.section.get("cluster_ids") or {}).get(namespace)
            self.clusters[namespace] = declared or self._own_id(where, namespace)
        return self.clusters[namespace]

    def _own_id(self, where, namespace):
        try:
            fsid = uuid.UUID(self.ceph.fsid)
        except ValueError:
            text = "ceph:fsid is {}, and the driver's clusterID is made of it: declare it, or kubernetes:cluster_ids"
            self.wrong(where, text.format(quoted(self.ceph.fsid) if self.ceph.fsid else "not declared"))
            return "unknown"
        return str(uuid.uuid5(fsid, namespace)) if namespace else self.ceph.fsid


def read(section, entries, ceph, sizes=None):
    """Return what ``kubernetes:`` declares as :class:`Declared`; raises :class:`InvalidPillar` with every mistake in one message.

    ``entries``: what :func:`saltrbd.volumes.read` returned, ``ceph``: :class:`saltrbd.settings.Settings`. ``sizes(entries)`` returns
    {spec: bytes} of clones whose size the pillar does not say, as far as the cluster has them; another one has its parent's.
    """
    reader = _Reader(section if isinstance(section, dict) else {}, ceph)
    for path, sentence in library.defects(library.own(SECTION), section):
        reader.wrong(":".join(["kubernetes", *map(str, path)]), sentence)
    if reader.mistakes:
        raise InvalidPillar.of(reader.mistakes)
    for key, is_name in (("namespace", names.is_label), ("secret", names.is_subdomain)):
        reader.name("kubernetes:" + key, reader.get(key), is_name)
    driver_namespace = section.get("driver_namespace") or reader.get("namespace")
    reader.name("kubernetes:driver_namespace", driver_namespace, names.is_label)
    classes = _storage_classes(reader), _snapshot_classes(reader)
    volumes = _volumes(reader, entries, sizes or (lambda _: {}))
    for other, namespace in _twice(reader.clusters):
        text = "the namespaces {} and {} cannot have one id: the driver finds the namespace by it"
        reader.wrong("kubernetes:cluster_ids", text.format(quoted(other), quoted(namespace)))
    config_map = reader.get("config_map")
    if config_map:
        reader.name("kubernetes:config_map", config_map)
        if not ceph.monitors:
            text = "it has the monitors for the driver, and ceph:monitors is empty: declare that, or false where the driver has its own"
            reader.wrong("kubernetes:config_map", text)
    version = reader.attempt("kubernetes", library.check_version, section.get("version") or "")
    pods = _pods(reader, volumes)
    if reader.mistakes:
        raise InvalidPillar.of(reader.mistakes)
    return Declared(
        namespace=reader.get("namespace"),
        driver_namespace=driver_namespace,
        version=version,
        secret=reader.get("secret"),
        config_map=config_map or None,
        clusters=dict(sorted(reader.clusters.items())),
        monitors=list(ceph.monitors),
        user=ceph.user,
        storage_classes=classes[0],
        snapshot_classes=classes[1],
        volumes=sorted(volumes.values(), key=lambda item: item.name),
        pods=pods,
        tools_image=reader.get("tools_image"),
    )


def credentials(section, ceph):
    """Return the settings with the Ceph user that the driver is to be: ``kubernetes:user`` and its keyring, else those of ``ceph:``."""
    section = section if isinstance(section, dict) else {}
    user, keyring = section.get("user"), section.get("keyring")
    user = user[len("client.") :] if isinstance(user, str) and user.startswith("client.") else user
    other = bool(user) and user != ceph.user
    return ceph._replace(user=user or ceph.user, keyring=keyring or ("" if other else ceph.keyring))


def _twice(mapping):
    """Return [(key, key)] of those that have one value."""
    seen = {}
    return [(seen[value], key) for key, value in mapping.items() if seen.setdefault(value, key) != key]


def _storage_classes(reader):
    declared = reader.section.get("storage_classes")
    found = []
    for name, given in ({"csi-rbd-sc": None} if declared is None else declared).items():
        where = "kubernetes:storage_classes:{}".format(name)
        given = _without_none(given)
        reader.name(where, name)
        namespace = given.get("namespace", "" if "pool" in given else reader.ceph.namespace)
        keys = ("features", "object_size", "stripe_unit", "stripe_count", "data_pool")
        want = reader.attempt(where, image.desired, None, *(given.get(key) for key in keys), None, None)
        if want:
            given.update((key, want[key]) for key in keys if key in given)
            _check_features(reader, where, want["features"] or (), given.get("mounter"))
        fs_type = given.get("fs_type", reader.ceph.fs_type)
        found.append(Class(name, reader.cluster_id(where, namespace), given.get("pool", reader.ceph.pool), fs_type, given))
    _one_default(reader, "storage_classes", found)
    return found


def _snapshot_classes(reader):
    declared = reader.section.get("snapshot_classes")
    found = []
    for name, given in ({"csi-rbd-snapclass": None} if declared is None else declared).items():
        where = "kubernetes:snapshot_classes:{}".format(name)
        given = _without_none(given)
        reader.name(where, name)
        found.append(Class(name, reader.cluster_id(where, given.get("namespace", reader.ceph.namespace)), None, None, given))
    _one_default(reader, "snapshot_classes", found)
    return found


def _one_default(reader, key, classes):
    default = [item.name for item in classes if item.given.get("default")]
    if len(default) > 1:
        reader.wrong("kubernetes:" + key, "{} cannot all be the default".format(", ".join(default)))


def _without_none(given):
    return {key: value for key, value in (given or {}).items() if value is not None}


def _spec(reader, where, text):
    return reader.attempt(where, specs.parse_image, text, reader.ceph.pool, reader.ceph.namespace)


def _volumes(reader, entries, sizes):
    """Return {spec: :class:`Volume`} of what is served."""
    by_spec, chosen = {entry["spec"]: entry for entry in entries}, {}
    for text, given in (reader.section.get("volumes") or {}).items():
        where = "kubernetes:volumes:{}".format(text)
        spec = _spec(reader, where, text)
        if spec in chosen:
            reader.wrong(where, "{} is declared twice".format(spec))
        elif spec and spec not in by_spec:
            reader.wrong(where, "{} is declared neither in rbd:volumes nor in rbd:clones".format(spec))
        elif spec:
            chosen[spec] = given
    places = reader.section.get("pools")
    places = None if places is None else [reader.attempt("kubernetes:pools", specs.parse_place, text) for text in places]
    served = [spec for spec in by_spec if _is_served(spec, chosen, places)]
    sizeless = [by_spec[spec] for spec in served if not by_spec[spec]["size"]]
    asked, found = sizes(sizeless) if sizeless else {}, {}
    for spec in served:
        given = _without_none(chosen.get(spec))
        wanted = asked.get(spec) or _size(spec, by_spec)
        found[spec] = _volume(reader, by_spec[spec], given, wanted, _fs_type(spec, by_spec, chosen))
    _check_together(reader, found.values())
    return found


def _is_served(spec, chosen, places):
    if spec in chosen:
        return chosen[spec] is not None
    return places is None or any(_inside(spec, place) for place in places)


def _size(spec, by_spec):
    """The size of a volume by the pillar; a clone has its parent's. None where nobody knows."""
    entry = by_spec.get(spec)
    if entry is None or entry["size"]:
        return entry and entry["size"]
    return _size(entry["parent"].head, by_spec) if entry["parent"] else None


def _fs_type(spec, by_spec, chosen):
    """The filesystem of a volume by ``kubernetes:volumes``, else by ``rbd:``; a clone has its parent's. None where nobody knows."""
    entry = by_spec[spec]
    if entry["clone"] and entry["parent"].head in by_spec:
        return _fs_type(entry["parent"].head, by_spec, chosen)
    return (chosen.get(spec) or {}).get("fs_type") or entry["fs_type"]


def _inside(spec, place):
    return place is not None and spec.pool == place.pool and (not place.namespace or spec.namespace == place.namespace)


def _volume(reader, entry, given, wanted, fs_type):
    """Return the :class:`Volume` of an entry of ``rbd:``; what the driver cannot serve is a mistake."""
    spec, where = entry["spec"], "kubernetes: {}".format(entry["spec"])
    for reason in _refusals(entry):
        reader.wrong(where, "{}. kubernetes:volumes:{}: null leaves it out".format(reason, spec))
    if not wanted:
        reader.wrong(where, "its size is not known: declare it in rbd:clones")
    block = given.get("mode") == "Block"
    modes = given.get("access_modes", ["ReadWriteOnce"])
    if "ReadWriteMany" in modes and not block:
        reader.wrong(where, "ReadWriteMany is for mode Block alone: two hosts cannot write one {}".format(fs_type or "filesystem"))
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        reader.wrong(where, "ReadWriteOncePod cannot be combined with another access mode")
    if block and ("fs_type" in given or "mount_options" in given):
        reader.wrong(where, "fs_type and mount_options have no use in the mode Block")
    elif not block and given.get("fs_type", fs_type) != fs_type:
        reader.wrong(where, "it is a clone of a volume with {}, not with {}".format(fs_type, given["fs_type"]))
    elif not block and not fs_type:
        text = "its filesystem is not known, for the pillar does not declare its parent: declare kubernetes:volumes:{}:fs_type"
        reader.wrong(where, text.format(spec))
    wanted_features = features.declared(entry["image"].get("features")) or []
    _check_features(reader, where, wanted_features, given.get("mounter"))
    name = given.get("name", names.subdomain(spec.image))
    for key in {"name", "claim"} & set(given):
        reader.name("kubernetes:volumes:{}:{}".format(spec, key), given[key])
    return Volume(
        spec=spec,
        name=name,
        claim=given.get("claim", name),
        size=wanted,
        block=block,
        fs_type=None if block else fs_type,
        access_modes=modes,
        mount_options=[] if block else given.get("mount_options", []),
        mounter=given.get("mounter"),
        labels=given.get("labels", {}),
        features=",".join(wanted_features) or _FEATURES,
        data_pool=entry["image"].get("data_pool"),
        cluster_id=reader.cluster_id(where, spec.namespace),
    )


def _refusals(entry):
    """Why a volume cannot be served by rbd.csi.ceph.com as it is, as sentences without an end."""
    name = entry["spec"].image
    if entry["encryption"]:
        yield "it is encrypted, and the driver opens no LUKS header that it has not made itself"
    if entry["mount"]:
        yield "Salt mounts it on this host at {}, and two hosts would write it".format(entry["mount"])
    if name in (".", ".."):
        yield "the driver would take its name for a folder"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_HANDLE:
        yield "the volumeHandle is its name, and CSI takes {} bytes at most".format(MAX_HANDLE)


def _check_features(reader, where, wanted, mounter):
    if "journaling" in wanted and mounter != "rbd-nbd":
        reader.wrong(where, "the kernel maps no image with journaling: declare mounter: rbd-nbd")


def _check_together(reader, volumes):
    """Kubernetes takes two volumes of one driver with one handle for the same volume, and the handle is the image's name alone."""
    seen = {}
    for item in volumes:
        for what, value in (("image", item.spec.image), ("PersistentVolume", item.name), ("claim", item.claim)):
            other = seen.setdefault((what, value), item)
            if other is not item:
                text = "its {} has the name {}, which is that of {}: Kubernetes would take one for the other. Leave one of them out by null"
                if what != "image":
                    text = "its {} has the name {}, which is that of {}: give it another one"
                reader.wrong("kubernetes: {}".format(item.spec), text.format(what, quoted(value), other.spec))
                break


def _pods(reader, volumes):
    found = []
    for name, given in (reader.section.get("pods") or {}).items():
        where = "kubernetes:pods:{}".format(name)
        reader.name(where, name)
        mounts = []
        for item in given["volumes"]:
            spec = _spec(reader, where, item["volume"])
            if spec is None:
                continue
            volume = volumes.get(spec)
            if volume is None:
                reader.wrong(where, "{} is not served to Kubernetes: it is left out, or not declared in rbd:".format(spec))
                continue
            changing = sorted({"owner", "mode", "folders"} & set(item))
            if changing and (volume.block or item.get("read_only") or volume.access_modes == ["ReadOnlyMany"]):
                text = "{} cannot be prepared ({}): it is no filesystem that the Pod may write"
                reader.wrong(where, text.format(spec, ", ".join(changing)))
            mounts.append(dict(item, volume=volume))
        for key, values in (("volume", [item["volume"].name for item in mounts]), ("path", [item["path"] for item in mounts])):
            for value in sorted({value for value in values if values.count(value) > 1}):
                reader.wrong(where, "the {} {} is there twice".format(key, value))
        found.append(dict(given, name=name, volumes=mounts))
    return found
