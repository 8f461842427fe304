"""Whether objects are what Kubernetes and the driver take: by the published schemas, and by the rules that no schema holds.

No message shows a value of a Secret or of a container's environment.
"""

import base64
import binascii
import re
from fractions import Fraction

from saltrbd.errors import quoted

from saltplatform import kubernetes_library as library
from saltplatform import kubernetes_names as names
from saltplatform.kubernetes_objects import DRIVER

# VolumeSnapshotClass is no part of Kubernetes' own API: its definition, v1, is published as a CustomResourceDefinition
# (kubernetes-csi/external-snapshotter, client/config/crd); these are its fields.
_SNAPSHOT_CLASS = ("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass")
_PARAMETERS = {"type": "object", "additionalProperties": {"type": "string"}}
_SNAPSHOT_CLASS_FIELDS = {
    "apiVersion": {"const": _SNAPSHOT_CLASS[0]},
    "kind": {"const": _SNAPSHOT_CLASS[1]},
    "metadata": library.metadata_reference(),
    "driver": {"type": "string"},
    "deletionPolicy": {"enum": ["Delete", "Retain"]},
    "parameters": _PARAMETERS,
}
_NAMESPACED = ("Secret", "ConfigMap", "PersistentVolumeClaim", "Pod")
# Kubernetes' own form of a quantity (apimachinery, pkg/api/resource).
_QUANTITY = re.compile(r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE]i|[mkMGTPEun])|[eE]([+-]?[0-9]{1,3}))?")
_FACTORS = {
    "n": (10, -9),
    "u": (10, -6),
    "m": (10, -3),
    "k": (10, 3),
    "M": (10, 6),
    "G": (10, 9),
    "T": (10, 12),
    "P": (10, 15),
    "E": (10, 18),
}
_FACTORS.update((unit + "i", (1024, power)) for power, unit in enumerate("KMGTPE", 1))
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
# What the driver asks of a PersistentVolume that it has not made (ceph-csi, docs/static-pvc.md).
_ATTRIBUTES = ("clusterID", "pool", "staticVolume", "imageFeatures")


def mistakes(objects, version):
    """Return one sentence for each mistake of the objects, which are all that is applied; an empty list where there is none."""
    found = []
    sound = []
    for number, item in enumerate(objects, 1):
        problems = list(_shape(item, version))
        found += ["{}: {}.".format(_called(item, number), problem) for problem in problems]
        sound += [] if problems else [item]
    known = {_identity(item): item for item in sound}
    for item in sound:
        found += ["{}: {}.".format(_called(item), problem) for problem in _rules(item, known)]
    return found + list(_together(sound))


def amount(text):
    """Return a quantity of Kubernetes' as a number, None for what is none."""
    match = _QUANTITY.fullmatch(text if isinstance(text, str) else "")
    if not match:
        return None
    number, unit, power = match.groups()
    base, exponent = _FACTORS.get(unit, (10, int(power or 0)))
    return Fraction("0" + number) * Fraction(base) ** exponent


def _called(item, number=0):
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    kind = item.get("kind") if isinstance(item, dict) else None
    return "{} {}".format(kind, name) if isinstance(kind, str) and isinstance(name, str) else "Object {}".format(number)


def _identity(item):
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _shape(item, version):
    """What the schema says of one object, and whether it has a name at all."""
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str) or not isinstance(item.get("apiVersion"), str):
        yield "it has no kind and apiVersion"
        return
    api_version, kind = item["apiVersion"], item["kind"]
    if (api_version, kind) == _SNAPSHOT_CLASS:
        schema = {"type": "object", "properties": _SNAPSHOT_CLASS_FIELDS, "additionalProperties": False}
        validator = library.own(dict(schema, required=["apiVersion", "kind", "metadata", "driver", "deletionPolicy"]), version)
    else:
        validator = library.published(version, api_version, kind)
    if validator is None:
        yield "Kubernetes {} has no {} of {}".format(version, quoted(kind), quoted(api_version))
        return
    if not _keys_are_texts(item):
        yield "it has a key that is no text; put it in quotes"
        return
    for path, sentence in library.defects(validator, item):
        yield "{} {}".format(".".join(map(str, path)) or "it", sentence)
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        yield "metadata.name is not there"


def _keys_are_texts(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and _keys_are_texts(inner) for key, inner in value.items())
    return not isinstance(value, list) or all(_keys_are_texts(inner) for inner in value)


def _rules(item, known):
    """What the API server, the binding of claims and the driver ask beyond the schema. Every object here fits its schema."""
    kind, metadata = item["kind"], item["metadata"]
    if not names.is_subdomain(metadata["name"]):
        yield "metadata.name {} is no name of RFC 1123".format(quoted(metadata["name"]))
    if kind in _NAMESPACED and not names.is_label(metadata.get("namespace")):
        yield "metadata.namespace {} is no name of RFC 1123".format(quoted(metadata.get("namespace")))
    if kind not in _NAMESPACED and metadata.get("namespace"):
        yield "metadata.namespace is there, and the object lies in none"
    for key, value in (metadata.get("labels") or {}).items():
        prefix, slash, name = key.rpartition("/")
        if not name or len(name) > 63 or not _LABEL_VALUE.fullmatch(name) or (slash and not names.is_subdomain(prefix)):
            yield "the label {} is none that Kubernetes takes".format(quoted(key))
        elif value is not None and (len(value) > 63 or not _LABEL_VALUE.fullmatch(value)):
            yield "the value {} of the label {} is none that Kubernetes takes".format(quoted(value), key)
    yield from _RULES.get(kind, lambda *_: ())(item, known)


def _secret(item, _):
    for key, value in (item.get("data") or {}).items():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError):
            yield "data.{} is no base64".format(key)
    given = set(item.get("stringData") or ()) | set(item.get("data") or ())
    if {"userID", "userKey"} & given:
        for key in ("userID", "userKey"):
            if not (item.get("stringData") or {}).get(key) and not (item.get("data") or {}).get(key):
                yield "{} is empty or not there".format(key)


def _class(item, known):
    parameters = item.get("parameters") or {}
    if item.get("provisioner", item.get("driver")) != DRIVER:
        return
    for key in ("clusterID", "pool") if item["kind"] == "StorageClass" else ("clusterID",):
        if not parameters.get(key):
            yield "parameters.{} is empty or not there".format(key)
    for key in sorted(parameters):
        if key.endswith("-secret-name"):
            namespace = parameters.get(key[: -len("name")] + "namespace", "")
            yield from _refers("parameters." + key, ("Secret", namespace, parameters[key]), known)


def _persistent_volume(item, known):
    spec = item.get("spec") or {}
    capacity = amount((spec.get("capacity") or {}).get("storage"))
    if not capacity:
        yield "spec.capacity.storage is no size"
    if not spec.get("accessModes"):
        yield "spec.accessModes is empty or not there"
    driver = spec.get("csi") or {}
    if driver.get("driver") != DRIVER:
        return
    attributes = driver.get("volumeAttributes") or {}
    for key in _ATTRIBUTES:
        if not attributes.get(key):
            yield "spec.csi.volumeAttributes.{} is empty or not there".format(key)
    if attributes.get("staticVolume") not in (None, "", "true"):
        yield "spec.csi.volumeAttributes.staticVolume must be the text true"
    if not driver.get("volumeHandle"):
        yield "spec.csi.volumeHandle is empty"
    if spec.get("persistentVolumeReclaimPolicy") != "Retain":
        yield "spec.persistentVolumeReclaimPolicy must be Retain: the driver cannot remove what it has not made"
    if "ReadWriteMany" in (spec.get("accessModes") or ()) and spec.get("volumeMode") != "Block":
        yield "spec.accessModes has ReadWriteMany, which the driver takes for Block alone"
    if spec.get("volumeMode") != "Block" and not driver.get("fsType"):
        yield "spec.csi.fsType is empty or not there"
    secret = driver.get("nodeStageSecretRef") or {}
    yield from _refers("spec.csi.nodeStageSecretRef", ("Secret", secret.get("namespace", ""), secret.get("name", "")), known)
    claim = spec.get("claimRef") or {}
    yield from _refers("spec.claimRef", ("PersistentVolumeClaim", claim.get("namespace", ""), claim.get("name", "")), known)


def _claim(item, known):
    spec = item.get("spec") or {}
    wanted = amount(((spec.get("resources") or {}).get("requests") or {}).get("storage"))
    if not wanted:
        yield "spec.resources.requests.storage is no size"
    identity = ("PersistentVolume", "", spec.get("volumeName", ""))
    yield from _refers("spec.volumeName", identity, known)
    volume = (known.get(identity) or {}).get("spec")
    if not volume:
        return
    there = volume.get("claimRef") or {}
    if there and (there.get("namespace"), there.get("name")) != (item["metadata"].get("namespace"), item["metadata"]["name"]):
        yield "the PersistentVolume {} is another claim's".format(identity[2])
    if wanted and wanted > (amount((volume.get("capacity") or {}).get("storage")) or wanted):
        yield "it asks for more than the PersistentVolume {} has".format(identity[2])
    if not set(spec.get("accessModes") or ("none",)) <= set(volume.get("accessModes") or ()):
        yield "the PersistentVolume {} has not its access modes".format(identity[2])
    for field, otherwise in (("volumeMode", "Filesystem"), ("storageClassName", None)):
        if spec.get(field, otherwise) != volume.get(field, otherwise):
            yield "the PersistentVolume {} has another {}".format(identity[2], field)


def _pod(item, known):
    spec = item.get("spec") or {}
    for volume in spec.get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim:
            yield from _refers("spec.volumes", ("PersistentVolumeClaim", item["metadata"].get("namespace"), claim), known)
    there = [volume["name"] for volume in spec.get("volumes") or ()]
    containers = list(spec.get("initContainers") or ()) + list(spec.get("containers") or ())
    called = [container["name"] for container in containers]
    for what, values in (("container", called), ("volume", there)):
        for value in dict.fromkeys(values):
            if not names.is_label(value):
                yield "the {} {} has no name of RFC 1123 without dots".format(what, quoted(value))
            if values.count(value) > 1:
                yield "the {} {} is there twice".format(what, value)
    for container in containers:
        if not container.get("image"):
            yield "the container {} has no image".format(container["name"])
        mounts = [(mount["name"], mount["mountPath"]) for mount in container.get("volumeMounts") or ()]
        mounts += [(device["name"], device["devicePath"]) for device in container.get("volumeDevices") or ()]
        paths = [path for _, path in mounts]
        for name in sorted({name for name, _ in mounts} - set(there)):
            yield "the container {} mounts {}, which is no volume of the Pod".format(container["name"], quoted(name))
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            yield "the container {} has two volumes at {}".format(container["name"], path)


def _refers(where, identity, known):
    kind, namespace, name = identity
    if identity not in known:
        inside = " in {}".format(namespace) if namespace else ""
        yield "{} names the {} {}{}, which is not there".format(where, kind, quoted(name), inside)


def _together(objects):
    """What is there twice, of what may be there once."""
    seen, handles = set(), {}
    for item in objects:
        identity = _identity(item)
        if identity in seen:
            yield "{}: it is there twice.".format(_called(item))
        seen.add(identity)
        driver = (item.get("spec") or {}).get("csi") if item["kind"] == "PersistentVolume" else None
        if driver:
            other = handles.setdefault((driver["driver"], driver["volumeHandle"]), item)
            if other is not item:
                text = "{}: its volumeHandle is that of {} too, and Kubernetes takes one for the other."
                yield text.format(_called(item), _called(other))


_RULES = {
    "PersistentVolume": _persistent_volume,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "Secret": _secret,
    "StorageClass": _class,
    "VolumeSnapshotClass": _class,
}
