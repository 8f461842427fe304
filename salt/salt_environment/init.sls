# Salt, with what its modules need there: Salt's Python cannot see the system's psycopg2. In a virtual environment of its own, or by the project's packages.
{% from 'salt_environment/map.jinja' import environment, folder, gitfs, known, mistakes, modules, older, packaged, repository, requirements, there with context %}
{% from 'systems.jinja' import refuse, refuse_system, say_end, system with context %}
{% if not system.salt %}
{{ refuse_system('Salt', 'salt') }}
{% elif not known %}
{{ refuse('this Salt', mistakes | join(' ')) }}
{% else %}
{{ say_end('Salt') }}
{% set tools = (system.salt.packages + environment.build_packages if not packaged else ['openssl']) + (['git'] if gitfs else []) %}

what Salt's environment is made with:
  pkg.installed:
    - pkgs: {{ tools | json }}
{% if packaged %}

Salt's repository key:
  file.managed:
    - name: /etc/apt/keyrings/salt-archive-keyring.asc
    - source: {{ repository.key | yaml_dquote }}
{% if repository.key_hash is defined %}
    - source_hash: {{ repository.key_hash | yaml_dquote }}
{% else %}
    # It comes over TLS from the project itself; repository:key_hash pins it.
    - skip_verify: True
{% endif %}
    - mode: '0644'
    - makedirs: True

Salt's repository:
  pkgrepo.managed:
    - name: "deb [signed-by=/etc/apt/keyrings/salt-archive-keyring.asc] {{ repository.url }} {{ repository.suite }} {{ repository.component }}"
    - file: /etc/apt/sources.list.d/salt.list
    - clean_file: True
    - aptkey: False
    - require:
        - file: Salt's repository key

# An upgrade of the system's packages leaves Salt's version to the pillar.
/etc/apt/preferences.d/salt-pin-1001:
  file.managed:
    - contents: |
        # Managed by Salt.
        Package: salt-*
        Pin: version {{ environment.version }}
        Pin-Priority: 1001
    - mode: '0644'

Salt's packages:
  pkg.installed:
    - pkgs: {{ (['salt-common'] if older else [{'salt-common': environment.version | string}]) | json }}
    - require:
        - pkgrepo: Salt's repository
        - file: /etc/apt/preferences.d/salt-pin-1001
{% if older %}

# Packages restart their daemons: under this job it would end with them, and apt with it. So they wait for its end. All together, as each depends on the
# same version of salt-common; then what Salt's modules need, since the Python may be another one.
Salt's packages in another version after this job:
  cmd.run:
    - name: >-
        systemd-run --quiet --collect --unit=salt-packages --setenv=DEBIAN_FRONTEND=noninteractive --setenv=HOME=/root
        sh -c "tail --pid=$PPID -f /dev/null;
        apt-get --yes --quiet --allow-downgrades --option=DPkg::Options::=--force-confold install {{ there | map('regex_replace', '$', '=' ~ environment.version) | join(' ') }}
        {{ '&& ' ~ folder ~ '/salt-pip --quiet --no-input --disable-pip-version-check install --upgrade ' ~ modules | join(' ') if modules }}
        && systemctl try-restart {{ there | reject('equalto', 'salt-common') | join(' ') }}"
    - require:
        - pkg: Salt's packages
{% endif %}
{% if modules %}

# salt-pip puts them beside the packages' own files, where an upgrade leaves them; with another Python they are installed again.
what Salt's modules need:
  cmd.run:
    - name: {{ folder }}/salt-pip --quiet --no-input --disable-pip-version-check install {{ modules | join(' ') }}
    - unless: >-
        {{ folder }}/bin/python3 -c 'import sys; from importlib.metadata import version; from pip._vendor.packaging.requirements import Requirement;
        sys.exit(not all(one.specifier.contains(version(one.name), prereleases=True) for one in map(Requirement, sys.argv[1:])))' {{ modules | join(' ') }}
    - timeout: 600
    - require:
        - pkg: Salt's packages
{% endif %}
{% else %}

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
{% endif %}
