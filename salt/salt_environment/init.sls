# Salt in a virtual environment of its own, with what its modules need there: Salt's Python cannot see the system's psycopg2.
{% from 'salt_environment/map.jinja' import environment, folder, known, lines, requirements with context %}
{% from 'systems.jinja' import refuse, refuse_system, say_end, system with context %}
{% if not system.salt %}
{{ refuse_system('Salt', 'salt') }}
{% elif not known %}
{{ refuse('this version of Salt', 'salt_environment:version is ' ~ environment.version ~ '; in support are ' ~ lines | join(' and ') ~ '.') }}
{% else %}
{{ say_end('Salt') }}

what Salt's environment is made with:
  pkg.installed:
    - pkgs: {{ (system.salt.packages + environment.build_packages) | json }}

what Salt's environment is made of:
  file.managed:
    - name: {{ folder }}.txt
    - contents: {{ requirements | yaml_dquote }}
    - mode: '0644'
    - makedirs: True
    - dir_mode: '0755'

# timelib builds only with a setuptools that still has distutils' old ways.
what Salt's environment is built with:
  file.managed:
    - name: {{ folder }}.constraints.txt
    - contents: setuptools<75.6.0
    - mode: '0644'

an empty environment for Salt:
  cmd.run:
    - name: {{ system.salt.python }} -m venv --clear {{ folder }}
    - creates: {{ folder }}/complete
    - timeout: 300
    - require:
        - pkg: what Salt's environment is made with
        - file: what Salt's environment is made of
        - file: what Salt's environment is built with

Salt in its environment:
  cmd.run:
    - name: {{ folder }}/bin/pip --quiet --no-input --disable-pip-version-check install -r {{ folder }}.txt
    - env:
        - PIP_CONSTRAINT: {{ folder }}.constraints.txt
    - creates: {{ folder }}/complete
    - timeout: 1800
    - require:
        - cmd: an empty environment for Salt

# Written last: an environment without it was interrupted, and is made anew.
Salt's environment is complete:
  file.managed:
    - name: {{ folder }}/complete
    - contents: {{ requirements | yaml_dquote }}
    - mode: '0644'
    - require:
        - cmd: Salt in its environment
{% endif %}
