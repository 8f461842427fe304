# The management host: salt-master and salt-api.
salt_master:
  interface: 0.0.0.0
  file_roots:
    - /srv/salt-rbd/salt
  pillar_roots:
    - /srv/site/pillar
salt_api:
  address: 127.0.0.1
  port: 8000
