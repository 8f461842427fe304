# Every volume's image. A pillar that makes no sense is refused here, before anything is touched.
{% from 'rbd/states.jinja' import declare with context %}
{{ declare(['images']) }}
