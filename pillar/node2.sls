# The second node's volumes.
rbd:
  volumes:
    data2:
      size: 512M
      mount: /srv/data
      fs_type: ext4
    logs2:
      size: 512M
      mount: /srv/logs
      fs_type: xfs
