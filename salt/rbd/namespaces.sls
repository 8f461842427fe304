# The namespaces that the pillar declares; images lie in them.
{% from 'rbd/states.jinja' import declare with context %}
{{ declare(['namespaces']) }}
