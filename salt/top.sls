# By the minion's id, which its key proves: grains are what a minion says of itself. salt/orch/site.sls applies the same in stages.
base:
  'management':
    - salt_master
    - salt_api
    - salt_minion
    - ceph
    - postgresql
    - rbd
    - graphite
    - diamond
  'node*':
    - salt_minion
    - ceph
    - rbd
    - diamond
  # The lab's own masterless minion: the volumes of the example, and what an application would write into one: see salt/demo.
  'lab':
    - rbd
    - demo
