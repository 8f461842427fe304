# Who is told when something is wrong with the storage, by which mail server, and from when on. All keys: docs/alerts.md. What a node looks
# for is here too; only the master's host needs the groups and the mail server.
platform:
  settings:
    mail:
      # A mail server of your own, and its password in an encrypted or external pillar: platform:settings:mail. This one is the host's.
      - id: 0b6f4c52-5d0e-4f43-8a5e-2f3a9d1c7e10
        host: 127.0.0.1
        port: 25
        security: none
        sender: storage@example.net
  contact_groups:
    storage:
      members:
        - name: A. Admin
          address: admin@example.net
          admin: true
        - name: On call
          address: oncall@example.net
  alerts:
    interval: 60
    pool_full: 80
    volume_full: 90
    snapshots:
      rbd/rbd0001: 1d
