# By the minion's id, as in salt/top.sls: a minion that sets another role's grains gets nothing of it.
base:
  'management':
    - salt
    - ceph
    - postgresql
    - graphite
    - diamond
    - management
  'node*':
    - salt
    - ceph
    - diamond
    - node
  # A volume is written by one host at a time, so each has its own.
  'node1':
    - rbd
  'node2':
    - node2
  'lab':
    - ceph
    - rbd
