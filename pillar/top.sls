base:
  '*':
    - ceph
    - rbd
