# Takes away what salt/diamond put there. What Carbon has received stays where Carbon keeps it.
{% from 'diamond/map.jinja' import diamond, system with context %}
the service of Diamond ends:
  service.dead:
    - name: diamond
    - enable: False

{% if diamond.source == 'package' and system %}
the package of Diamond goes:
  pkg.removed:
    - name: {{ system.package }}
    - require:
      - service: the service of Diamond ends
{% endif %}

{% for path in ('/etc/systemd/system/diamond.service', '/etc/tmpfiles.d/diamond.conf', '/etc/diamond', '/opt/diamond') %}
{{ path }}:
  file.absent:
    - require:
      - service: the service of Diamond ends
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
