# The node looks no more, once its minion has started anew.
/etc/salt/minion.d/60-alerts.conf:
  file.absent: []

the beacon's last report:
  file.absent:
    - name: /var/cache/salt/minion/rbd_health

restart salt-minion without the alerts after this job:
  cmd.run:
    - name: systemctl start --no-block salt-minion-restart@$PPID.service
    - onlyif:
        - test -d /run/systemd/system
        - test -e /etc/systemd/system/salt-minion-restart@.service
    - onchanges:
        - file: /etc/salt/minion.d/60-alerts.conf
