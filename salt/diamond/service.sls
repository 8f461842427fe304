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

# Ceph's daemons let only their own user write to their admin sockets, and a question is written too. A default entry of the
# folder is what the sockets get that a daemon makes later.
/etc/tmpfiles.d/diamond.conf:
{% if sockets %}
  file.managed:
    - contents: |
        # Written by Salt.
        a+ {{ sockets }} - - - - user:diamond:rx,default:user:diamond:rw
        a+ {{ sockets }}/*.asok - - - - user:diamond:rw
    - mode: '0644'
    - watch_in:
      - service: diamond
{% else %}
  file.absent: []
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
