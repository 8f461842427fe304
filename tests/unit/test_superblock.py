"""Superblocks, signatures and checks of filesystems, of real ones and of garbage."""

import shutil
import struct
import subprocess

import pytest
from saltrbd import fscheck, signature, superblock

UUID = "6df182a0-b2b2-45f6-bf7a-978f48d9af32"


@pytest.fixture
def disk(tmp_path):
    """A file of 320 MiB that mkfs takes for a device."""
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(320 << 20)
    return path


def make(fs_type, path, *words):
    tool = shutil.which("mkfs." + fs_type, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if tool is None:
        pytest.fail(f"mkfs.{fs_type} is not installed")
    subprocess.run([tool, "-q", *words, path], check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize(("fs_type", "words"), [("ext4", ["-U", UUID, "-L", "lab"]), ("xfs", ["-m", "uuid=" + UUID, "-L", "lab"])])
def test_the_superblock_of_a_new_filesystem(fs_type, words, disk):
    make(fs_type, disk, *words)
    found = superblock.read(str(disk), 10)
    assert found[:4] == (fs_type, UUID, "lab", 320 << 20)
    assert not (found.replay or found.used)
    told = signature.probe(str(disk), 10)
    assert told == (fs_type, "lab", UUID, fs_type)
    assert fscheck.check(str(disk), fs_type, 60, full=True) == ("clean", "")


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_damage_is_told_from_a_journal_to_replay(fs_type, disk):
    make(fs_type, disk)
    with disk.open("r+b") as file:
        if fs_type == "xfs":
            file.seek(4096 * 3)  # the first allocation group's free space trees and inode tree
            file.write(b"\xff" * 4096 * 4)
        else:
            file.seek(4096)
            file.write(b"\xff" * 4096)  # the group descriptors
    found = fscheck.check(str(disk), fs_type, 60, full=True)
    assert found.state == "damaged" and "ended with code" in found.text
    if fs_type == "ext4":
        with disk.open("r+b") as file:
            file.seek(1024 + 96)
            incompatible = int.from_bytes(file.read(4), "little")
            file.seek(1024 + 96)
            file.write((incompatible | 4).to_bytes(4, "little"))
        assert superblock.read(str(disk), 10).replay


def test_no_superblock_and_no_signature(disk):
    assert superblock.read(str(disk), 10) is None
    assert signature.probe(str(disk), 10) is None
    assert superblock.parse(bytes(4096)) is None


def ext4_block(log=2, blocks=81920, incompatible=0, high=0):
    """A superblock by hand, as mke2fs(8) and the kernel's documentation of ext4 lay it out."""
    data = bytearray(4096)
    struct.pack_into("<I", data, 1024 + 4, blocks)
    struct.pack_into("<I", data, 1024 + 24, log)
    data[1080:1082] = b"\x53\xef"
    struct.pack_into("<I", data, 1024 + 96, incompatible)
    struct.pack_into("<I", data, 1024 + 336, high)
    return bytes(data)


def xfs_block(block_size=4096, blocks=81920):
    return struct.pack(">4sIQ", b"XFSB", block_size, blocks).ljust(4096, b"\0")


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (ext4_block(), 320 << 20),
        (ext4_block(log=0), 80 << 20),
        (ext4_block(log=6), 81920 * 65536),  # the largest block, 64 KiB
        (ext4_block(log=7), None),
        (ext4_block(log=31), None),
        (ext4_block(log=0xFFFFFFFF), None),
        (ext4_block(incompatible=0x80, high=1), (1 << 32 | 81920) * 4096),
        (ext4_block(incompatible=0x80, high=0xFFFFFFFF, blocks=0xFFFFFFFF), None),  # beyond what a file's offset can say
        (ext4_block()[:2048], 320 << 20),
        (ext4_block()[:2047], None),
        (ext4_block()[:1082], None),
        (ext4_block(incompatible=0x80)[:1300], None),
        (ext4_block()[:1081], None),
        (xfs_block(), 320 << 20),
        (xfs_block(512), 40 << 20),
        (xfs_block(65536), 81920 * 65536),
        (xfs_block(0), None),
        (xfs_block(256), None),
        (xfs_block(4097), None),
        (xfs_block(131072), None),
        (xfs_block(0xFFFFFFFF), None),
        (xfs_block(blocks=(1 << 64) - 1), None),
        (xfs_block()[:512], 320 << 20),
        (xfs_block()[:511], None),
        (xfs_block()[:12], None),
        (xfs_block()[:4], None),
        (b"", None),
    ],
)
def test_garbage_is_no_superblock(data, size):
    found = superblock.parse(data)
    assert (found.size if found else None) == size


def test_a_partition_table_is_told(disk):
    with disk.open("r+b") as file:
        file.seek(446)
        file.write(bytes([0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]))
        file.seek(510)
        file.write(b"\x55\xaa")
    assert signature.probe(str(disk), 10).text == "a partition table (dos)"
