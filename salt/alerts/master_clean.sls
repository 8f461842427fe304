# Nobody is told any more, once the master has started anew.
{% for path in ['/etc/salt/master.d/70-alerts.conf', '/etc/salt/alerts', '/usr/local/lib/salt-alerts', '/var/lib/salt-alerts'] %}
{{ path }}:
  file.absent: []
{% endfor %}

restart salt-master without the alerts after this job:
  cmd.run:
    - name: systemctl start --no-block salt-master-restart@$PPID.service
    - onlyif:
        - test -d /run/systemd/system
        - test -e /etc/systemd/system/salt-master-restart@.service
    - onchanges:
        - file: /etc/salt/master.d/70-alerts.conf
