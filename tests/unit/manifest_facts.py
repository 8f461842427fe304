"""What the tests of Kubernetes' manifests read: a pillar with every kind of object in it."""

import copy

from saltplatform import kubernetes_objects, kubernetes_pillar
from saltrbd import settings, volumes

FSID = "7d3f2c1e-4b7a-4c0e-9a3d-5f1f0b6f2a10"
KEY = "QVFCcGxhbnRlZC1rZXktb2YtY2VwaA=="
CEPH = {"fsid": FSID, "monitors": ["192.168.0.11:6789", "[v2:192.168.0.12:3300,v1:192.168.0.12:6789]"], "pool": "tenx-k8s", "user": "k8s"}
RBD = {
    "volumes": {
        "db": {"size": "20G", "features": ["layering", "exclusive-lock"], "data_pool": "ec", "snapshots": {"s": {"protected": True}}},
        "Raw_1": {"size": 1500000, "namespace": "tenant", "pool": "tenx-k8s"},
        "secret": {"size": "1G", "encryption": {"passphrase": "a long passphrase"}},
    },
    "clones": {"copy": {"parent": "db@s"}},
}
KUBERNETES = {
    "namespace": "apps",
    "driver_namespace": "ceph-csi",
    "storage_classes": {
        "rbd": {"default": True, "data_pool": "ec", "features": ["layering"], "object_size": "8M", "mount_options": ["discard"]},
        "tenant": {"namespace": "tenant", "mounter": "rbd-nbd", "stripe_unit": "64K", "stripe_count": 4, "reclaim_policy": "Retain"},
    },
    "snapshot_classes": {"rbd": {"default": True}, "kept": {"deletion_policy": "Retain", "name_prefix": "salt-"}},
    "volumes": {
        "secret": None,
        "db": {"fs_type": "xfs", "mount_options": ["noatime"], "labels": {"team": "storage"}},
        "tenx-k8s/tenant/Raw_1": {
            "mode": "Block",
            "access_modes": ["ReadWriteOnce", "ReadWriteMany"],
            "mounter": "rbd-nbd",
            "claim": "raw",
        },
    },
    "pods": {
        "app": {
            "volumes": [
                {"volume": "db", "path": "/data", "owner": "999:999", "mode": "0750", "folders": ["pgdata/a"]},
                {"volume": "copy", "path": "/old", "read_only": True},
                {"volume": "tenx-k8s/tenant/Raw_1", "path": "/dev/raw"},
            ],
            "wait": 30,
            "init": [{"name": "schema", "image": "app:1", "command": ["app", "migrate"]}],
            "containers": [{"name": "app", "image": "app:1", "env": [{"name": "TOKEN", "value": "planted-token"}]}],
            "labels": {"app": "app"},
            "spec": {"restartPolicy": "OnFailure", "volumes": [{"name": "scratch", "emptyDir": {}}]},
        }
    },
}


def read(kubernetes=KUBERNETES, rbd=RBD, ceph=CEPH, sizes=None):
    """Return what such a pillar declares."""
    chosen = settings.load({}, {"ceph": ceph})
    return kubernetes_pillar.read(kubernetes, volumes.read(rbd, chosen), kubernetes_pillar.credentials(kubernetes, chosen), sizes)


def build(*args, **kwargs):
    """Return its objects, which a test may change."""
    return copy.deepcopy(kubernetes_objects.build(read(*args, **kwargs), KEY))


def of_kind(objects, kind):
    """Return {name: object} of one kind."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}
