# Takes configuration and keyring away that salt/ceph has written, and what is loaded at boot; packages stay, since more than this may need them.
{% set ceph = pillar.get('ceph') or {} %}
{% set user = (ceph.get('user') or 'admin') | replace('client.', '') %}
{% if ceph.get('monitors') %}
/etc/ceph/ceph.conf:
  file.absent
{% endif %}
{% if ceph.get('keyring_text') %}
{{ ceph.get('keyring') or '/etc/ceph/ceph.client.' ~ user ~ '.keyring' }}:
  file.absent
{% endif %}
/etc/systemd/system/rbd-volume@.service.d/ceph.conf:
  file.absent
{% for module in ['rbd', 'nbd'] %}
not at boot {{ module }}:
  file.line:
    - name: /etc/modules-load.d/salt_managed.conf
    - mode: delete
    - content: {{ module }}
    - onlyif: test -e /etc/modules-load.d/salt_managed.conf
{% endfor %}
