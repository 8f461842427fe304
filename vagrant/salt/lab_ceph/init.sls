# A Ceph on the nodes of the lab: a manager and an OSD on each, a monitor on the first three, or on the first one. In the lab only: clusters in production
# come from cephadm or Rook. It makes what is missing and changes nothing of a daemon that is there. The pillar is written by labkit/lab_ceph.py.
{% set lab = pillar['lab_ceph'] %}
{% set monitors = lab.monitors %}
{% set name = grains.id %}
{% set folder = '/var/lib/ceph/lab' %}
{% set ceph = 'ceph --connect-timeout 300' %}
{% if name not in lab.nodes %}
this node has no part in the lab's cluster:
  test.fail_without_changes:
    - name: {{ (name ~ ' is none of the nodes in lab_ceph:nodes: ' ~ lab.nodes | join(', ') ~ '.') | yaml_dquote }}
{% else %}
{% set addresses = [] %}
{% set added = [] %}
{% for each, address in monitors.items() %}
{% do addresses.append(address ~ ':6789') %}
{% do added.append('--addv ' ~ each ~ ' [v2:' ~ address ~ ':3300,v1:' ~ address ~ ':6789]') %}
{% endfor %}

# Comes with the packages, and wants a kernel module that a lab may not have.
/etc/systemd/system/nvmf-autoconnect.service:
  file.symlink:
    - target: /dev/null

Ceph's daemons:
  pkg.installed:
    - pkgs: [ceph-mon, ceph-mgr, ceph-osd, ceph-common, uuid-runtime]
    - install_recommends: False
    - require:
        - file: /etc/systemd/system/nvmf-autoconnect.service

# salt/ceph writes it as well, for all clients.
/etc/ceph/ceph.conf:
  file.managed:
    - contents: |
        [global]
        fsid = {{ lab.fsid }}
        mon_host = {{ addresses | join(',') }}
    - replace: False
    - mode: '0644'
    - require:
        - pkg: Ceph's daemons

/etc/ceph/ceph.client.admin.keyring:
  file.managed:
    - contents_pillar: lab_ceph:admin_keyring
    - show_changes: False
    - mode: '0600'
    - require:
        - pkg: Ceph's daemons

{% for path in [folder, '/var/lib/ceph/mgr/ceph-' ~ name] %}
{{ path }}:
  file.directory:
    - user: ceph
    - group: ceph
    - mode: '0700'
    - require:
        - pkg: Ceph's daemons
{% endfor %}

{{ folder }}/settings:
  file.managed:
    - contents: |
        [global]
{%- for key, value in lab.settings.items() %}
        {{ key }} = {{ value }}
{%- endfor %}
    - require:
        - file: {{ folder }}

{% for file in ['monitors.keyring', 'users.keyring'] %}
{{ folder }}/{{ file }}:
  file.managed:
    - contents_pillar: lab_ceph:{{ file | replace('.', '_') }}
    - show_changes: False
    - user: ceph
    - group: ceph
    - mode: '0600'
    - require:
        - file: {{ folder }}
{% endfor %}

{% if name in monitors %}
the map of the monitors:
  cmd.run:
    - name: monmaptool --create --clobber --fsid {{ lab.fsid }} {{ added | join(' ') }} {{ folder }}/monmap
    - creates: {{ folder }}/monmap
    - require:
        - file: {{ folder }}

the monitor's store:
  cmd.run:
    - name: >-
        rm -rf /var/lib/ceph/mon/ceph-{{ name }} && ceph-mon --mkfs --id {{ name }} --monmap {{ folder }}/monmap
        --keyring {{ folder }}/monitors.keyring --setuser ceph --setgroup ceph && touch {{ folder }}/monitor
    # Written last: a store without it was interrupted, and is made anew.
    - creates: {{ folder }}/monitor
    - timeout: 300
    - require:
        - cmd: the map of the monitors
        - file: {{ folder }}/monitors.keyring
        - file: /etc/ceph/ceph.conf

ceph-mon@{{ name }}:
  service.running:
    - enable: True
    - require:
        - cmd: the monitor's store
    - require_in:
        - cmd: the cluster's settings
{% endif %}

# The commands from here on wait until most of the monitors are there.
the cluster's settings:
  cmd.run:
    - name: {{ ceph }} config assimilate-conf -i {{ folder }}/settings && sha256sum {{ folder }}/settings >{{ folder }}/settings.done
    - unless: sha256sum --status --check {{ folder }}/settings.done
    - timeout: 900
    - require:
        - file: /etc/ceph/ceph.conf
        - file: {{ folder }}/settings
        - file: /etc/ceph/ceph.client.admin.keyring

the cluster's users:
  cmd.run:
    - name: {{ ceph }} auth import -i {{ folder }}/users.keyring && sha256sum {{ folder }}/users.keyring >{{ folder }}/users.done
    - unless: sha256sum --status --check {{ folder }}/users.done
    - timeout: 900
    - require:
        - cmd: the cluster's settings
        - file: {{ folder }}/users.keyring

the manager's key:
  cmd.run:
    - name: >-
        {{ ceph }} auth get-or-create mgr.{{ name }} mon 'allow profile mgr' osd 'allow *' mds 'allow *' -o {{ folder }}/manager
        && install -o ceph -g ceph -m 600 {{ folder }}/manager /var/lib/ceph/mgr/ceph-{{ name }}/keyring
    - creates: /var/lib/ceph/mgr/ceph-{{ name }}/keyring
    - umask: '077'
    - timeout: 900
    - require:
        - cmd: the cluster's settings
        - file: /var/lib/ceph/mgr/ceph-{{ name }}

ceph-mgr@{{ name }}:
  service.running:
    - enable: True
    - require:
        - cmd: the manager's key

{% if lab.osd.device is defined %}
# The OSD runs as ceph, and each boot gives the disk to root.
/etc/systemd/system/ceph-osd@.service.d/lab.conf:
  file.managed:
    - contents: |
        [Service]
        ExecStartPre=/usr/bin/chown ceph:ceph {{ lab.osd.device }}
    - makedirs: True
    - require_in:
        - cmd: the OSD
{% endif %}

the program that makes the OSD:
  file.managed:
    - name: {{ folder }}/make-osd
    - source: salt://lab_ceph/make-osd
    - mode: '0755'
    - require:
        - file: {{ folder }}

the OSD:
  cmd.run:
    - name: {{ folder }}/make-osd {{ lab.osd.device if lab.osd.device is defined else lab.osd.bytes }}
    - creates: {{ folder }}/osd
    - timeout: 1200
    - require:
        - file: the program that makes the OSD
        - cmd: the cluster's settings
{% if name == monitors | first %}

# Waits for as many OSDs as its images are kept on.
the pool:
  cmd.run:
    - name: {{ ceph }} osd pool create {{ lab.pool }} && timeout 1200 rbd pool init {{ lab.pool }} && touch {{ folder }}/pool
    - creates: {{ folder }}/pool
    - timeout: 1800
    - require:
        - cmd: the OSD
        - service: ceph-mgr@{{ name }}
{% endif %}
{% endif %}
