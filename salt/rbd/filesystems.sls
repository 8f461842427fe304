# The filesystem of every volume with a mount point, and all mounts.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.devices
{{ declare(['filesystems', 'mounts']) }}
