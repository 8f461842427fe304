# Every volume's image, after its namespace. A pillar with mistakes is refused here, before anything is touched.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.namespaces
{{ declare(['images']) }}
