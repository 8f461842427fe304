# What a node looks for: the beacon rbd_health in the minion's configuration. Who is told, the master knows: see alerts/master.sls.
{% from 'alerts/map.jinja' import beacon, missing with context %}
{% from 'booted.jinja' import booted with context %}
{% from 'salt_environment/map.jinja' import known with context %}
{% from 'systems.jinja' import refuse, system with context %}
include:
  - salt_minion
{% if missing %}
{{ refuse('what the beacon looks for', missing) }}
{% elif beacon.mistakes %}
{{ refuse('what the beacon looks for', beacon.mistakes | join(' ')) }}
{% elif system.salt and known %}

/etc/salt/minion.d/60-alerts.conf:
  salt_config.managed:
    - daemon: minion
    - settings: {{ {'beacons': {'rbd_health': [{'interval': 5}, {'look': beacon.look}]} } | json }}
    - mode: '0640'
    - require:
        - salt_config: /etc/salt/minion.d/50-site.conf

restart salt-minion for the alerts after this job:
  cmd.run:
    - name: systemctl start --no-block salt-minion-restart@$PPID.service
    - onchanges:
        - salt_config: /etc/salt/minion.d/60-alerts.conf
{% if not booted %}
    - unless: 'true'
{% endif %}
    - require:
        - service: salt-minion
        - file: /etc/systemd/system/salt-minion-restart@.service
{% endif %}
