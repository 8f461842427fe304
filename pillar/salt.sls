# Salt's own environment and the minion, of every node.
salt_environment:
  version: "3008.3"
  packages:
    - psycopg2-binary
salt_minion:
  master: management
