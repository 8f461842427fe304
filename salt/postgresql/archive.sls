# PostgreSQL from an archive of binaries, for systems that nobody packages the version for: user, programs, unit.
{% from 'postgresql/layout.jinja' import pg with context %}
include:
  - postgresql.supported
{% if not pg.mistakes %}

postgresql user:
  group.present:
    - name: postgres
    - system: True
    - require:
        - postgresql_server: postgresql is supported here
  user.present:
    - name: postgres
    - gid: postgres
    - system: True
    - home: /var/lib/postgresql
    - createhome: False
    - shell: /bin/bash
    - require:
        - group: postgresql user

postgresql programs:
  postgresql_server.unpacked:
    - require:
        - postgresql_server: postgresql is supported here

postgresql data folder:
  file.directory:
    - name: {{ salt['file.dirname'](pg.data_dir) }}
    - user: postgres
    - group: postgres
    - mode: '0755'
    - makedirs: True
    - require:
        - user: postgresql user

postgresql unit:
  file.managed:
    - name: /etc/systemd/system/{{ pg.service }}.service
    - source: salt://postgresql/files/postgresql.service
    - template: jinja
    - context:
        version: {{ pg.version | yaml_dquote }}
        bin_dir: {{ pg.bin_dir }}
        data_dir: {{ pg.data_dir }}
    - mode: '0644'
    - require:
        - postgresql_server: postgresql programs
{% endif %}
