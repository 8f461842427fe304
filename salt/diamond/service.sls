# The unit and the running service; it starts again, once, when anything that it has read has changed.
{% from 'diamond/map.jinja' import environment, known, program, sockets with context %}
{% from 'booted.jinja' import else_enabled with context %}
include:
  - diamond.install
  - diamond.config
  - diamond.rbd
{% if known %}

/etc/systemd/system/diamond.service:
  file.managed:
    - source: salt://diamond/files/diamond.service.jinja
    - template: jinja
    - context:
        program: {{ program }}
        sockets: {{ sockets | json }}
    - mode: '0644'
    - require:
      - sls: diamond.install

{% set units = ['/etc/systemd/system/diamond-sockets.path', '/etc/systemd/system/diamond-sockets.service'] %}
{% if sockets %}
{% for unit in units %}
{{ unit }}:
  file.managed:
    - source: salt://diamond/files/{{ unit.split('/')[-1] }}.jinja
    - template: jinja
    - context:
        sockets: {{ sockets | json }}
    - mode: '0644'
    - require:
      - user: the user diamond
    - watch_in:
      - service: diamond-sockets.path
{% endfor %}

diamond-sockets.path:
  service.running:
    - enable: True
    - require_in:
      - service: diamond
{{- else_enabled('diamond-sockets.path') }}

{% elif salt['file.file_exists'](units[0]) %}
diamond-sockets.path:
  service.dead:
    - enable: False

{% for unit in units %}
{{ unit }}:
  file.absent:
    - require:
      - service: diamond-sockets.path
{% endfor %}
{% endif %}

diamond:
  service.running:
    - enable: True
    - watch:
      - sls: diamond.install
      - sls: diamond.config
      - sls: diamond.rbd
      - file: /etc/systemd/system/diamond.service
{{- else_enabled('diamond') }}

{% for old in salt['file.find']('/opt/diamond', name='env-*', type='d', maxdepth=1) if old != environment %}
{{ old }}:
  file.absent:
    - require:
      - service: diamond
{% endfor %}
{% endif %}
