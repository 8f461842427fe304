# Takes Salt's environments away, of every version, and first the daemons that run in one. The packages that an environment is made with stay, since more
# than Salt may need them.
{% from 'salt_environment/map.jinja' import environment with context %}
include:
  - salt_api.clean
  - salt_master.clean
  - salt_minion.clean

{{ environment.folder }}:
  file.absent:
    - require:
        - sls: salt_api.clean
        - sls: salt_master.clean
        - sls: salt_minion.clean
