# By the minion's id, which its key proves: grains are what a minion says of itself.
base:
  'management':
    - salt_master
    - salt_api
    - salt_minion
    - ceph
    - rbd
  'node*':
    - salt_minion
    - ceph
    - rbd
  # The lab's own masterless minion: the volumes of the example, and what an application would write into one: see salt/demo.
  'lab':
    - rbd
    - demo
