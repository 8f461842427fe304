# Takes the declared rows away. The table stays, with all other rows: it is the platform's.
{% from 'platform/layout.jinja' import platform with context %}
{% if platform.mistakes %}
the pillar platform:
  test.fail_without_changes:
    - name: {{ platform.mistakes | yaml_dquote }}
{% else %}
{% for row in platform.rows %}

{{ ('no platform settings ' ~ row.config_type ~ ' ' ~ row.id) | yaml_dquote }}:
  platform_config.absent:
    - name: {{ row.id | json }}
    - config_type: {{ row.config_type }}
{% endfor %}
{% endif %}
