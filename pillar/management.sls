# The management host: salt-master and salt-api, and what it measures beside its system: its database.
salt_master:
  interface: 0.0.0.0
  file_roots:
    - /srv/salt-rbd/salt
  pillar_roots:
    - /srv/site/pillar
salt_api:
  address: 127.0.0.1
  port: 8000
diamond:
  collectors:
    PostgresqlCollector: {}
