#!/bin/sh
# site.sh NAME...: when all minions are there, the cluster on the nodes, then the whole site by a highstate of each machine.
set -eu
minions=$(echo "$*" | tr ' ' ',')
# Seconds: a machine that is emulated takes its time.
waits=1800
limit=7200

deadline=$(($(date +%s) + waits))
until salt --timeout=60 --out=txt --list "$minions" test.ping 2>/dev/null | grep -c ': True$' | grep -qx "$#"; do
    if [ "$(date +%s)" -gt "$deadline" ]; then
        echo "Not all of $minions answered within $waits s: salt-key -L and journalctl -u salt-minion on the machine that is missing tell more." >&2
        exit 1
    fi
    sleep 5
done

salt --timeout=$limit --state-output=changes 'node*' state.apply lab_ceph
salt --timeout=$limit --state-output=changes '*' state.apply
