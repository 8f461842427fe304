# The minion: in Salt's own environment, with its configuration checked before it is written.
{% from 'salt_environment/map.jinja' import before, known with context %}
{% from 'salt_environment/daemon.jinja' import daemon with context %}
{% from 'systems.jinja' import system with context %}
include:
  - salt_environment
{% if system.salt and known %}
{% set minion = pillar.get('salt_minion') or {} %}
{% set settings = {
  'master': minion.get('master', 'salt'),
  'id': grains.id,
  'log_level_logfile': 'warning',
  'enable_fqdns_grains': False,
  'enable_gpu_grains': False,
} %}
{% do settings.update(minion.get('settings') or {}) %}

/etc/salt/minion.d/50-site.conf:
  salt_config.managed:
    - daemon: minion
    - settings: {{ settings | json }}
    - mode: '0640'

/etc/salt/pki/minion:
  file.directory:
    - mode: '0700'
    - makedirs: True
{% if before %}
    - require_in: {{ [before] | json }}
{% endif %}

{{ daemon('salt-minion', '/etc/salt/minion.d/50-site.conf', ['salt-minion', 'salt-call']) }}
{% endif %}
