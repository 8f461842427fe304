# The user, and the program: a package where one exists, else an environment made of the published source release.
{% from 'diamond/map.jinja' import diamond, environment, recipe with context %}
{% from 'systems.jinja' import refuse, refuse_system, say_end, system with context %}
{% if not system.diamond %}
{{ refuse_system('Diamond', 'diamond') }}
{% elif diamond.source not in ('pypi', 'package') %}
{{ refuse('what Diamond is installed from', 'diamond:source must be pypi or package, not ' ~ diamond.source ~ '.') }}
{% else %}
{{ say_end('Diamond') }}

# One that was there before is somebody else's: it keeps its home and its shell, by which diamond/clean.sls knows it.
{% set own = salt['user.info']('diamond').get('home', '/opt/diamond') == '/opt/diamond' %}
{% if not own %}
the group diamond:
  group.present:
    - name: diamond
    - system: True
    - require_in:
      - user: the user diamond
{% endif %}

the user diamond:
  user.present:
    - name: diamond
{% if own %}
    - system: True
    - usergroup: True
    - home: /opt/diamond
    - createhome: False
    - shell: /usr/sbin/nologin
{% else %}
    - groups: [diamond]
{% endif %}
    # Ceph's admin sockets belong to this group, where Ceph is installed.
    - optional_groups: [ceph]
    - remove_groups: False

{% if diamond.source == 'package' %}
the package of Diamond:
  pkg.installed:
    - name: {{ system.diamond.package }}
{% else %}
what makes the environment of Diamond:
  pkg.installed:
    - pkgs: {{ system.diamond.packages | json }}

/opt/diamond/build:
  file.directory:
    - mode: '0755'
    - makedirs: True

{% for name in ('build.py', 'patches.py') %}
/opt/diamond/build/{{ name }}:
  file.managed:
    - source: salt://diamond/files/{{ name }}
    - mode: '0644'
    - require:
      - file: /opt/diamond/build
    - require_in:
      - cmd: the environment of Diamond
{% endfor %}

/opt/diamond/build/release.json:
  file.serialize:
    - dataset: {{ recipe | json }}
    - formatter: json
    - mode: '0644'
    - require:
      - file: /opt/diamond/build

the environment of Diamond:
  cmd.run:
    - name: {{ diamond.python }} /opt/diamond/build/build.py /opt/diamond/build/release.json {{ environment }}
    - creates: {{ environment }}/complete
    - timeout: 900
    - require:
      - pkg: what makes the environment of Diamond
      - file: /opt/diamond/build/release.json
{% endif %}
{% endif %}
