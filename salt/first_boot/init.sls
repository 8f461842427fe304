# For an image: what is one host's alone, such as its keys, is not in it, but made when it boots for the first time, before what needs it.
{% from 'booted.jinja' import booted with context %}
{% from 'salt_environment/map.jinja' import commands_in with context %}
{% from 'postgresql/layout.jinja' import pg with context %}
{% set unit = 'salt-first-boot.service' %}
{% set roots = (pillar.get('salt_master') or {}).get('pillar_roots', ['/srv/pillar']) %}
{% set call = commands_in ~ '/salt-call --local --retcode-passthrough --state-output=changes --pillar-root=' ~ roots[0] %}
{% set database = 'postgresql' in pillar and not pg.mistakes %}
{% if not booted %}
/etc/systemd/system/{{ unit }}:
  file.managed:
    - contents: |
        # Managed by Salt.
        [Unit]
        Description=The first boot of an image: what is this host's alone, by its states
        ConditionPathExists=!/var/lib/salt-first-boot
        Wants=network-online.target
        After=network-online.target
        Before=salt-api.service{{ ' ' ~ pg.service ~ '.service' if database }}
        [Service]
        Type=oneshot
        TimeoutStartSec=600
        # The server's certificate; memory and processors may be others than where the image was built.
        {{ 'ExecStart=' ~ call ~ ' state.apply postgresql.cluster' if database }}
        {{ 'ExecStart=' ~ call ~ ' state.sls_id "the certificate of salt-api" salt_api' if 'salt_api' in pillar }}
        ExecStart=/usr/bin/touch /var/lib/salt-first-boot
        [Install]
        WantedBy=multi-user.target
    - mode: '0644'

{{ unit }} is enabled:
  cmd.run:
    - name: systemctl enable {{ unit }}
    - unless: systemctl is-enabled --quiet {{ unit }}
    - require:
        - file: /etc/systemd/system/{{ unit }}
{% endif %}
