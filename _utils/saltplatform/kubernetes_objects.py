"""The objects of Kubernetes for what the pillar declares, as plain dicts: for the CSI driver ``rbd.csi.ceph.com``.

The parameters are the driver's own (ceph-csi, docs/static-pvc.md and examples/rbd). A volume of the pillar is served as it is: a
PersistentVolume with ``staticVolume`` and a claim that is bound to it. The driver makes, resizes and snapshots only what it has made itself
by a StorageClass.
"""

import json

from saltrbd import size

from saltplatform import kubernetes_pod

DRIVER = "rbd.csi.ceph.com"
LABELS = {"app.kubernetes.io/managed-by": "salt"}
# Bytes that a claim asks for; it gets all of its PersistentVolume. The API server lets no claim without a StorageClass ask for more later
# (admission PersistentVolumeClaimResize), so that a claim which asks for its volume's size could not be applied again once that has grown.
_ASKED = 1 << 20
_SECRETS_OF_A_CLASS = ("provisioner", "controller-expand", "controller-publish", "node-stage")


def build(declared, key):
    """Return the list of all objects, in the order in which they are to be applied. ``key``: the key of the driver's Ceph user."""
    found = [_secret(declared, key)]
    if declared.config_map and declared.clusters:
        found.append(_config_map(declared))
    found += [_storage_class(declared, item) for item in declared.storage_classes]
    found += [_snapshot_class(declared, item) for item in declared.snapshot_classes]
    for volume in declared.volumes:
        found += [_volume(declared, volume), _claim(declared, volume)]
    return found + [kubernetes_pod.pod(declared, given, LABELS) for given in declared.pods]


def quantity(number):
    """Return bytes as Kubernetes writes them: ``512Mi``, a plain number where no unit divides it."""
    text = size.show(number)
    return text[:-1] if text.endswith("B") else text + "i"


def _object(kind, name, api_version="v1", namespace=None, labels=(), annotations=None, **fields):
    metadata = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = dict(labels, **LABELS)
    if annotations:
        metadata["annotations"] = annotations
    return dict({"apiVersion": api_version, "kind": kind, "metadata": metadata}, **fields)


def _secret(declared, key):
    data = {"userID": declared.user, "userKey": key}
    return _object("Secret", declared.secret, namespace=declared.driver_namespace, type="Opaque", stringData=data)


def _config_map(declared):
    clusters = [_cluster(declared, namespace, cluster_id) for namespace, cluster_id in declared.clusters.items()]
    data = {"config.json": json.dumps(clusters, indent=2) + "\n"}
    return _object("ConfigMap", declared.config_map, namespace=declared.driver_namespace, data=data)


def _cluster(declared, namespace, cluster_id):
    found = {"clusterID": cluster_id, "monitors": declared.monitors}
    if namespace:
        # Older versions of the driver read the first, newer ones the second.
        found.update(radosNamespace=namespace, rbd={"radosNamespace": namespace})
    return found


def _storage_class(declared, item):
    given = item.given
    parameters = {"clusterID": item.cluster_id, "pool": item.pool}
    chosen = {
        "dataPool": given.get("data_pool"),
        "imageFeatures": ",".join(given.get("features") or ("layering",)),
        "mounter": given.get("mounter"),
        "volumeNamePrefix": given.get("name_prefix"),
        "objectSize": given.get("object_size"),
        "stripeUnit": given.get("stripe_unit"),
        "stripeCount": given.get("stripe_count"),
        "csi.storage.k8s.io/fstype": item.fs_type,
    }
    parameters.update((name, str(value)) for name, value in chosen.items() if value is not None)
    for what in _SECRETS_OF_A_CLASS:
        parameters["csi.storage.k8s.io/{}-secret-name".format(what)] = declared.secret
        parameters["csi.storage.k8s.io/{}-secret-namespace".format(what)] = declared.driver_namespace
    fields = {
        "provisioner": DRIVER,
        "parameters": parameters,
        "reclaimPolicy": given.get("reclaim_policy", "Delete"),
        "allowVolumeExpansion": given.get("expansion", True),
        "volumeBindingMode": given.get("binding", "Immediate"),
    }
    if given.get("mount_options"):
        fields["mountOptions"] = given["mount_options"]
    default = {"storageclass.kubernetes.io/is-default-class": "true"} if given.get("default") else None
    return _object("StorageClass", item.name, "storage.k8s.io/v1", annotations=default, **fields)


def _snapshot_class(declared, item):
    parameters = {"clusterID": item.cluster_id}
    if item.given.get("name_prefix"):
        parameters["snapshotNamePrefix"] = item.given["name_prefix"]
    parameters["csi.storage.k8s.io/snapshotter-secret-name"] = declared.secret
    parameters["csi.storage.k8s.io/snapshotter-secret-namespace"] = declared.driver_namespace
    policy = item.given.get("deletion_policy", "Delete")
    default = {"snapshot.storage.kubernetes.io/is-default-class": "true"} if item.given.get("default") else None
    fields = {"driver": DRIVER, "deletionPolicy": policy, "parameters": parameters}
    return _object("VolumeSnapshotClass", item.name, "snapshot.storage.k8s.io/v1", annotations=default, **fields)


def _volume(declared, volume):
    attributes = {
        "clusterID": volume.cluster_id,
        "pool": volume.spec.pool,
        "staticVolume": "true",
        "imageFeatures": volume.features,
    }
    if volume.data_pool:
        attributes["dataPool"] = volume.data_pool
    if volume.mounter:
        attributes["mounter"] = volume.mounter
    driver = {
        "driver": DRIVER,
        "volumeHandle": volume.spec.image,
        "nodeStageSecretRef": {"name": declared.secret, "namespace": declared.driver_namespace},
        "volumeAttributes": attributes,
    }
    if volume.fs_type:
        driver["fsType"] = volume.fs_type
    spec = {
        "accessModes": volume.access_modes,
        "capacity": {"storage": quantity(volume.size)},
        # Nobody else's claim is bound to it.
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": declared.namespace, "name": volume.claim},
        "csi": driver,
        # The driver cannot remove an image that it has not made; Salt's pillar has it.
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "volumeMode": "Block" if volume.block else "Filesystem",
    }
    if volume.mount_options:
        spec["mountOptions"] = volume.mount_options
    return _object("PersistentVolume", volume.name, labels=volume.labels, spec=spec)


def _claim(declared, volume):
    spec = {
        "accessModes": volume.access_modes,
        "resources": {"requests": {"storage": quantity(min(volume.size, _ASKED))}},
        # Empty, not left out: the cluster's default class would make a new volume.
        "storageClassName": "",
        "volumeMode": "Block" if volume.block else "Filesystem",
        "volumeName": volume.name,
    }
    return _object("PersistentVolumeClaim", volume.claim, namespace=declared.namespace, labels=volume.labels, spec=spec)
