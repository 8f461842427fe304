# The user, and the program: a package where one exists, else an environment made of the published source release.
{% from 'diamond/map.jinja' import diamond, environment, recipe, system with context %}
{% if not system or diamond.source not in ('pypi', 'package') %}
what Diamond is installed from:
  test.fail_without_changes:
    - name: >-
        {{ 'diamond:source must be pypi or package, not ' ~ diamond.source ~ '.' if system else
        'Diamond is not known to run on ' ~ grains['os'] ~ ' ' ~ grains['osrelease'] ~ '; Debian, Ubuntu and the RHEL family are.' }}
    - failhard: True
{% else %}
the user diamond:
  user.present:
    - name: diamond
    - system: True
    - usergroup: True
    - home: /opt/diamond
    - createhome: False
    - shell: /usr/sbin/nologin
    # Ceph's admin sockets belong to this group, where Ceph is installed.
    - optional_groups: [ceph]
    - remove_groups: False
    - watch_in:
      - service: diamond

{% if diamond.source == 'package' %}
the package of Diamond:
  pkg.installed:
    - name: {{ system.package }}
    - require_in:
      - file: /etc/systemd/system/diamond.service
{% else %}
what makes the environment of Diamond:
  pkg.installed:
    - pkgs: {{ system.packages | json }}

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
    - require_in:
      - file: /etc/systemd/system/diamond.service
{% endif %}
{% endif %}
