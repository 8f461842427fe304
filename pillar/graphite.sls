# The Carbon on the management host.
graphite:
  listen: 192.168.0.10
