# Enabled and started. A changed configuration is the business of postgresql_server.configured, so nothing is watched here.
{% from 'postgresql/layout.jinja' import pg with context %}
{% from 'booted.jinja' import else_enabled with context %}
include:
  - postgresql.cluster
{% if not pg.mistakes %}

{% if pg.debian_tools %}
postgresql start at boot:
  file.managed:
    - name: {{ pg.conf_dir }}/start.conf
    - contents: auto
    - user: postgres
    - group: postgres
    - mode: '0644'
    - require:
        - postgresql_server: postgresql configuration
    - require_in:
        - service: postgresql server
{% endif %}

postgresql server:
  service.running:
    - name: {{ pg.service }}
    - enable: True
    - require:
        - postgresql_server: postgresql configuration
{% if pg.source == 'archive' %}
        - file: postgresql unit
{% endif %}
{{- else_enabled(pg.service, 'postgresql server') }}
{% endif %}
