# A client of the cluster that the pillar ceph names: packages, configuration, keyring, kernel modules, and a look whether it answers.
{% from 'systems.jinja' import refuse_system, say_end, system with context %}
{% if not system.ceph %}
{{ refuse_system('Ceph client', 'ceph') }}
{% else %}
{{ say_end('the Ceph client') }}
{% set ceph = pillar.get('ceph') or {} %}
{% set user = (ceph.get('user') or 'admin') | replace('client.', '') %}
{% set keyring = ceph.get('keyring') or '/etc/ceph/ceph.client.' ~ user ~ '.keyring' %}
{% set loaded = salt['kmod.lsmod']() if salt['file.file_exists']('/proc/modules') else [] %}
{% set kernel = salt['kmod.available']() + loaded | map(attribute='module') | list %}
{% set driver = (pillar.get('rbd') or {}).get('driver', 'auto') %}
{% set packages = system.ceph.packages | list %}
{% if driver == 'nbd' or (driver == 'auto' and 'nbd' in kernel and 'rbd' not in kernel) %}
{% do packages.extend(system.ceph.nbd_packages) %}
{% elif driver == 'fuse' or (driver == 'auto' and 'rbd' not in kernel) %}
{% do packages.extend(system.ceph.fuse_packages) %}
{% endif %}

Ceph's client packages:
  pkg.installed:
    - pkgs: {{ packages | json }}

{% if ceph.get('monitors') %}
/etc/ceph/ceph.conf:
  file.managed:
    - contents: |
        # Managed by Salt, from the pillar ceph.
        [global]
        fsid = {{ ceph.fsid }}
        mon_host = {{ ceph.monitors | join(',') }}
    - mode: '0644'
    - makedirs: True
    - require:
        - pkg: Ceph's client packages
{% endif %}

{% if ceph.get('keyring_text') %}
# The key goes from the pillar into the file and nowhere else: neither into the rendered state nor into a diff.
{{ keyring }}:
  file.managed:
    - contents_pillar: ceph:keyring_text
    - show_changes: False
    - user: root
    - group: root
    - mode: '0600'
    - makedirs: True
    - require:
        - pkg: Ceph's client packages
{% endif %}

{% for module in ['rbd', 'nbd'] if module in kernel %}
{{ module }}:
  kmod.present:
    - persist: True
{% endfor %}

# A node that runs daemons of the cluster itself maps its images after they have started and unmaps them before they end.
/etc/systemd/system/rbd-volume@.service.d/ceph.conf:
  file.managed:
    - contents: |
        # Managed by Salt (salt/ceph).
        [Unit]
        After=ceph.target
    - mode: '0644'
    - makedirs: True

{{ ceph.get('fsid') or 'the cluster' }} answers:
  rbd_cluster.answers:
    - require:
        - pkg: Ceph's client packages
{%- if ceph.get('monitors') %}
        - file: /etc/ceph/ceph.conf
{%- endif %}
{%- if ceph.get('keyring_text') %}
        - file: {{ keyring }}
{%- endif %}
{% endif %}
