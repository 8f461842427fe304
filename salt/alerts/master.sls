# Who is told: the reactor to what the nodes' beacons report, the runner that mails, and its settings. The state of what is open lies in
# /var/lib/salt-alerts.
{% from 'alerts/map.jinja' import master, missing with context %}
{% from 'booted.jinja' import booted with context %}
{% from 'salt_environment/map.jinja' import known, packaged with context %}
{% from 'systems.jinja' import refuse, system with context %}
include:
  - salt_master
{% if missing %}
{{ refuse('who is told', missing) }}
{% elif master.mistakes %}
{{ refuse('who is told', master.mistakes | join(' ')) }}
{% elif system.salt and known %}
{% set declared = pillar.get('salt_master') or {} %}
{% set user = declared.get('user', 'salt') %}
{% set code, etc, state = '/usr/local/lib/salt-alerts', '/etc/salt/alerts', '/var/lib/salt-alerts' %}
{# Salt does not add up the lists of two files: what the pillar gives the master beside stays. #}
{% set theirs = declared.get('settings') or {} %}
{% set settings = {
  'platform_alerts': {'settings': etc ~ '/settings.json', 'folder': state},
  'reactor': theirs.get('reactor', []) + [{'salt/beacon/*/rbd_health/': [etc ~ '/reactor.sls']}],
  'runner_dirs': theirs.get('runner_dirs', []) + [code ~ '/runners'],
  'utils_dirs': theirs.get('utils_dirs', ['/var/cache/salt/master/extmods/utils']) + [code ~ '/utils'],
  'schedule': {'platform_alerts': {'function': 'platform_alerts.tick', 'seconds': 60, 'maxrunning': 1, 'return_job': False} },
} %}
{% if master.password %}
{% do settings.platform_alerts.update({'password': etc ~ '/password'}) %}
{% endif %}

# Whole, as the runner imports them.
{{ code }}/utils:
  file.recurse:
    - source: salt://_utils
    - exclude_pat: 'E@__pycache__'
    - clean: True
    - file_mode: '0644'
    - dir_mode: '0755'

{{ code }}/runners/platform_alerts.py:
  file.managed:
    - source: salt://_runners/platform_alerts.py
    - mode: '0644'
    - makedirs: True
    - dir_mode: '0755'

{{ etc }}:
  file.directory:
    - user: root
    - group: {{ user }}
    - mode: '0750'
    - require:
        - user: the master's user

{{ state }}:
  file.directory:
    - user: {{ user }}
    - group: {{ user }}
    - mode: '0700'
    - require:
        - user: the master's user

# Read anew for each report, so that a new member needs no restart.
{{ etc }}/settings.json:
  file.managed:
    - contents: {{ {'rules': master.rules, 'groups': master.groups, 'mail': master.mail} | json(sort_keys=True) | yaml_dquote }}
    - user: root
    - group: {{ user }}
    - mode: '0640'
    - require:
        - file: {{ etc }}

{{ etc }}/reactor.sls:
  file.managed:
    - source: salt://alerts/files/reactor.py
    - user: root
    - group: {{ user }}
    - mode: '0640'
    - require:
        - file: {{ etc }}

{{ etc }}/password:
{% if master.password %}
  # It goes from the pillar into the file, and stands neither in this state nor in a diff.
  file.managed:
    - contents_pillar: {{ master.password }}
    - show_changes: False
    - user: root
    - group: {{ user }}
    - mode: '0640'
    - require:
        - file: {{ etc }}
{% else %}
  file.absent: []
{% endif %}

/etc/salt/master.d/70-alerts.conf:
  salt_config.managed:
    - daemon: master
    - settings: {{ settings | json }}
{% if packaged %}
    # As each update of the packages makes it.
    - user: {{ user }}
{% endif %}
    - group: {{ user }}
    - mode: '0640'
    - require:
        - user: the master's user
        - salt_config: /etc/salt/master.d/50-site.conf
        - file: {{ code }}/utils
        - file: {{ code }}/runners/platform_alerts.py
        - file: {{ etc }}/settings.json
        - file: {{ etc }}/reactor.sls
        - file: {{ etc }}/password
        - file: {{ state }}

restart salt-master for the alerts after this job:
  cmd.run:
    - name: systemctl start --no-block salt-master-restart@$PPID.service
    - onchanges:
        - salt_config: /etc/salt/master.d/70-alerts.conf
        - file: {{ code }}/utils
        - file: {{ code }}/runners/platform_alerts.py
{% if not booted %}
    - unless: 'true'
{% endif %}
    - require:
        - service: salt-master
        - file: /etc/systemd/system/salt-master-restart@.service
{% endif %}
