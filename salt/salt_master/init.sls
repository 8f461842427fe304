# The master, run by a user of its own; what makes it less safe than this is refused by salt_config.managed.
{% from 'salt_environment/map.jinja' import before, gitfs, home, known, packaged with context %}
{% from 'salt_environment/daemon.jinja' import daemon with context %}
{% from 'systems.jinja' import system with context %}
include:
  - salt_environment
{% if system.salt and known %}
{% set master = pillar.get('salt_master') or {} %}
{% set user = master.get('user', 'salt') %}
{% set pillar_roots = master.get('pillar_roots', ['/srv/pillar']) %}
{% set roots = master.get('file_roots', [] if gitfs else ['/srv/salt']) %}
{% set settings = {
  'user': user,
  'interface': master.get('interface', '0.0.0.0'),
  'file_roots': {'base': roots},
  'pillar_roots': {'base': pillar_roots},
  'file_ignore_glob': ['*.pyc'],
  'auto_accept': False,
  'open_mode': False,
  'publisher_acl': {},
  'external_auth': {},
  'peer': {},
  'peer_run': {},
  'file_recv': False,
  'state_events': False,
  'pillar_safe_render_error': True,
  'rotate_aes_key': True,
  'log_level_logfile': 'warning',
} %}
{% if gitfs %}
{# Only these folders of the repository are served, and only of one branch. Git knows salt/_modules and the like as links, which gitfs does not follow to
   folders: each is a remote of its own. #}
{% set remotes = [{gitfs.url: [{'name': 'states'}, {'root': 'salt'}]}] %}
{% for name in ['_beacons', '_modules', '_runners', '_states', '_utils'] %}
{% do remotes.append({gitfs.url: [{'name': name}, {'root': name}, {'mountpoint': 'salt://' ~ name}]}) %}
{% endfor %}
{% do settings.update({
  'fileserver_backend': (['roots'] if roots else []) + ['gitfs'],
  'gitfs_provider': 'gitpython',
  'gitfs_remotes': remotes,
  'gitfs_base': gitfs.get('ref', 'main'),
  'gitfs_saltenv_whitelist': ['base'],
}) %}
{% endif %}
{% do settings.update(master.get('settings') or {}) %}

the master's user:
  user.present:
    - name: {{ user }}
    - system: True
    - usergroup: True
    - home: {{ home }}
    - createhome: False
    - shell: /usr/sbin/nologin
{% if before %}
    - require_in: {{ [before] | json }}
{% endif %}

# The master's user passes through these; what is secret in them is closed by itself.
{% for path in ['/etc/salt', '/etc/salt/pki'] %}
{{ path }}:
  file.directory:
    - mode: '0755'
    - require_in: {{ [before or {'service': 'salt-master'}] | json }}
{% endfor %}

{% for path, mode in [('/etc/salt/pki/master', '0700'), ('/var/cache/salt/master', '0750'), ('/var/log/salt', '0750')] %}
{{ path }}:
  file.directory:
    - user: {{ user }}
    - group: {{ user }}
    - mode: '{{ mode }}'
    - makedirs: True
    - require:
        - user: the master's user
    - require_in: {{ [before or {'service': 'salt-master'}] | json }}
{% endfor %}

# Secrets may stand in it: nobody but root and the master reads it.
{% for path in pillar_roots %}
{{ path }}:
  file.directory:
    - user: root
    - group: {{ user }}
    - dir_mode: '0750'
    - file_mode: '0640'
    - recurse: [user, group, mode]
    - require:
        - user: the master's user
    - require_in:
        - service: salt-master
{% endfor %}

/etc/salt/master.d/50-site.conf:
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

{{ daemon('salt-master', '/etc/salt/master.d/50-site.conf', ['salt', 'salt-key', 'salt-master', 'salt-run']) }}
{% endif %}
