# The storage agent that a platform calls over HTTP: rest_cherrypy on loopback with a guard that passes only the pillar's functions and targets, and an nginx of
# its own before it, which limits what comes in. docs/storage_agent.md tells what it is for.
{% from 'salt_environment/map.jinja' import known, packaged with context %}
{% from 'storage_agent/layout.jinja' import agent with context %}
{% from 'systems.jinja' import refuse, system with context %}
{% from 'booted.jinja' import booted, else_enabled with context %}
include:
  - salt_api
{% if system.salt and known %}
{% set user = (pillar.get('salt_master') or {}).get('user', 'salt') %}
{% if agent.mistakes %}

{{ refuse('this storage agent', agent.mistakes) }}
{% else %}

{{ agent.folder }}/storage_agent.py:
  file.managed:
    - source: salt://storage_agent/files/storage_agent.py
    - mode: '0644'
    - makedirs: True
    - require_in:
        - service: salt-api
    - onchanges_in:
        - cmd: restart salt-api after this job

# Its user is root, so that the master reads the account and cannot change it.
{{ agent.account }}:
  storage_agent.account:
    - group: {{ user }}
    - mode: '0640'
    - require:
        - user: the master's user
        - pkg: what Salt's environment is made with
    - require_in:
        - service: salt-master

# The master asks for the account and what it may do, salt-api serves: both read this, and start again when it has changed.
/etc/salt/master.d/70-storage-agent.conf:
  salt_config.managed:
    - daemon: master
    - settings: {{ agent.master | json }}
{% if packaged %}
    - user: {{ user }}
{% endif %}
    - group: {{ user }}
    - mode: '0640'
    - require:
        - user: the master's user
    - require_in:
        - service: salt-master
        - service: salt-api
    - onchanges_in:
        - cmd: restart salt-master after this job
        - cmd: restart salt-api after this job

the storage agent's nginx:
  pkg.installed:
    - name: nginx

# Only where this run has installed it: what this host serves by it otherwise is not touched.
Debian's nginx with its welcome page:
  cmd.run:
    - name: systemctl disable {{ '--now ' if booted }}nginx.service
    - onchanges:
        - pkg: the storage agent's nginx
{% if agent.tls %}

certificate and key of the storage agent:
  file.exists:
    - names:
        - {{ agent.certificate }}
        - {{ agent.key }}
    - require_in:
        - file: {{ agent.conf }}
{% endif %}

{{ agent.conf }}:
  file.managed:
    - source: salt://storage_agent/files/nginx.conf
    - template: jinja
    - context: {{ {'agent': agent} | json }}
    - mode: '0644'
    # In a folder for the files that it makes while it looks.
    - check_cmd: >-
        sh -c 'd=$(mktemp -d) && nginx -t -q -e stderr -p "$d" -g "pid nginx.pid;" -c "$0"; said=$?; rm -rf "$d"; exit $said'
    - require:
        - pkg: the storage agent's nginx

/etc/systemd/system/storage-agent.service:
  file.managed:
    - source: salt://storage_agent/files/storage-agent.service
    - template: jinja
    - context: {{ {'conf': agent.conf} | json }}
    - mode: '0644'

storage-agent:
  service.running:
    - enable: True
    - require:
        - cmd: Debian's nginx with its welcome page
        - service: salt-api
    - watch:
        - file: {{ agent.conf }}
        - file: /etc/systemd/system/storage-agent.service
{{- else_enabled('storage-agent') }}
{% endif %}
{% endif %}
