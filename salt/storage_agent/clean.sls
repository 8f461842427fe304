# Takes the storage agent away: nobody logs in any more. salt-api stays, as salt_api declares it; so does nginx's package, since more than the agent may need
# it, with certificate and key. What is changed here is read by master and salt-api when they start again, after this job.
{% from 'booted.jinja' import booted with context %}
{% set there = salt['file.file_exists']('/etc/systemd/system/storage-agent.service') %}
{% if there %}
storage-agent:
  service.dead:
    - enable: False
    # As much as in salt_environment/daemon.jinja: the files go when it has ended.
    - no_block: False
{% endif %}

{% for path in [
  '/etc/systemd/system/storage-agent.service',
  '/etc/salt/storage-agent.nginx.conf',
  '/etc/salt/storage-agent.htpasswd',
  '/etc/salt/master.d/70-storage-agent.conf',
  '/usr/local/lib/salt-storage-agent',
] %}
{{ path }}:
  file.absent:{{ '' if there else ' []' }}
{% if there %}
    - require:
        - service: storage-agent
{% endif %}
{% endfor %}
{% if booted %}

{% for name in ['salt-master', 'salt-api'] %}
restart {{ name }} without the storage agent:
  cmd.run:
    - name: systemctl start --no-block {{ name }}-restart@$PPID.service
    - onlyif: test -e /etc/systemd/system/{{ name }}-restart@.service
    - onchanges:
        - file: /etc/salt/master.d/70-storage-agent.conf
{% endfor %}
{% endif %}
