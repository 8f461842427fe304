# Takes Carbon away. The whisper files stay, unless graphite:clean_data says otherwise.
{% from 'graphite/map.jinja' import graphite with context %}
{% from 'systems.jinja' import refuse_system, system with context %}
{% if not system.carbon %}
{{ refuse_system('Carbon', 'carbon') }}
{% else %}
the service of Carbon ends:
  service.dead:
    - name: {{ graphite.service }}
    - enable: False

the package of Carbon goes:
  pkg.purged:
    - name: {{ graphite.package }}
    - require:
      - service: the service of Carbon ends

{% for path in ['/etc/carbon'] + (['/var/lib/graphite'] if graphite.clean_data | default(False) else []) %}
{{ path }}:
  file.absent:
    - require:
      - pkg: the package of Carbon goes
{% endfor %}
{% endif %}
