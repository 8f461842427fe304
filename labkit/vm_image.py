"""The disk that the lab's machines start from: Debian of this host's own release with Ceph's clients.

Built once, from the mirrors that this host's own apt uses, and kept under a name made of everything that went into it.
Nothing of the host's apt configuration stays in it: a machine reaches only the lab's own bridge. Kernel modules and Salt's
environment are not on it; a machine reads them from this host.
"""

import hashlib
import os
import platform
import shutil
import time
from collections import namedtuple
from pathlib import Path

from labkit.commands import LabError, Step, run
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
# An image that no lab has started a machine from for so long is removed when another one is built.
KEPT_SECONDS = 14 * 86400

Image = namedtuple("Image", "disk key known_hosts")


def at(where):
    """Return the :class:`Image` whose files lie in the folder ``where``."""
    return Image(*(Path(where) / part for part in ("disk.raw", "id_ed25519", "known_hosts")))


def ready(folder, venvs):
    """Return the folder, below ``folder``, of the :class:`Image`, built first where it is missing.

    Its machines see this host's ``venvs`` under the same path.
    """
    fingerprint = hashlib.sha256((Path(__file__).read_text() + str(venvs)).encode()).hexdigest()
    name = f"{suite()}-{fingerprint[:10]}"
    where = Path(folder) / name
    # Written last: an image without it was interrupted, and is built anew.
    complete = where / "complete"
    if complete.exists():
        os.utime(complete)
        return where
    with locked(Path(folder) / f"{name}.lock", f"the machines' image {name}"):
        _remove_old(Path(folder), where)
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True, mode=0o700)
        root = where / "root"
        with Step(f"install Debian {suite()} with Ceph's clients for the machines"):
            _install(root, where)
        with Step("make the machines' disk"):
            _configure(root, at(where), venvs)
            # No journal: a machine that fell is thrown away.
            run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, at(where).disk, DISK_SIZE], timeout=300)
        shutil.rmtree(root)
        complete.touch()
    return where


def suite():
    """Return the name of this host's Debian release: Salt's environment is made for its Python."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _remove_old(folder, wanted):
    for image in folder.glob("*/"):
        complete = image / "complete"
        used = (complete if complete.exists() else image).stat().st_mtime
        if image != wanted and time.time() - used > KEPT_SECONDS:
            shutil.rmtree(image)


def _install(root, where):
    sources, options = where / "sources.list", where / "apt.conf"
    for path in (sources, options):
        # A proxy's password may stand in them.
        path.touch(mode=0o600)
    run(["apt-get", "update"], timeout=300)
    sources.write_text(_mirrors())
    options.write_text(_apt_options())
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--aptopt={options}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    argv += [f"--include={','.join(PACKAGES)}", suite(), root, sources]
    try:
        run(argv, timeout=1800)
    except LabError as problem:
        raise LabError(f"{problem}\nThe machines' Debian could not be installed from the mirrors that this host's apt uses.") from None
    finally:
        sources.unlink()
        options.unlink()


def _mirrors():
    """Return sources.list lines for the repositories of Debian that this host's own apt is told to use."""
    argv = ["apt-get", "indextargets", "Created-By: Packages", "Origin: Debian"]
    argv += ["--format", "$(REPO_URI) $(CODENAME) $(RELEASE) $(COMPONENT)"]
    rows = [line.split() for line in run(argv)[1].splitlines()]
    wanted = (suite(), f"{suite()}-updates", f"{suite()}-security")
    lines = [f"deb {uri} {release} {component}" for uri, codename, release, component in rows if codename in wanted]
    if not any(line.endswith(" main") for line in lines):
        raise LabError(f"This host's apt knows no repository of Debian {suite()}; look into /etc/apt/sources.list.d.")
    return "".join(f"{line}\n" for line in sorted(set(lines)))


def _apt_options():
    """Return how this host's apt reaches its mirrors: proxies, certificates, checks."""
    said = run(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"])[1]
    # What is empty is the name of a group.
    kept = [line for line in said.splitlines() if "IndexTargets" not in line and not line.endswith(' "";')]
    return "".join(f"{line}\n" for line in kept)


def _configure(root, image, venvs):
    for path in (root / "etc/apt/sources.list.d").glob("*"):
        path.unlink()
    for path in (root / "etc/apt/sources.list", root / "etc/apt/apt.conf.d/99mmdebstrap", root / "etc/resolv.conf", root / "etc/hostname"):
        path.unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    # What does not change while a machine runs is read from this host. The path of the environments is the same as
    # there: it stands in the first line of each of their commands.
    (root / "etc/fstab").write_text(
        f"/dev/ubda / ext4 defaults 0 1\nnone /lib/modules hostfs ro,{MODULES} 0 0\nnone {venvs} hostfs ro,{venvs} 0 0\n"
    )
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
