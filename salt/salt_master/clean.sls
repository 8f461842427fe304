# Takes the master away that salt_master has set up; its keys and the minions', the pillar, the job cache and the logs stay, and with them the user that
# owns them.
salt-master:
  service.dead:
    - enable: False
{% for path in ['/etc/systemd/system/salt-master.service', '/etc/systemd/system/salt-master-restart@.service',
                '/etc/salt/master.d/50-site.conf', '/usr/local/bin/salt', '/usr/local/bin/salt-key',
                '/usr/local/bin/salt-master', '/usr/local/bin/salt-run'] %}
{{ path }}:
  file.absent:
    - require:
        - service: salt-master
{% endfor %}
