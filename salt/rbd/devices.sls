# The mapping of every image and clone that is mounted here.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.images
  - rbd.clones
  - rbd.encryption
{{ declare(['devices']) }}
