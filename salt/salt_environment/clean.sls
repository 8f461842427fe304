# Takes Salt's environments away, of every version, or the project's packages and their repository; and first the daemons that run in one. The packages
# that an environment is made with stay, since more than Salt may need them.
{% from 'salt_environment/map.jinja' import environment, packaged with context %}
include:
  - salt_api.clean
  - salt_master.clean
  - salt_minion.clean
{% if packaged %}

no packages of Salt:
  pkg.removed:
    - name: salt-common
    - require:
        - sls: salt_api.clean
        - sls: salt_master.clean
        - sls: salt_minion.clean

no files of Salt's packages:
  file.absent:
    - names:
        # What salt-pip has put there.
        - /opt/saltstack/salt
        - /etc/apt/sources.list.d/salt.list
        - /etc/apt/keyrings/salt-archive-keyring.asc
        - /etc/apt/preferences.d/salt-pin-1001
    - require:
        - pkg: no packages of Salt
{% else %}

{{ environment.folder }}:
  file.absent:
    - require:
        - sls: salt_api.clean
        - sls: salt_master.clean
        - sls: salt_minion.clean
{% endif %}
