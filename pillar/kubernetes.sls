# Volumes of a Kubernetes cluster, and the manifests by which its CSI driver (rbd.csi.ceph.com) serves them: docs/kubernetes.md explains every key.
# Give it to the host where kubectl runs, beside ceph; salt/rbd makes the volumes, salt/kubernetes writes the manifests. The key of the driver's
# Ceph user is read from the keyring on that host, and is never part of this pillar.
rbd:
  volumes:
    orders:
      pool: tenx-k8s
      size: 20G
      snapshots:
        seed: {protected: true}
  clones:
    orders-test:
      pool: tenx-k8s
      parent: tenx-k8s/orders@seed
kubernetes:
  folder: /etc/kubernetes/rbd
  namespace: default
  driver_namespace: ceph-csi-rbd
  user: k8s
  keyring: /etc/ceph/ceph.client.k8s.keyring
  pools: [tenx-k8s]
  storage_classes:
    tenx: {pool: tenx-k8s}
  pods:
    orders:
      volumes:
        - {volume: tenx-k8s/orders, path: /srv/orders, owner: '999:999', mode: '0750', folders: [data]}
      containers:
        - {name: orders, image: 'registry.example/orders:1'}
