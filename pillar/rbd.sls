# A volume with a filesystem, a snapshot taken while the filesystem stands still, and a clone of it.
rbd:
  volumes:
    rbd0001:
      size: 512M
      mount: /mnt/test0001
      fs_type: ext4
      snapshots:
        snap1:
          protected: true
          consistency: filesystem
  clones:
    rbd0002:
      parent: rbd0001@snap1
      mount: /mnt/test0002
