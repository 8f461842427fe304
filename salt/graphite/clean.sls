# Takes Carbon away. The whisper files stay, unless graphite:clean_data says otherwise.
{% from 'graphite/map.jinja' import graphite with context %}
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
