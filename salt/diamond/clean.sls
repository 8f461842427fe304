# Takes away what salt/diamond put there. What Carbon has received stays where Carbon keeps it; the packages that an environment is made with stay,
# since more than Diamond may need them.
{% from 'diamond/map.jinja' import diamond with context %}
{% from 'systems.jinja' import system with context %}
the service of Diamond ends:
  service.dead:
    - name: diamond
    - enable: False

{% set units = '/etc/systemd/system/diamond' %}
{% set watched = salt['file.file_exists'](units ~ '-sockets.path') %}
{% if watched %}
the watch over the admin sockets ends:
  service.dead:
    - name: diamond-sockets.path
    - enable: False
{% endif %}

{% if diamond.source == 'package' and system.diamond %}
the package of Diamond goes:
  pkg.removed:
    - name: {{ system.diamond.package }}
    - require:
      - service: the service of Diamond ends
{% endif %}

{% for path in (units ~ '.service', units ~ '-sockets.path', units ~ '-sockets.service', '/etc/diamond', '/opt/diamond') %}
{{ path }}:
  file.absent:
    - require:
      - service: the service of Diamond ends
{% if watched %}
      - service: the watch over the admin sockets ends
{% endif %}
{% endfor %}

{% if diamond.ceph_keyring is defined and diamond.collectors.get('RbdCollector') is mapping %}
{{ diamond.collectors.RbdCollector.get('keyring', '/etc/ceph/ceph.client.diamond.keyring') }}:
  file.absent:
    - require:
      - service: the service of Diamond ends
{% endif %}

# One that was there before has another home. Its group goes with it.
{% if salt['user.info']('diamond').get('home') == '/opt/diamond' %}
the user diamond goes:
  user.absent:
    - name: diamond
    - require:
      - file: /opt/diamond
{% endif %}
