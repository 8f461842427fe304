# Takes the unit of the first boot away, and the mark that it was; the keys that it made stay with what uses them.
{% for path in ['/etc/systemd/system/multi-user.target.wants/salt-first-boot.service', '/etc/systemd/system/salt-first-boot.service',
                '/var/lib/salt-first-boot'] %}
{{ path }}:
  file.absent: []
{% endfor %}
