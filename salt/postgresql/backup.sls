# A dump of every database by a timer, and the tool that brings one back.
{% from 'postgresql/layout.jinja' import pg with context %}
{% from 'booted.jinja' import else_enabled with context %}
include:
  - postgresql.service
{% if not pg.mistakes and pg.backup.enabled %}

postgresql backup folder:
  file.directory:
    - name: {{ pg.backup.folder }}
    - user: postgres
    - group: postgres
    - mode: '0700'
    - makedirs: True
    - require:
        - service: postgresql server

{% for tool in ['backup', 'restore'] %}
/usr/local/sbin/postgresql-{{ tool }}:
  file.managed:
    - source: salt://postgresql/files/postgresql-{{ tool }}
    - template: jinja
    - context:
        bin_dir: {{ pg.bin_dir }}
        port: {{ pg.port }}
        folder: {{ pg.backup.folder }}
        keep_days: {{ pg.backup.keep_days }}
    - mode: '0755'
    - require:
        - file: postgresql backup folder
{% endfor %}

{% for kind in ['service', 'timer'] %}
/etc/systemd/system/postgresql-backup.{{ kind }}:
  file.managed:
    - source: salt://postgresql/files/postgresql-backup.{{ kind }}
    - template: jinja
    - context:
        service: {{ pg.service }}
        folder: {{ pg.backup.folder }}
        calendar: {{ pg.backup.calendar | yaml_dquote }}
    - mode: '0644'
    - require:
        - file: /usr/local/sbin/postgresql-backup
{% endfor %}

postgresql backup timer:
  service.running:
    - name: postgresql-backup.timer
    - enable: True
    # A changed time counts from the timer's restart on.
    - watch:
        - file: /etc/systemd/system/postgresql-backup.timer
        - file: /etc/systemd/system/postgresql-backup.service
{{- else_enabled('postgresql-backup.timer', 'postgresql backup timer') }}
{% elif not pg.mistakes %}

no postgresql backup timer:
  service.dead:
    - name: postgresql-backup.timer
    - enable: False

# The tool that restores stays, as the dumps do.
no postgresql backup:
  file.absent:
    - names:
        - /etc/systemd/system/postgresql-backup.timer
        - /etc/systemd/system/postgresql-backup.service
        - /usr/local/sbin/postgresql-backup
    - require:
        - service: no postgresql backup timer
{% endif %}
