"""``./lab box``: a box for Vagrant, made from Debian's packages, for libvirt and for lxc.

Debian of this host's own release from the mirrors that its apt uses, Salt of the lab's version, and what the states install, as
packages and wheels inside: a machine needs no net. For libvirt it has a kernel with rbd and nbd. No catalogue of boxes has a part in it.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from labkit import debian, node_image, prepare
from labkit.commands import LabError, Step, run
from labkit.home import REPO, locked

USAGE = """\
usage: ./lab box libvirt    build the box for libvirt (also of emulated machines)
       ./lab box lxc        build the box for lxc
Then: vagrant box add --name salt-rbd FILE"""

KINDS = ("libvirt", "lxc")
# What ends up in the box beside the image itself.
PARTS = REPO / "vagrant/box"

# What Vagrant needs to come in, to copy the checkout, and to set names and addresses.
VAGRANT = "openssh-server sudo rsync hostname"
# It has rbd and nbd.
KERNEL = "linux-image-cloud-amd64 initramfs-tools"

DISK_MIB = 20 * 1024
# Where the only partition begins, in sectors; grub lies before it.
FIRST_SECTOR = 2048
LABEL = "salt-rbd"

GRUB = Path("/usr/lib/grub/i386-pc")
GRUB_MODULES = "biosdisk part_msdos ext2 normal linux echo"
GRUB_CONFIG = """\
set timeout=0
menuentry Debian {
    linux /vmlinuz root=LABEL=salt-rbd ro quiet console=tty0 console=ttyS0
    initrd /initrd.img
}
"""

DHCP = """\
# Vagrant's own network, where nothing else is said of a device.
[Match]
Name=en* eth*

[Network]
DHCP=yes
"""

# Runs inside the root: the user that Vagrant comes in as, and Salt for the first minion.
INSIDE = """\
set -eu
useradd --create-home --shell /bin/bash vagrant
install -d -o vagrant -g vagrant -m 700 /home/vagrant/.ssh
install -o vagrant -g vagrant -m 600 /root/box.pub /home/vagrant/.ssh/authorized_keys
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
chmod 440 /etc/sudoers.d/vagrant
rm /root/box.pub /etc/ssh/ssh_host_*
python3 -m venv /opt/salt/first
/opt/salt/first/bin/pip --quiet --no-input --disable-pip-version-check install salt=={salt}
"""
# Each machine has host keys of its own.
HOST_KEYS = """\
[Service]
ExecStartPre=
ExecStartPre=/usr/bin/ssh-keygen -A
ExecStartPre=/usr/sbin/sshd -t
"""


def main(home, words):
    """Run ``./lab box WORDS`` and return its exit code."""
    if len(words) != 1 or words[0] not in KINDS:
        print(USAGE)
        return 0 if words in ([], ["help"], ["-h"], ["--help"]) else 2
    box = ready(home, words[0])
    print(f"The box is {box}\nvagrant box add --name salt-rbd {box}")
    return 0


def ready(home, kind):
    """Return the path of the box for ``kind``, built first where it is missing."""
    folder = home.venvs.parent / "boxes"
    venv = prepare.salt_environment(home, prepare.SALT)
    offered = node_image.ready(home.venvs.parent / "node-images", venv)
    ingredients = [Path(__file__).read_text(), Path(debian.__file__).read_text(), offered.name, prepare.SALT]
    ingredients += [path.read_text() for path in sorted(PARTS.iterdir())]
    where = folder / f"{debian.suite()}-{kind}-{hashlib.sha256(''.join(ingredients).encode()).hexdigest()[:10]}"
    box = where / f"salt-rbd-{kind}.box"
    if box.exists():
        # Written last.
        os.utime(where)
        return box
    with locked(folder / f"{where.name}.lock", f"the box {where.name}"):
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True, mode=0o700)
        with Step(f"install Debian {debian.suite()} for the box"):
            debian.install(where / "root", _packages(kind))
        with Step("put Salt, packages and wheels into it"):
            _configure(where, offered)
        with Step(f"make the box for {kind}"):
            (_lxc if kind == "lxc" else _libvirt)(where)
            shutil.rmtree(where / "root")
            _pack(where, box)
    return box


def _packages(kind):
    return f"{node_image.SYSTEM} {node_image.PYTHON} {VAGRANT} {KERNEL if kind == 'libvirt' else ''}".split()


def _configure(where, offered):
    root = where / "root"
    node_image.configure(root, offered / "packages")
    for name in ("packages", "wheels"):
        shutil.copytree(offered / name, root / "srv/lab" / name, dirs_exist_ok=True)
    drop_in = root / "etc/systemd/system/ssh.service.d"
    drop_in.mkdir(parents=True)
    (drop_in / "host-keys.conf").write_text(HOST_KEYS)
    run(["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-m", "PEM", "-N", "", "-C", "vagrant", "-f", where / "id_rsa"])
    (where / "id_rsa.pub").rename(root / "root/box.pub")
    nspawn = ["systemd-nspawn", "--quiet", f"--directory={root}", "--keep-unit", "--register=no", "--resolv-conf=off"]
    run([*nspawn, "sh", "-c", INSIDE.format(salt=prepare.SALT)], timeout=1800)


def _lxc(where):
    # vagrant-lxc takes two folders off the names.
    run(["tar", "--numeric-owner", "--xattrs", "-I", "gzip -1", "-cf", where / "rootfs.tar.gz", "-C", where, "./root"], timeout=1800)
    shutil.copy(PARTS / "lxc-config", where)
    (where / "metadata.json").write_text(json.dumps({"provider": "lxc", "version": "1.0.0"}) + "\n")


def _libvirt(where):
    root, disk = where / "root", where / "disk.raw"
    (root / "etc/fstab").write_text(f"LABEL={LABEL} / ext4 errors=remount-ro 0 1\n")
    # A container has its address from lxc, and networkd would take it away.
    (root / "etc/systemd/network/99-dhcp.network").write_text(DHCP)
    (root / "boot/grub").mkdir(exist_ok=True)
    (root / "boot/grub/grub.cfg").write_text(GRUB_CONFIG)
    # No loop device and no mount: the filesystem is made in its place of the disk, grub is laid before it.
    with open(disk, "wb") as new:
        new.truncate(DISK_MIB * 2**20)
    run(["sfdisk", "--quiet", "--no-tell-kernel", disk], stdin_text=f"label: dos\nstart={FIRST_SECTOR}, type=83, bootable\n")
    offset = FIRST_SECTOR * 512
    size = DISK_MIB - offset // 2**20
    # What Debian 12's grub cannot read is left out.
    features = ["-O", "^metadata_csum_seed,^orphan_file"]
    run(["mke2fs", "-q", "-t", "ext4", *features, "-L", LABEL, "-E", f"offset={offset}", "-d", root, disk, f"{size}M"], timeout=1800)
    _grub(where, disk)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, where / "box.img"], timeout=1800)
    disk.unlink()
    about = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_MIB // 1024}
    (where / "metadata.json").write_text(json.dumps(about) + "\n")


def _grub(where, disk):
    """Lay grub into the first sectors, as its own installer does with a disk: boot.img loads the sectors after it, which are core.img."""
    if not GRUB.is_dir():
        raise LabError("The package grub-pc-bin is not installed; ./lab box libvirt, which installs it, is how a box is built.")
    core = where / "core.img"
    run(["grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", core, *GRUB_MODULES.split()])
    boot = (GRUB / "boot.img").read_bytes()
    if 512 + core.stat().st_size > FIRST_SECTOR * 512:
        raise LabError(f"Grub ({core.stat().st_size} bytes) has no room before the disk's partition.")
    with open(disk, "r+b") as raw:
        # The partition table begins at byte 440.
        raw.write(boot[:440])
        raw.seek(512)
        raw.write(core.read_bytes())
    core.unlink()


def _pack(where, box):
    (where / "Vagrantfile").write_text((PARTS / "Vagrantfile").read_text())
    parts = sorted(path.name for path in where.iterdir())
    unfinished = where / "unfinished"
    run(["tar", "--numeric-owner", "--sparse", "-cf", unfinished, "-C", where, *parts], timeout=1800)
    for name in parts:
        (where / name).unlink()
    unfinished.rename(box)
