# What every node measures beside its system, and the Carbon that receives it. All keys: docs/pillar.md. The management host's
# pillar adds PostgreSQL's collector.
diamond:
  handlers:
    diamond.handler.graphite.GraphiteHandler:
      host: 192.168.0.10
  collectors:
    CephCollector: {}
    RbdCollector: {}
