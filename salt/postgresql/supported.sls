# What cannot be is refused here, before anything is touched; an old version is said to be old.
{% from 'postgresql/layout.jinja' import pg with context %}
{% if pg.mistakes %}
the pillar postgresql:
  test.fail_without_changes:
    - name: {{ pg.mistakes | yaml_dquote }}
{% else %}
postgresql is supported here:
  postgresql_server.supported:
    - version: {{ pg.version | yaml_dquote }}
    - source: {{ pg.source }}
{% endif %}
