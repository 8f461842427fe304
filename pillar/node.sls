# What a node measures beside its system: Ceph's daemons, where it has any, and the volumes that it declares. The RbdCollector asks the
# cluster as client.diamond, who may read and no more; the text of its keyring belongs into an encrypted or external pillar as
# diamond:ceph_keyring (ceph auth get-or-create client.diamond mon 'profile rbd-read-only' osd 'profile rbd-read-only').
diamond:
  collectors:
    CephCollector: {}
    RbdCollector: {}
