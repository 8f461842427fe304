# The database of the management host. docs/pillar.md explains every key.
# Nobody packages 9.5 for today's systems: archive takes published binaries. Fill in where you keep them, and their hash.
postgresql:
  version: "9.5"
  source: archive
  archive:
    source: salt://postgresql-9.5.tar.gz
    sha256: 0000000000000000000000000000000000000000000000000000000000000000
  pg_hba:
    - {type: local, database: all, user: all, method: peer}
    - {type: hostssl, database: configs, user: configs, address: 127.0.0.1/32}
    - {type: hostssl, database: configs, user: configs, address: 192.168.0.0/24}
  # Passwords belong into an encrypted or external pillar: postgresql:roles:configs:password.
  roles:
    configs: {connection_limit: 20}
    # Diamond's, by the socket and as the user of that name. It sees the statistics that everybody sees; from version 10 on
    # groups: [pg_monitor] shows it all of them.
    diamond: {connection_limit: 5}
  databases:
    configs: {owner: configs}
  backup:
    keep_days: 14
