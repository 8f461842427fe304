# The unit and the running service; it starts again, once, when anything that it has read has changed.
{% from 'diamond/map.jinja' import environment, program, sockets with context %}
include:
  - diamond.config

/etc/systemd/system/diamond.service:
  file.managed:
    - source: salt://diamond/files/diamond.service.jinja
    - template: jinja
    - context:
        program: {{ program }}
        sockets: {{ sockets | json }}
    - mode: '0644'
    - watch_in:
      - service: diamond

{% for unit in ('diamond-sockets.path', 'diamond-sockets.service') %}
/etc/systemd/system/{{ unit }}:
{% if sockets %}
  file.managed:
    - source: salt://diamond/files/{{ unit }}.jinja
    - template: jinja
    - context:
        sockets: {{ sockets | json }}
    - mode: '0644'
    - require:
      - user: the user diamond
    - watch_in:
      - service: diamond-sockets.path
{% else %}
  file.absent:
    - require:
      - service: diamond-sockets.path
{% endif %}
{% endfor %}

diamond-sockets.path:
{% if sockets %}
  service.running:
    - enable: True
    - require_in:
      - service: diamond
{% else %}
  service.dead:
    - enable: False
{% endif %}

diamond:
  service.running:
    - enable: True

{% for old in salt['file.find']('/opt/diamond', name='env-*', type='d', maxdepth=1) if old != environment %}
{{ old }}:
  file.absent:
    - require:
      - service: diamond
{% endfor %}
