# Takes away what demo.transcript made, in the order that Ceph needs: mounts, devices, clones, snapshots, image. What demo wrote into the volume of the
# example pillar is that volume's data.
{% for name in ['transcript-crash', 'transcript-frozen', 'transcript'] %}
/mnt/{{ name }}:
  rbd_filesystem.unmounted

no device {{ name }}:
  rbd_device.unmapped:
    - name: {{ name }}
    - require:
        - rbd_filesystem: /mnt/{{ name }}
{% endfor %}

{% for name in ['crash', 'frozen'] %}
no clone {{ name }}:
  rbd_image.absent:
    - name: transcript-{{ name }}
    - trash: False
    - require:
        - rbd_device: no device transcript-{{ name }}

no protection {{ name }}:
  rbd_snapshot.unprotected:
    - name: transcript@{{ name }}
    - require:
        - rbd_image: no clone {{ name }}

no snapshot {{ name }}:
  rbd_snapshot.absent:
    - name: transcript@{{ name }}
    - require:
        - rbd_snapshot: no protection {{ name }}
    - require_in:
        - rbd_image: no volume
{% endfor %}

no volume:
  rbd_image.absent:
    - name: transcript
    - trash: False
    - require:
        - rbd_device: no device transcript
