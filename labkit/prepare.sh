# shellcheck shell=sh
# Read by ./lab: can this system carry the lab, and which Debian packages are missing?
# Plain POSIX sh, because a bare Debian root has nothing else. Every check comes before the first change.

# shellcheck disable=SC2034 # ./lab uses these two lists
# What the lab itself needs: Ceph's daemons and clients with the bindings for /usr/bin/python3, the three
# ways to map an image, filesystems, and what builds Salt's environment (timelib is compiled).
lab_packages="ceph-mon ceph-mgr ceph-osd ceph-common python3-rados python3-rbd rbd-nbd
 qemu-system-common qemu-utils qemu-block-extra fuse3 e2fsprogs xfsprogs mount util-linux kmod
 python3 python3-venv python3-dev gcc libc6-dev ca-certificates"

# shellcheck disable=SC2034
# What only the tests need: other kinds of content that must never be formatted, network namespaces, linters, a database server.
test_packages="btrfs-progs lvm2 cryptsetup-bin bcache-tools fdisk gdisk iproute2 git shellcheck
 dpkg-dev gnupg xz-utils postgresql nginx curl jq"
# Vagrant looks at its own files. Only of Debian 12 it is known that it packages Vagrant with both plugins.
! grep -qs '^VERSION_ID="12"' /etc/os-release || test_packages="$test_packages vagrant vagrant-libvirt vagrant-lxc"

# shellcheck disable=SC2034
# What only the machines need: the Linux kernel as a process, and what makes their Debian.
machine_packages="user-mode-linux mmdebstrap iproute2 openssh-client systemd"

# shellcheck disable=SC2034
# What only the nodes need: containers that boot, and what makes their Debian and its package repository.
node_packages="systemd-container mmdebstrap iproute2 dpkg-dev"

# shellcheck disable=SC2034
# What only the boxes for Vagrant need, and what only its machines.
box_packages="grub-common grub-pc-bin fdisk openssh-client"
vagrant_packages="$box_packages qemu-system-x86 libvirt-daemon-system libvirt-clients lxc dnsmasq-base iptables rsync sudo"

# MiB: a cluster and Salt in memory; on disk all packages, Salt twice with the tools, a cluster with its logs.
need_memory=1024
need_packages=1700
need_venvs=800
need_home=300
need_machine_memory=2000
need_image=1500
need_node_memory=2500
need_node_image=1000

missing_packages() {
    # shellcheck disable=SC2086 # a list of names
    installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' $1 2>/dev/null | sed -n 's/^ii *//p')
    for package in $1; do
        echo "$installed" | grep -qx "$package" || printf ' %s' "$package"
    done
}

# A device may be there and closed to this container; another user than root cannot try.
can_open() {
    [ -c "$1" ] && { [ "$(id -u)" != 0 ] || (: <"$1") 2>/dev/null; }
}

# Prints one sentence for each reason why this system cannot carry the lab; nothing where it can.
obstacles() {
    if [ "$(id -u)" != 0 ]; then
        echo "It must run as root: it installs packages and mounts filesystems. Run it again as root."
    fi
    # shellcheck source=/etc/os-release
    system=$(. /etc/os-release 2>/dev/null && echo "${ID:-an unknown system}${VERSION_ID:+ $VERSION_ID}") || true
    case $system in
        "debian 12" | "debian 13") ;;
        *) echo "It needs Debian 12 or 13, whose packages bring a whole Ceph; this is ${system:-no system it knows}." ;;
    esac
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) echo "It needs an x86_64 or aarch64 machine; this is $(uname -m)." ;;
    esac
    for tool in apt-get dpkg-query; do
        command -v $tool >/dev/null || echo "It needs $tool to install packages, and $tool is not here."
    done
    # Bit 21 is CAP_SYS_ADMIN.
    capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status 2>/dev/null) || true
    if [ -z "$capabilities" ]; then
        echo "It needs /proc, which is not mounted here."
    elif [ "$(id -u)" = 0 ] && [ $((0x$capabilities >> 21 & 1)) = 0 ]; then
        echo "It needs the capability CAP_SYS_ADMIN to mount filesystems; start the container with it."
    fi
    if [ ! -d /sys/bus/rbd ] && ! modprobe -nq rbd 2>/dev/null; then
        can_open /dev/fuse ||
            echo "It needs /dev/fuse to map images, because this kernel has no rbd; load fuse, or give the container the device."
        can_open /dev/loop-control ||
            echo "It needs /dev/loop-control to map images, because this kernel has no rbd; load loop, or give the container the device."
    fi
    # A lab that runs has taken its share already.
    [ ! -e "$RBD_LAB_HOME/cluster/facts.json" ] || return 0
    memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null) || true
    if [ "${memory:-0}" -lt $need_memory ]; then
        echo "It needs $need_memory MiB of free memory; ${memory:-0} MiB are free."
    fi
    check_space "$RBD_LAB_HOME" $need_home "the cluster (RBD_LAB_HOME may name another folder)"
    [ -d "$RBD_LAB_VENVS" ] || check_space "$RBD_LAB_VENVS" $need_venvs "Salt (RBD_LAB_VENVS may name another folder)"
    [ -z "$missing" ] || check_space /usr $need_packages "Debian packages"
}

check_space() {
    place=$1
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free=$(df -Pk "$place" | awk 'NR == 2 {print int($4 / 1024)}')
    [ "$free" -ge "$2" ] || echo "It needs $2 MiB of free space in $1 for $3; $free MiB are free."
}

# The units that would start at boot, or nothing where systemd does not run.
enabled_units() {
    [ ! -d /run/systemd/system ] ||
        systemctl list-unit-files --state=enabled --no-legend --no-pager 2>/dev/null | awk '{print $1}' | sort
}

# Debian enables and starts daemons as it installs them (ceph-crash, Ceph's targets, smartd ...). The lab starts its
# own processes and needs none of these, so every unit that this installation enabled is stopped and disabled again;
# only logs are kept from growing as on any machine.
disable_new_units() {
    [ -d /run/systemd/system ] || return 0
    new=$(enabled_units | grep -vxF "${units_before:-none}" | grep -vx 'logrotate\.timer' | tr '\n' ' ')
    [ -n "$new" ] || return 0
    # shellcheck disable=SC2086 # a list of names
    systemctl disable --now $new >>"$log" 2>&1 || true
    # shellcheck disable=SC2086
    systemctl reset-failed $new >>"$log" 2>&1 || true
    echo "          not left running: ${new}(systemctl enable --now brings one back)"
}

install_packages() {
    log=$RBD_LAB_HOME/log/apt.log
    mkdir -p "$RBD_LAB_HOME/log"
    began=$(date +%s)
    # shellcheck disable=SC2086 # a list of names
    set -- $missing
    echo "          install $# Debian packages and what they need (log: $log)"
    export DEBIAN_FRONTEND=noninteractive
    units_before=$(enabled_units)
    # Debian's PostgreSQL would make a cluster and start it, also where no systemd could stop it again.
    no_cluster=/etc/postgresql-common/createcluster.d/rbd-lab.conf
    case " $* " in
        *" postgresql "*) mkdir -p "$(dirname $no_cluster)" && echo "create_main_cluster = false" >$no_cluster ;;
    esac
    trap 'rm -f $no_cluster; disable_new_units; exit 130' INT TERM
    code=0
    {
        timeout 600 apt-get -o DPkg::Lock::Timeout=120 update &&
            timeout 1800 apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
    } </dev/null >"$log" 2>&1 || code=$?
    rm -f $no_cluster
    disable_new_units
    trap - INT TERM
    if [ $code != 0 ]; then
        tail -n 15 "$log" >&2
        echo "apt-get could not install the packages: $missing. Its last words stand above; mend /etc/apt or the network and run this again." >&2
        exit 3
    fi
    printf '  %5s s install Debian packages\n' "$(($(date +%s) - began))"
}

# Make sure of everything that Debian can give, or say why not and change nothing.
prepare() {
    missing=$(missing_packages "$1")
    found=$(obstacles)
    if [ -n "$found" ]; then
        echo "This system cannot carry the lab, and nothing was changed:" >&2
        echo "$found" | sed 's/^/- /' >&2
        exit 3
    fi
    [ -z "$missing" ] || install_packages
}

# The same for the machines of ./lab vm.
prepare_machines() {
    found=$(machine_obstacles)
    if [ -n "$found" ]; then
        echo "This system cannot carry the lab's machines, and nothing was changed:" >&2
        echo "$found" | sed 's/^/- /' >&2
        exit 3
    fi
    prepare "$1 $machine_packages"
}

machine_obstacles() {
    [ "$(uname -m)" = x86_64 ] || echo "User Mode Linux, the machines' kernel, is packaged for x86_64 only; this is $(uname -m)."
    can_open /dev/net/tun || echo "They need /dev/net/tun for their network; load tun, or give the container the device."
    guest_room vm $need_machine_memory vm-images $need_image "the machines' disk"
}

# The same for the nodes of ./lab nodes.
prepare_nodes() {
    found=$(node_obstacles)
    if [ -n "$found" ]; then
        echo "This system cannot carry the lab's nodes, and nothing was changed:" >&2
        echo "$found" | sed 's/^/- /' >&2
        exit 3
    fi
    prepare "$1 $node_packages"
}

node_obstacles() {
    guest_room nodes $need_node_memory node-images $need_node_image "the nodes' disks"
}

# Folder below the lab's home, MiB of memory, folder of images, MiB on disk, what for: is there room, unless they run or are built already?
guest_room() {
    memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null) || true
    [ "${memory:-0}" -ge "$2" ] || [ -e "$RBD_LAB_HOME/$1/network.json" ] ||
        echo "They need $2 MiB of free memory; ${memory:-0} MiB are free."
    [ -d "$RBD_LAB_VENVS/../$3" ] || check_space "$(dirname "$RBD_LAB_VENVS")" "$4" "$5"
}
