# Takes the master away that salt_master has set up; its keys and the minions', the pillar, the job cache and the logs stay, and with them the user that
# owns them.
{% from 'salt_environment/daemon.jinja' import no_daemon with context %}
{{ no_daemon('salt-master', '/etc/salt/master.d/50-site.conf', ['salt', 'salt-key', 'salt-master', 'salt-run']) }}
