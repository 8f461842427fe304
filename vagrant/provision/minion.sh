#!/bin/sh
# minion.sh NAME "LOOP..." "ADDRESS NAME"...: the names of all machines, this one's key, its first minion.
set -eu
name=$1
loops=$2
shift 2
given=/tmp/salt-rbd

# put FILE MODE: its new content comes on stdin; a file that has it already stays.
put() {
    mkdir -p "$(dirname "$1")"
    umask 077
    cat >"$1.new"
    umask 022
    chmod "$2" "$1.new"
    if cmp -s "$1.new" "$1"; then
        rm "$1.new"
        return
    fi
    mv "$1.new" "$1"
    echo "written: $1"
}

names=" $* "
case $names in
    *" $name "*) ;;
    *)
        echo "$name is none of the lab's machines." >&2
        exit 1
        ;;
esac

# Vagrant may have given this machine's name to 127.0.1.1, where the others would not find its services.
{
    grep -v ' # salt-rbd$' /etc/hosts | grep -v '^127\.0\.[12]\.1[[:space:]]' || true
    for line; do echo "$line # salt-rbd"; done
} | put /etc/hosts 644

# A container's loop devices are this host's, made where they are missing; without loop-control losetup takes one of those that it sees.
if [ -n "$loops" ]; then
    # shellcheck disable=SC2086 # numbers
    python3 - $loops <<'EOT'
import errno, fcntl, os, stat, sys, tempfile

LOOP_CTL_ADD = 0x4C80
with tempfile.TemporaryDirectory() as folder:
    os.mknod(f"{folder}/control", stat.S_IFCHR | 0o600, os.makedev(10, 237))
    with open(f"{folder}/control") as control:
        for number in map(int, sys.argv[1:]):
            try:
                fcntl.ioctl(control, LOOP_CTL_ADD, number)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
EOT
    {
        echo "f /dev/loop-control 0600 root root"
        for number in $loops; do echo "b /dev/loop$number 0660 root disk - $(cat "/sys/block/loop$number/dev")"; done
    } | put /etc/tmpfiles.d/salt-rbd.conf 644
    systemd-tmpfiles --create /etc/tmpfiles.d/salt-rbd.conf
fi

put /etc/salt/pki/minion/minion.pem 400 <"$given/minion.pem"
put /etc/salt/pki/minion/minion.pub 644 <"$given/minion.pub"
put /etc/salt/minion.d/10-first.conf 644 <<EOT
master: management
id: $name
enable_gpu_grains: false
EOT

# The site's states write a unit of their own in its place.
if [ ! -e /etc/systemd/system/salt-minion.service ]; then
    put /etc/systemd/system/salt-minion.service 644 <<EOT
[Unit]
Description=The minion that a machine of the lab starts with
After=network-online.target
[Service]
ExecStart=/opt/salt/first/bin/salt-minion
KillMode=process
Restart=on-failure
[Install]
WantedBy=multi-user.target
EOT
    systemctl daemon-reload
    # The management host's begins with its states, when there is a master.
    [ "$name" = management ] || systemctl --quiet enable --now salt-minion.service
fi
[ "$name" = management ] || rm -rf "$given"
