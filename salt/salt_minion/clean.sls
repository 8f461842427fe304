# Takes the minion away that salt_minion has set up; its keys stay. By salt-call, since the minion itself ends.
salt-minion:
  service.dead:
    - enable: False
    # Salt would not wait for the end of its own minion.
    - no_block: False
{% for path in ['/etc/systemd/system/salt-minion.service', '/etc/systemd/system/salt-minion-restart@.service',
                '/etc/salt/minion.d/50-site.conf', '/usr/local/bin/salt-minion', '/usr/local/bin/salt-call'] %}
{{ path }}:
  file.absent:
    - require:
        - service: salt-minion
{% endfor %}
