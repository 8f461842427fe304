# The example site in stages, as init containers come one after the other: salt-run state.orchestrate orch.site, on the management host.
# A stage succeeds on all its minions before the next one begins; the first that fails ends the run, and is the last that its result
# names. Started again, it changes only what is still missing. Targets and states are those of top.sls.
{% set management, nodes, all = 'management', 'node*', 'management or node*' %}
{% set stages = [
  ("Ceph's clients", [(all, ['ceph'])]),
  ('the database', [(management, ['postgresql'])]),
  ('the master, its API and the minions', [(management, ['salt_master', 'salt_api']), (all, ['salt_minion'])]),
  ('the volumes', [(all, ['rbd'])]),
  ('Diamond', [(management, ['graphite', 'diamond']), (nodes, ['diamond'])]),
] %}

# The states that the stages use; a highstate would sync them by itself.
modules, states and the core on every minion:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ all }}
    - tgt_type: compound
    - expect_minions: True
    - failhard: True

{% for what, steps in stages %}
{% set stage = 'stage ' ~ loop.index ~ ' of ' ~ loop.length ~ ', ' ~ what %}
# At once on the terminal and in the master's log: salt-run shows nothing below a warning, and results only at the end.
{{ (stage ~ ', begins') | yaml_dquote }}:
  module.run:
    - log.warning:
      - message: {{ (stage ~ ', begins') | yaml_dquote }}

{% for target, names in steps %}
{% set id = stage ~ ': ' ~ names | join(', ') ~ ' on ' ~ target %}
{{ id | yaml_dquote }}:
  salt.state:
    - tgt: {{ target }}
    - tgt_type: compound
    - sls: {{ names | json }}
    # A run that is under way there is waited for.
    - queue: True
    - failhard: True

{% if names | select('match', 'salt_') | list %}
# A daemon that changed restarts when the job that changed it has ended, and hears of no other job meanwhile.
{{ ('no restart is under way after ' ~ id) | yaml_dquote }}:
  salt.function:
    - name: cmd.run
    - tgt: {{ all }}
    - tgt_type: compound
    - arg:
      - test -z "$(systemctl list-units --plain --no-legend 'salt-*-restart@*')"
    - expect_minions: True
    - retry:
        attempts: 40
        interval: 5
        until: True
    - failhard: True
{% endif %}
{% endfor %}
{% endfor %}

all stages are done:
  module.run:
    - log.warning:
      - message: all stages of the site are done
