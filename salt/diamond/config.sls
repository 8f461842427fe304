# diamond.conf, and one file for each handler and each collector; a file that the pillar does not name goes.
{% from 'diamond/map.jinja' import collectors_paths, diamond, of_salt, settings with context %}
{% set handlers = diamond.handlers.items() | selectattr(1, 'ne', none) | list %}
{% set collectors = [('default', {'interval': diamond.interval, 'hostname': diamond.hostname | default(grains['id']) | replace('.', '_')})] %}
{% for name, values in diamond.collectors | dictsort if values is not none %}
{% do collectors.append((name, dict({'enabled': True}, **dict(of_salt.get(name, {}), **values)))) %}
{% endfor %}
include:
  - diamond.install

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
        handlers: {{ handlers | map(attribute=0) | list | json }}
        collectors_path: {{ collectors_paths | json }}
        log_level: {{ diamond.log_level | json }}
    - group: diamond
    - mode: '0640'
    - require:
      - file: /etc/diamond
    - watch_in:
      - service: diamond

{% for kind, entries in (('handlers', [('default', {})] + handlers), ('collectors', collectors)) %}
{% set folder, declared = '/etc/diamond/' ~ kind, [] %}
{% for name, values in entries %}
{{ folder }}/{{ name.split('.')[-1] }}.conf:
  file.managed:
    - contents: {{ ('# Written by Salt.' ~ settings(values)) | json }}
    - group: diamond
    - mode: '0640'
    # A password or a key may stand here.
    - show_changes: False
    - require:
      - file: {{ folder }}
    - watch_in:
      - service: diamond
{% do declared.append(folder ~ '/' ~ name.split('.')[-1] ~ '.conf') %}
{% endfor %}

{% for path in salt['file.find'](folder, type='f') if path not in declared %}
{{ path }}:
  file.absent:
    - watch_in:
      - service: diamond
{% endfor %}
{% endfor %}
