# Enabled and started. A changed configuration is the business of postgresql_server.configured, so nothing is watched here.
{% from 'postgresql/layout.jinja' import pg with context %}
include:
  - postgresql.cluster
{% if not pg.mistakes %}

postgresql server:
  service.running:
    - name: {{ pg.service }}
    - enable: True
    - require:
        - postgresql_server: postgresql configuration
{% if pg.source == 'archive' %}
        - file: postgresql unit
{% endif %}
{% endif %}
