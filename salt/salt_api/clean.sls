# Takes salt-api away that salt_api has set up; its key and certificate stay.
salt-api:
  service.dead:
    - enable: False
{% for path in ['/etc/systemd/system/salt-api.service', '/etc/systemd/system/salt-api-restart@.service',
                '/etc/salt/master.d/60-api.conf', '/usr/local/bin/salt-api'] %}
{{ path }}:
  file.absent:
    - require:
        - service: salt-api
{% endfor %}
