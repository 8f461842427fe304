# Every node measures its system, and Carbon on the management host receives it. All keys: docs/pillar.md. What more a node measures
# stands in the pillar of its role: management, node.
diamond:
  handlers:
    diamond.handler.graphite.GraphiteHandler:
      host: 192.168.0.10
