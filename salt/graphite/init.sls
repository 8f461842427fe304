# Carbon, which receives what the nodes measure and keeps it in whisper files. Its configuration lies there before the
# package does, so that it never listens where nobody has declared it.
{% from 'graphite/map.jinja' import graphite with context %}
{% from 'booted.jinja' import else_enabled with context %}
{% from 'systems.jinja' import refuse_system, say_end, system with context %}
{% if not system.carbon %}
{{ refuse_system('Carbon', 'carbon') }}
{% else %}
{{ say_end('Carbon') }}

/etc/carbon:
  file.directory:
    - mode: '0755'

{% for name in ('carbon.conf', 'storage-schemas.conf', 'storage-aggregation.conf') %}
/etc/carbon/{{ name }}:
  file.managed:
    - source: salt://graphite/files/{{ name }}.jinja
    - template: jinja
    - context:
        graphite: {{ graphite | json }}
    - mode: '0644'
    - require:
      - file: /etc/carbon
    - require_in:
      - pkg: {{ graphite.package }}
    - watch_in:
      - service: {{ graphite.service }}
{% endfor %}

{{ graphite.package }}:
  pkg.installed: []

{{ graphite.service }}:
  service.running:
    - enable: True
    - require:
      - pkg: {{ graphite.package }}
{{- else_enabled(graphite.service) }}
{% endif %}
