# Takes Salt's environments away, of every version, or the project's packages and their repository; and first the daemons that run in one. The packages
# that an environment is made with stay, since more than Salt may need them.
{% from 'salt_environment/map.jinja' import environment, packaged with context %}
include:
  - salt_api.clean
  - salt_master.clean
  - salt_minion.clean
{% if packaged %}
{% set onedir = '/opt/saltstack/salt' %}
{# A run that has them for its Python goes on with it until its end. #}
{% set own = grains.get('pythonexecutable', '').startswith(onedir ~ '/') %}

no packages of Salt:
{% if own %}
  cmd.run:
    - name: >-
        systemd-run --quiet --collect --unit=salt-packages --setenv=DEBIAN_FRONTEND=noninteractive
        sh -c "tail --pid=$PPID -f /dev/null; apt-get --yes --quiet remove salt-common && rm -rf {{ onedir }}"
{% else %}
  pkg.removed:
    - name: salt-common
{% endif %}
    - require:
        - sls: salt_api.clean
        - sls: salt_master.clean
        - sls: salt_minion.clean

no files of Salt's packages:
  file.absent:
    - names:
{% if not own %}
        # What salt-pip has put there.
        - {{ onedir }}
{% endif %}
        - /etc/apt/sources.list.d/salt.list
        - /etc/apt/keyrings/salt-archive-keyring.asc
        - /etc/apt/preferences.d/salt-pin-1001
    - require:
        - {{ 'cmd' if own else 'pkg' }}: no packages of Salt
{% else %}

{{ environment.folder }}:
  file.absent:
    - require:
        - sls: salt_api.clean
        - sls: salt_master.clean
        - sls: salt_minion.clean
{% endif %}
