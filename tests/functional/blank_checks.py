"""What the tests of blankness share: the tools that put something on a device, and what may be on it."""

import os
import shutil
import struct
import subprocess

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"
MB = 1 << 20


def tool(*argv, **more):
    path = shutil.which(argv[0], path=TOOLS)
    assert path, f"{argv[0]} is not installed"
    return subprocess.run([path, *map(str, argv[1:])], check=True, timeout=60, capture_output=True, **more).stdout


def write(device, offset, data):
    with open(device, "r+b", buffering=0) as file:
        file.seek(offset)
        file.write(data)
        os.fsync(file.fileno())


def size_of(device):
    return int(tool("blockdev", "--getsize64", device))


def zfs(device):
    """No tool without ZFS in the kernel makes a pool. The four labels' uberblocks are written by hand: blkid takes them."""
    for label in (0, 256 << 10, size_of(device) - (512 << 10), size_of(device) - (256 << 10)):
        for slot in range(8):
            write(device, label + (128 << 10) + slot * 1024, struct.pack("<QQQQ", 0x00BAB10C, 5000, 4 + slot, 1))


def mdraid(device):
    """mdadm makes an array only with the kernel's md. A superblock of version 1.2 is written by hand, 4 KiB from the start."""
    block = struct.pack("<4I16s32sQ2I3Q", 0xA92B4EFC, 1, 0, 0, b"u" * 16, b"host:0", 0, 1, 0, 0, 0, 2)
    block = block.ljust(128, b"\0") + struct.pack("<3Q", 2048, size_of(device) // 512 - 2048, 8)
    write(device, 4096, block.ljust(256, b"\0"))


def lvm(device):
    tool("pvcreate", "--config", 'devices { use_devicesfile=0 types=["loop",16] scan="/dev" } global { locking_type=0 }', "-y", device)


def luks(version):
    words = ["--type", version, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--batch-mode", "--key-file", "-"]
    words = [word for word in words if version == "luks2" or word not in ("--pbkdf", "pbkdf2")]
    return lambda device: tool("cryptsetup", "luksFormat", *words, device, input=b"secret")


# Each with what blkid calls it, the size of the image, and the real tool that makes it.
SIGNATURES = {
    "ext4 where xfs is wanted": ("ext4", "64M", lambda device: tool("mkfs.ext4", "-q", device)),
    "xfs": ("xfs", "320M", lambda device: tool("mkfs.xfs", "-q", device)),
    "btrfs": ("btrfs", "128M", lambda device: tool("mkfs.btrfs", "-q", device)),
    "swap": ("swap", "64M", lambda device: tool("mkswap", device)),
    "LVM": ("LVM2_member", "64M", lvm),
    "LUKS1": ("crypto_LUKS", "64M", luks("luks1")),
    "LUKS2": ("crypto_LUKS", "64M", luks("luks2")),
    "MBR": ("dos", "64M", lambda device: tool("sfdisk", "--label", "dos", device, input=b"2048,,83\n")),
    "GPT": ("gpt", "64M", lambda device: tool("sgdisk", "--new=1:2048:0", device)),
    "mdraid": ("linux_raid_member", "64M", mdraid),
    "bcache": ("bcache", "64M", lambda device: tool("make-bcache", "-B", device)),
    "ZFS": ("zfs_member", "64M", zfs),
}
