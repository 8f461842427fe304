# What the container platform reads from its table. docs/platform.md explains every key.
# Replace ids, names and addresses (uuidgen makes an id). Passwords belong into an encrypted or external pillar:
# platform:agent:password, platform:settings:mail, postgresql:roles:configs:password.
platform:
  # On this host's own server: port, user and password are those of postgresql:.
  database:
    dbname: configs
  agent:
    url: https://storage.example.net:8011
    user: tenx-agent
  settings:
    # monitors, pool, user, keyring and fs_type are those of ceph:.
    rbd:
      - id: 5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10
        name: tenx
        calamari_url: 192.168.0.11:5000
    mail:
      - id: 0b9d7c36-2f41-4c0a-8c58-7a1e5d2b9f33
        name: alerts
        host: smtp.example.net
        port: 587
        security: starttls
        user: storage@example.net
        sender: storage@example.net
