# The platform's table and its rows as the pillar platform: declares them, on the management host. No password is in these states: platform_config takes them from the pillar.
{% from 'platform/layout.jinja' import platform with context %}
{% from 'postgresql/layout.jinja' import pg with context %}
{% from 'booted.jinja' import booted with context %}
{% if platform.mistakes %}
the pillar platform:
  test.fail_without_changes:
    - name: {{ platform.mistakes | yaml_dquote }}
{% elif platform.own and not booted %}
{# This host's own database does not run where an image is built. #}
{% else %}
{% if platform.own %}
# The database is this host's own.
include:
  - postgresql.objects
{% endif %}

the platform's table:
  platform_config.schema_present:
    - name: {{ platform.table }}
{% if platform.own and not pg.mistakes %}
    - require:
        - postgresql_database: {{ ('postgresql database ' ~ platform.own) | yaml_dquote }}
{% endif %}
{% for row in platform.rows %}

{{ ('platform settings ' ~ row.config_type ~ ' ' ~ row.id) | yaml_dquote }}:
  platform_config.present:
    - name: {{ row.id | json }}
    - config_type: {{ row.config_type }}
    - require:
        - platform_config: the platform's table
{% endfor %}
{% endif %}
