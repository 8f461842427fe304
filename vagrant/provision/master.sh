#!/bin/sh
# The management host: it knows the keys of its minions before it runs, has the site's pillar, and sets itself up by its own states.
set -eu
given=/tmp/salt-rbd
checkout=/srv/salt-rbd
pillar=/srv/site/pillar
accepted=/etc/salt/pki/master/minions

mkdir -p "$accepted"
for key in "$given"/*.accepted; do
    minion=$(basename "$key" .accepted)
    cmp -s "$key" "$accepted/$minion" && continue
    install -m 644 "$key" "$accepted/$minion"
    ! getent passwd salt >/dev/null || chown salt:salt "$accepted/$minion"
    echo "The master knows the key of $minion."
done

cd "$checkout"
/opt/salt/first/bin/python -B -m labkit.site_pillar "$given/facts.json" "$pillar"
! getent group salt >/dev/null || chgrp -R salt "$pillar"
rm -rf "$given"

call() {
    /opt/salt/first/bin/salt-call --local --retcode-passthrough --state-output=changes \
        --file-root="$checkout/salt" --pillar-root="$pillar" --id=management "$@"
}
call --out=quiet saltutil.sync_all
call state.apply salt_master,salt_minion
