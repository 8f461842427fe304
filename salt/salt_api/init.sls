# salt-api by TLS on the master's host. It listens on this host alone and lets nobody in until the pillar says whom.
{% from 'salt_environment/map.jinja' import known, packaged with context %}
{% from 'salt_environment/daemon.jinja' import daemon with context %}
{% from 'systems.jinja' import system with context %}
{% from 'booted.jinja' import booted with context %}
include:
  - salt_master
{% if system.salt and known %}
{% set api = pillar.get('salt_api') or {} %}
{% set user = (pillar.get('salt_master') or {}).get('user', 'salt') %}
{% set key, certificate = '/etc/salt/pki/api/key.pem', '/etc/salt/pki/api/certificate.pem' %}
{% set settings = {
  'rest_cherrypy': {
    'host': api.get('address', '127.0.0.1'),
    'port': api.get('port', 8000),
    'ssl_key': api.get('key', key),
    'ssl_crt': api.get('certificate', certificate),
    'max_request_body_size': api.get('max_request_body_size', 1048576),
  },
  'netapi_enable_clients': api.get('clients', ['local']),
  'external_auth': api.get('external_auth', {}),
} %}

/etc/salt/pki/api:
  file.directory:
    - user: root
    - group: {{ user }}
    - mode: '0750'
    - makedirs: True
    - require:
        - user: the master's user

{# A key is one host's alone: an image makes it at its first boot, by salt/first_boot. #}
{% if 'certificate' not in api and booted %}
the certificate of salt-api:
  cmd.run:
    - name: >-
        umask 077 &&
        openssl req -x509 -newkey rsa:3072 -nodes -days 825 -keyout {{ key }} -out {{ certificate }}
        -subj /CN={{ grains.id }} -addext subjectAltName=DNS:{{ grains.id }},DNS:localhost,IP:127.0.0.1 &&
        chgrp {{ user }} {{ key }} {{ certificate }} && chmod 640 {{ key }} {{ certificate }}
    - creates: {{ certificate }}
    - timeout: 60
    - require:
        - file: /etc/salt/pki/api
    - require_in:
        - service: salt-api
{% endif %}

/etc/salt/master.d/60-api.conf:
  salt_config.managed:
    - daemon: master
    - settings: {{ settings | json }}
{% if packaged %}
    # As each update of the packages makes it.
    - user: {{ user }}
{% endif %}
    - group: {{ user }}
    - mode: '0640'
    - require:
        - user: the master's user

{{ daemon('salt-api', '/etc/salt/master.d/60-api.conf', ['salt-api']) }}
        - service: salt-master
{% endif %}
