# Every volume's image, after its namespace. A pillar that makes no sense is refused here, before anything is touched.
{% from 'rbd/states.jinja' import declare with context %}
include:
  - rbd.namespaces
{{ declare(['images']) }}
