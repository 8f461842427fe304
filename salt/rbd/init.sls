# The volumes of the pillar rbd: images, mappings, filesystems, snapshots and clones of this node.
include:
  - rbd.images
  - rbd.encryption
  - rbd.devices
  - rbd.filesystems
  - rbd.snapshots
  - rbd.clones
