# diamond.conf, and one file for each handler and each collector; a file that the pillar does not name goes.
{% from 'diamond/map.jinja' import collectors_paths, diamond, entries, known with context %}
include:
  - diamond.install
{% if known %}

{% for folder in ('/etc/diamond', '/etc/diamond/handlers', '/etc/diamond/collectors') %}
{{ folder }}:
  file.directory:
    - group: diamond
    - mode: '0750'
    - require:
      - user: the user diamond
{% endfor %}

/etc/diamond/diamond.conf:
  file.managed:
    - source: salt://diamond/files/diamond.conf.jinja
    - template: jinja
    - context:
        handlers: {{ entries.handlers | reject('equalto', 'default') | sort | json }}
        collectors_path: {{ collectors_paths | json }}
        log_level: {{ diamond.log_level | json }}
    - group: diamond
    - mode: '0640'
    - require:
      - file: /etc/diamond

{% for kind in entries %}
{% set folder, declared = '/etc/diamond/' ~ kind, [] %}
{% for name in entries[kind] | sort %}
{% do declared.append(folder ~ '/' ~ name.split('.')[-1] ~ '.conf') %}
{{ declared[-1] }}:
  file.managed:
    - source: salt://diamond/files/entry.conf.jinja
    - template: jinja
    # What it says may be a password, so it is read from the pillar there, and stands neither in this state nor in a diff.
    - context: {{ {'kind': kind, 'name': name} | json }}
    - show_changes: False
    - group: diamond
    - mode: '0640'
    - require:
      - file: {{ folder }}
{% endfor %}

{% for path in salt['file.find'](folder, type='f') if path not in declared %}
{{ path }}:
  file.absent: []
{% endfor %}
{% endfor %}
{% endif %}
