# What the RbdCollector needs on the node: the collector, the core's client and worker beside it, and the keyring of its Ceph user.
{% from 'diamond/map.jinja' import diamond, known, volumes with context %}
{% set wanted = diamond.collectors.get('RbdCollector') is mapping %}
include:
  - diamond.install
{% if known %}

{% if wanted and volumes.mistakes %}
the pillar that the RbdCollector measures by:
  test.fail_without_changes:
    - name: {{ volumes.mistakes | yaml_dquote }}
    - failhard: True
    - order: 1
{% endif %}

{% for path in ('/opt/diamond/collectors', '/opt/diamond/rbd') %}
{{ path }}:
  file.recurse:
    - source: salt://diamond/files/{{ path.split('/')[-1] }}
    - exclude_pat: 'E@__pycache__'
    - file_mode: '0644'
    - dir_mode: '0755'
    - require:
      - user: the user diamond
{% endfor %}

/opt/diamond/rbd/saltrbd:
  file.recurse:
    - source: salt://_utils/saltrbd
    - exclude_pat: 'E@__pycache__'
    - clean: True
    - file_mode: '0644'
    - dir_mode: '0755'
    - require:
      - file: /opt/diamond/rbd

{% if wanted and diamond.ceph_keyring is defined %}
# The key goes from the pillar into the file, and stands neither in this state nor in a diff.
{{ diamond.collectors.RbdCollector.get('keyring', '/etc/ceph/ceph.client.diamond.keyring') }}:
  file.managed:
    - contents_pillar: diamond:ceph_keyring
    - show_changes: False
    - group: diamond
    - mode: '0640'
    - makedirs: True
    - require:
      - user: the user diamond
{% endif %}
{% endif %}
