# The first transcript of SCENARIO: a write that is still in the page cache, snapshotted without a freeze and with one.
# Each snapshot is cloned and the clone mounted: /mnt/transcript-crash and /mnt/transcript-frozen show what it holds.
the volume:
  rbd_image.present:
    - name: transcript
    - size: 512M

its device:
  rbd_device.mapped:
    - name: transcript
    - require:
        - rbd_image: the volume

its filesystem:
  rbd_filesystem.formatted:
    - name: transcript
    - fs_type: ext4
    - require:
        - rbd_device: its device

its mount:
  rbd_filesystem.mounted:
    - name: /mnt/transcript
    - image: transcript
    - persist: False
    - require:
        - rbd_filesystem: its filesystem

the write:
  file.managed:
    - name: /mnt/transcript/edit
    - contents: edit1
    - require:
        - rbd_filesystem: its mount

the snapshot without a freeze:
  rbd_snapshot.protected:
    - name: transcript@crash
    - consistency: crash
    - require:
        - file: the write

the snapshot with a freeze:
  rbd_snapshot.protected:
    - name: transcript@frozen
    - consistency: filesystem
    - require:
        - rbd_snapshot: the snapshot without a freeze

{% for name in ['crash', 'frozen'] %}
the clone {{ name }}:
  rbd_clone.present:
    - name: transcript-{{ name }}
    - parent: transcript@{{ name }}
    - require:
        - rbd_snapshot: the snapshot with a freeze

the device of the clone {{ name }}:
  rbd_device.mapped:
    - name: transcript-{{ name }}
    - require:
        - rbd_clone: the clone {{ name }}

the mount of the clone {{ name }}:
  rbd_filesystem.mounted:
    - name: /mnt/transcript-{{ name }}
    - image: transcript-{{ name }}
    - fs_type: ext4
    - persist: False
    - require:
        - rbd_device: the device of the clone {{ name }}
{% endfor %}
