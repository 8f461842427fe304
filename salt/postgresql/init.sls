# A PostgreSQL server as the pillar postgresql: declares it, in the order in which each step can be done.
include:
  - postgresql.supported
  - postgresql.programs
  - postgresql.cluster
  - postgresql.service
  - postgresql.objects
  - postgresql.backup
