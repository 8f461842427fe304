# Snapshots, after the mounts that they freeze. Those of images without a mount are gathered by name.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.images
  - rbd.filesystems
{{ declare(['snapshots']) }}
