# The cluster that this site's nodes are clients of. Replace the fsid (ceph fsid) and the monitors' addresses.
# The keyring lies on the node; its key is never part of this pillar's text.
ceph:
  fsid: 7d3f2c1e-4b7a-4c0e-9a3d-5f1f0b6f2a10
  monitors:
    - 192.168.0.11:6789
    - 192.168.0.12:6789
    - 192.168.0.13:6789
  pool: rbd
  user: admin
  keyring: /etc/ceph/ceph.client.admin.keyring
  fs_type: ext4
