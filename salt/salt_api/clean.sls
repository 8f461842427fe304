# Takes salt-api away that salt_api has set up; its key and certificate stay.
{% from 'salt_environment/daemon.jinja' import no_daemon with context %}
{{ no_daemon('salt-api', '/etc/salt/master.d/60-api.conf', ['salt-api']) }}
