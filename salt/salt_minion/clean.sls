# Takes the minion away that salt_minion has set up; its keys stay. By salt-call, since the minion itself ends.
{% from 'salt_environment/daemon.jinja' import no_daemon with context %}
{{ no_daemon('salt-minion', '/etc/salt/minion.d/50-site.conf', ['salt-minion', 'salt-call']) }}
