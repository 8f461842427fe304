# The LUKS header of every encrypted volume, before anything maps it.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.images
{{ declare(['encryption']) }}
