# Roles, then the databases that they own, in a server that runs: not where an image is built, which so holds no password. No password is in these states: postgresql_role.present takes it from the pillar.
{% from 'postgresql/layout.jinja' import pg with context %}
{% from 'booted.jinja' import booted with context %}
include:
  - postgresql.service
{% if not pg.mistakes and booted %}
{% for name, role in pg.roles | dictsort %}

{{ ('postgresql role ' ~ name) | yaml_dquote }}:
  postgresql_role.present:
    - name: {{ name | yaml_dquote }}
{% for key, value in role | dictsort if key != 'has_password' %}
    - {{ key }}: {{ value | json }}
{% endfor %}
    - require:
        - service: postgresql server
{% for group in role.groups if group in pg.roles %}
        - postgresql_role: {{ ('postgresql role ' ~ group) | yaml_dquote }}
{% endfor %}
{% endfor %}
{% for name, database in pg.databases | dictsort %}

{{ ('postgresql database ' ~ name) | yaml_dquote }}:
  postgresql_database.present:
    - name: {{ name | yaml_dquote }}
{% for key, value in database | dictsort %}
    - {{ key }}: {{ value | json }}
{% endfor %}
    - require:
        - service: postgresql server
{% if database.owner in pg.roles %}
        - postgresql_role: {{ ('postgresql role ' ~ database.owner) | yaml_dquote }}
{% endif %}
{% endfor %}
{% endif %}
