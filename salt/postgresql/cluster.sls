# The cluster, then its certificate and configuration, before it is started for the first time.
{% from 'postgresql/layout.jinja' import pg with context %}
{% from 'booted.jinja' import booted with context %}
include:
  - postgresql.programs
{% if not pg.mistakes %}

postgresql cluster:
  postgresql_server.initialised:
    - require:
        - pkg: postgresql packages
{% if pg.source == 'archive' %}
        - postgresql_server: postgresql programs
        - file: postgresql data folder
{% endif %}

{# A key is one host's alone: an image makes it at its first boot, by salt/first_boot. #}
{% if pg.tls.enabled and booted %}
postgresql certificate:
  postgresql_server.certificate:
    - require:
        - postgresql_server: postgresql cluster
    - require_in:
        - postgresql_server: postgresql configuration
{% endif %}

postgresql configuration:
  postgresql_server.configured:
    - require:
        - postgresql_server: postgresql cluster
{% endif %}
