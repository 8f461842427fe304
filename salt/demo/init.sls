# What an application would write into the volume of the example pillar before its snapshot is taken.
include:
  - rbd

the application writes into the volume:
  file.managed:
    - name: /mnt/test0001/edit
    - contents: edit1
    - require:
        - rbd_filesystem: /mnt/test0001
    - require_in:
        - rbd_snapshot: rbd/rbd0001@snap1
