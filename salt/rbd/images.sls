# Every volume's image. A pillar with mistakes is refused here, before anything is touched.
{% from 'rbd/states.jinja' import declare with context %}
{{ declare(['images']) }}
