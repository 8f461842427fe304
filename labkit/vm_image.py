"""The disk that the lab's machines start from: Debian of this host's own release with Ceph's clients.

Built once, from the mirrors that this host's own apt uses, and kept under a name made of everything that went into it.
Nothing of the host's apt configuration stays in it: a machine reaches only the lab's own bridge. Kernel modules are read from
this host. Salt's environment is a second disk: read from this host by hostfs, every stat of Salt's loaders took three times as long.
"""

import hashlib
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

from labkit import debian
from labkit.commands import Step, run
from labkit.home import locked

# Ceph's clients, what maps and formats, and what carries the lab's commands into the machine.
CLIENT = "python3 python3-rados python3-rbd ceph-common rbd-nbd e2fsprogs xfsprogs mount util-linux kmod procps"
# For tests that stop or kill a whole cluster of their own.
CLUSTER = "ceph-mon ceph-mgr ceph-osd"
SYSTEM = "systemd systemd-sysv udev dbus iproute2 openssh-server"
# What the functional tests put onto images that must never be formatted.
TESTS = "btrfs-progs lvm2 cryptsetup-bin mdadm bcache-tools fdisk gdisk"
PACKAGES = f"{CLIENT} {CLUSTER} {SYSTEM} {TESTS}".split()

# What a machine that lives for minutes would only wait for, and what would touch devices that the tests look at.
UNWANTED = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-pstore.service",
    "getty@tty1.service",
    "getty-static.service",
    "serial-getty@ttyS0.service",
    "rbdmap.service",
    "ceph.target",
    "systemd-networkd-wait-online.service",
    "mdcheck_continue.timer",
    "mdcheck_start.timer",
    "mdmonitor-oneshot.timer",
    "lvm2-monitor.service",
    "systemd-timesyncd.service",
    "man-db.timer",
]

# Where the package user-mode-linux puts the modules of its kernel.
MODULES = "/usr/lib/uml/modules"

DISK_SIZE = "4G"
Image = namedtuple("Image", "disk key known_hosts")


def at(where):
    """Return the :class:`Image` whose files lie in the folder ``where``."""
    return Image(*(Path(where) / part for part in ("disk.raw", "id_ed25519", "known_hosts")))


def ready(folder):
    """Return the folder, below ``folder``, of the :class:`Image`, built first where it is missing."""
    fingerprint = hashlib.sha256((Path(__file__).read_text() + Path(debian.__file__).read_text()).encode()).hexdigest()
    name = f"{debian.suite()}-{fingerprint[:10]}"
    where = Path(folder) / name
    # Written last: an image without it was interrupted, and is built anew.
    complete = where / "complete"
    if complete.exists():
        os.utime(complete)
        return where
    with locked(Path(folder) / f"{name}.lock", f"the machines' image {name}"):
        debian.remove_old(Path(folder), where)
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True, mode=0o700)
        root = where / "root"
        with Step(f"install Debian {debian.suite()} with Ceph's clients for the machines"):
            debian.install(root, PACKAGES)
        with Step("make the machines' disk"):
            _configure(root, at(where))
            # No journal: a machine that fell is thrown away.
            run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, at(where).disk, DISK_SIZE], timeout=300)
        shutil.rmtree(root)
        complete.touch()
    return where


def environment_disk(folder, venv):
    """Return the disk, below ``folder``, that holds Salt's environment ``venv``, made first where it is missing.

    A machine mounts it under the path that the environment has here: it stands in the first line of each of its commands.
    """
    disk, unfinished = Path(folder, f"{venv.name}.ext4"), Path(folder, f"{venv.name}.unfinished")
    if disk.exists():
        os.utime(disk)
        return disk
    with locked(Path(folder) / f"{venv.name}.lock", f"the machines' disk of {venv.name}"), Step("make a disk of Salt's environment"):
        for old in Path(folder).glob("*.ext4"):
            if time.time() - old.stat().st_mtime > debian.KEPT_SECONDS:
                old.unlink()
        unfinished.unlink(missing_ok=True)
        # Many small files: more inodes than usual. What is not used of it takes nothing from the host.
        argv = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-i", "4096", "-d", venv]
        run([*argv, unfinished, DISK_SIZE], timeout=300)
        unfinished.rename(disk)
    return disk


def _configure(root, image):
    (root / "etc/fstab").write_text(f"/dev/ubda / ext4 defaults 0 1\nnone /lib/modules hostfs ro,{MODULES} 0 0\n")
    (root / "lib/modules").mkdir(exist_ok=True)
    systemctl = ["systemctl", f"--root={root}", "--quiet"]
    # The address comes from the kernel's command line.
    run([*systemctl, "enable", "systemd-networkd.service", "systemd-network-generator.service"])
    run([*systemctl, "mask", *UNWANTED])
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", image.key])
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(f"{image.key}.pub", ssh / "authorized_keys")
    host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    # ssh is told this name whatever the machine's address is.
    image.known_hosts.write_text(f"lab-machine {host_key}")
