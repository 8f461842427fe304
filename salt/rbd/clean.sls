# Takes the mounts and the mappings of the pillar's volumes away, with their lines in fstab and their units. Images, snapshots and clones are data:
# they stay, and go by rbd_image.absent alone.
{% from 'rbd/states.jinja' import modules_missing with context %}
{% if 'rbd_volumes.layout' not in salt %}
{{ modules_missing() }}
{% else %}
{% set layout = salt['rbd_volumes.layout']() %}
{% if layout.mistakes or not layout.mounts %}
the pillar rbd:
  rbd_volumes.declared
{% endif %}
{# A mount inside of another one ends before it. #}
{% for state in layout.mounts | sort(attribute='arguments.name', reverse=True) %}
{{ ('no ' ~ state.id) | yaml_dquote }}:
  rbd_filesystem.unmounted:
    - name: {{ state.arguments.name | json }}
    - image: {{ state.arguments.image | json }}

{{ ('no rbd device ' ~ state.arguments.image) | yaml_dquote }}:
  rbd_device.unmapped:
    - name: {{ state.arguments.image | json }}
    - require:
        - rbd_filesystem: {{ ('no ' ~ state.id) | json }}
{% endfor %}
{% endif %}
