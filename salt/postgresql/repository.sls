# The PostgreSQL project's own repository; versions past their end are in its archive.
{% from 'postgresql/layout.jinja' import pg with context %}
include:
  - postgresql.supported
{% if not pg.mistakes %}
{% set key = '/etc/apt/keyrings/postgresql-pgdg.asc' if pg.family == 'Debian' else '/etc/pki/rpm-gpg/RPM-GPG-KEY-PGDG-salt' %}

postgresql repository key:
  file.managed:
    - name: {{ key }}
    - source: {{ pg.repository.key | yaml_dquote }}
{% if pg.repository.key_hash %}
    - source_hash: {{ pg.repository.key_hash | yaml_dquote }}
{% else %}
    # It comes over TLS from the project itself; repository:key_hash pins it.
    - skip_verify: True
{% endif %}
    - mode: '0644'
    - makedirs: True
    - require:
        - postgresql_server: postgresql is supported here

postgresql repository:
  pkgrepo.managed:
{% if pg.family == 'Debian' %}
    - name: "deb [signed-by={{ key }}] {{ pg.repository.url }} {{ pg.repository.suite }} {{ pg.repository.component }}"
    - file: /etc/apt/sources.list.d/postgresql-pgdg.list
    - clean_file: True
    - aptkey: False
{% else %}
    - name: postgresql-pgdg
    - humanname: PostgreSQL {{ pg.version }}
    - baseurl: {{ pg.repository.url }}
    - gpgcheck: 1
    - gpgkey: file://{{ key }}
    # RHEL 8 and newer hide packages that share a name with one of a module's.
    - module_hotfixes: 1
{% endif %}
    - require:
        - file: postgresql repository key
{% endif %}
