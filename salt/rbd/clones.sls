# Clones, each after its parent's snapshot.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.snapshots
{{ declare(['clones']) }}
