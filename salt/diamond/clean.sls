# Takes away what salt/diamond put there. What Carbon has received stays where Carbon keeps it.
{% from 'diamond/map.jinja' import diamond, system with context %}
the service of Diamond ends:
  service.dead:
    - name: diamond
    - enable: False

the watch over the admin sockets ends:
  service.dead:
    - name: diamond-sockets.path
    - enable: False

{% if diamond.source == 'package' and system %}
the package of Diamond goes:
  pkg.removed:
    - name: {{ system.package }}
    - require:
      - service: the service of Diamond ends
{% endif %}

{% set units = '/etc/systemd/system/diamond' %}
{% for path in (units ~ '.service', units ~ '-sockets.path', units ~ '-sockets.service', '/etc/diamond', '/opt/diamond') %}
{{ path }}:
  file.absent:
    - require:
      - service: the service of Diamond ends
      - service: the watch over the admin sockets ends
{% endfor %}

{% if diamond.ceph_keyring is defined and diamond.collectors.get('RbdCollector') is mapping %}
{{ diamond.collectors.RbdCollector.get('keyring', '/etc/ceph/ceph.client.diamond.keyring') }}:
  file.absent:
    - require:
      - service: the service of Diamond ends
{% endif %}

# Its group goes with it.
the user diamond goes:
  user.absent:
    - name: diamond
    - require:
      - file: /opt/diamond
