# Carbon, which receives what the nodes measure and keeps it in whisper files. Its configuration lies there before the
# package does, so that it never listens where nobody has declared it.
{% from 'graphite/map.jinja' import graphite with context %}
{% from 'booted.jinja' import else_enabled with context %}
{% if grains['os_family'] != 'Debian' %}
the system for Carbon:
  test.fail_without_changes:
    - name: Carbon comes as Debian's package graphite-carbon; {{ grains['os'] }} {{ grains['osrelease'] }} has none that is known here.
    - failhard: True
{% else %}
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
