# Takes away what postgresql put there. The cluster (data, and its configuration with it) and the backups stay; postgresql:clean_data: true
# removes the cluster too. Of the packages those stay that others may need: openssl, postgresql-common.
{% from 'postgresql/layout.jinja' import pg with context %}
{% if pg.mistakes %}
the pillar postgresql:
  test.fail_without_changes:
    - name: {{ pg.mistakes | yaml_dquote }}
{% else %}
no postgresql backup timer:
  service.dead:
    - name: postgresql-backup.timer
    - enable: False

no postgresql backup:
  file.absent:
    - names:
        - /etc/systemd/system/postgresql-backup.timer
        - /etc/systemd/system/postgresql-backup.service
        - /usr/local/sbin/postgresql-backup
        - /usr/local/sbin/postgresql-restore
    - require:
        - service: no postgresql backup timer

no postgresql server:
  service.dead:
    - name: {{ pg.service }}
{% if pg.debian_tools %}

no postgresql start at boot:
  file.managed:
    - name: {{ pg.conf_dir }}/start.conf
    - contents: manual
    # Once its data is gone there is nothing to start.
    - onlyif:
        - fun: file.directory_exists
          path: {{ pg.conf_dir }}
    - require:
        - service: no postgresql server
    - require_in:
        - postgresql_server: no postgresql data
{% else %}
    - enable: False
{% endif %}

no postgresql data:
  postgresql_server.removed:
    - require:
        - service: no postgresql server

no postgresql packages:
  pkg.removed:
    - pkgs: {{ pg.packages | reject('equalto', 'openssl') | list | json }}
    - require:
        - postgresql_server: no postgresql data

no postgresql files:
  file.absent:
    - names:
        - /etc/apt/sources.list.d/postgresql-pgdg.list
        - /etc/apt/keyrings/postgresql-pgdg.asc
        - /etc/yum.repos.d/postgresql-pgdg.repo
        - /etc/pki/rpm-gpg/RPM-GPG-KEY-PGDG-salt
        - /etc/postgresql-common/createcluster.d/salt.conf
{% if pg.source == 'archive' %}
        - /etc/systemd/system/{{ pg.service }}.service
        - {{ salt['file.dirname'](pg.bin_dir) }}
{% endif %}
    - require:
        - pkg: no postgresql packages
{% if pg.source == 'archive' and pg.clean_data %}

no postgresql user:
  user.absent:
    - name: postgres
    # The dumps stay, and are the user's.
    - unless: test -d {{ pg.backup.folder }}
    - require:
        - postgresql_server: no postgresql data
{% endif %}
{% endif %}
