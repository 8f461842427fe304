# The repository and the packages, or the archive with the user and the unit that no package brings.
{% from 'postgresql/layout.jinja' import pg with context %}
include:
  - postgresql.supported
{% if not pg.mistakes %}
{% if pg.source == 'pgdg' %}
  - postgresql.repository
{% elif pg.source == 'archive' %}
  - postgresql.archive
{% endif %}

{% if pg.debian_tools %}
# The cluster is made by the state for it, with the declared locale, and not by the package.
/etc/postgresql-common/createcluster.d/salt.conf:
  file.managed:
    - contents: create_main_cluster = false
    - makedirs: True
    - require:
        - postgresql_server: postgresql is supported here
{% endif %}

postgresql packages:
  pkg.installed:
    - pkgs: {{ pg.packages | json }}
    - require:
        - postgresql_server: postgresql is supported here
{% if pg.source == 'pgdg' %}
        - pkgrepo: postgresql repository
{% endif %}
{% if pg.debian_tools %}
        - file: /etc/postgresql-common/createcluster.d/salt.conf
{% endif %}
{% endif %}
