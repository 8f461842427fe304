"""What the superblock of an ext4 or xfs tells: its size, whether its log waits to be replayed, whether it was ever mounted."""

import errno
import fcntl
import os
import struct
import uuid
from collections import namedtuple

from saltrbd.run import run

LENGTH = 4096
# Bytes of the superblocks themselves; xfs's lies in one sector, which has 512 at least (XFS_MIN_SECTORSIZE).
_EXT4_LENGTH, _XFS_LENGTH = 1024, 512
# The largest blocks are 64 KiB: ext4 has its size as the power of two above 1 KiB (EXT4_MAX_BLOCK_LOG_SIZE is 16), xfs
# (XFS_MIN_BLOCKSIZE, XFS_MAX_BLOCKSIZE) in bytes, 512 at least.
_EXT4_LARGEST, _XFS_BLOCKS = 6, [1 << power for power in range(9, 17)]
# The kernel counts bytes in 63 bits; whatever claims more is no filesystem.
_MOST = 1 << 63

# ``size`` is in bytes. ``replay``: a journal waits to be replayed by the next mount (xfs does not say). ``used``: it was mounted
# since it was made.
Superblock = namedtuple("Superblock", "fs_type uuid label size replay used")


def parse(data):
    """Return the :class:`Superblock` in the first 4096 bytes of a device, or None where there is neither ext4 nor xfs.

    None too for one that is cut off, or whose sizes no ext4 or xfs has.
    """
    if data[1080:1082] == b"\x53\xef":
        return _ext4(data[1024:2048])
    if data[:4] == b"XFSB":
        return _xfs(data)
    return None


def _ext4(data):
    if len(data) < _EXT4_LENGTH:
        return None
    blocks, power = struct.unpack_from("<I", data, 4)[0], struct.unpack_from("<I", data, 24)[0]
    if power > _EXT4_LARGEST:
        return None
    incompatible = struct.unpack_from("<I", data, 96)[0]
    if incompatible & 0x80:  # 64bit
        blocks |= struct.unpack_from("<I", data, 336)[0] << 32
    size = blocks * (1024 << power)
    if size >= _MOST:
        return None
    mounted_at, mounts = struct.unpack_from("<I", data, 44)[0], struct.unpack_from("<H", data, 52)[0]
    replay = bool(incompatible & 0x4)
    used = bool(mounted_at or mounts or replay)
    return Superblock("ext4", _uuid(data[104:120]), _text(data[120:136]), size, replay, used)


def _xfs(data):
    if len(data) < _XFS_LENGTH:
        return None
    block_size, blocks = struct.unpack_from(">IQ", data, 4)
    if block_size not in _XFS_BLOCKS or block_size * blocks >= _MOST:
        return None
    # mkfs writes no log sequence number into the superblock; the kernel does at the first unmount.
    used = bool(struct.unpack_from(">Q", data, 240)[0])
    return Superblock("xfs", _uuid(data[32:48]), _text(data[108:120]), blocks * block_size, None, used)


def _uuid(raw):
    return str(uuid.UUID(bytes=raw))


def _text(raw):
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def read(device, limit):
    """Return the :class:`Superblock` on a device, or None; raises :class:`CommandTimeout` when it cannot be read in time."""
    data = _cached(device)
    if data is None:
        words = run(["od", "-An", "-v", "-tx1", "-N", str(LENGTH), device], limit).out.split()
        data = bytes(int(word, 16) for word in words).ljust(LENGTH, b"\0")
    return parse(data)


def _cached(device):
    """Return the bytes if they are in memory, as those of a mounted ext4 mostly are: this never waits for the storage."""
    buffer = bytearray(LENGTH)
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.preadv(descriptor, [buffer], 0, os.RWF_NOWAIT) == LENGTH:
            return bytes(buffer)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO):
            raise
    finally:
        os.close(descriptor)
    return None


# ioctls of a mounted filesystem: they answer from memory. linux/fs.h, xfs_fs.h.
_GETFSLABEL = 0x81009431
_XFS_GEOMETRY = 0x80705864


def of_mounted(device, mount, limit):
    """Return {"label", "uuid", "size"} of a mounted ext4 or xfs, as far as the kernel tells."""
    if mount.fs_type == "ext4":
        found = read(device, limit)
        return {"label": found.label, "uuid": found.uuid, "size": found.size} if found else {}
    if mount.fs_type != "xfs":
        return {}
    descriptor = os.open(mount.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        number = os.fstat(descriptor).st_dev
        if "{}:{}".format(os.major(number), os.minor(number)) != mount.device:
            return {}  # something else is mounted over it
        geometry, label = bytearray(112), bytearray(256)
        fcntl.ioctl(descriptor, _XFS_GEOMETRY, geometry)
        fcntl.ioctl(descriptor, _GETFSLABEL, label)
    finally:
        os.close(descriptor)
    block_size, blocks = struct.unpack_from("=I", geometry)[0], struct.unpack_from("=Q", geometry, 32)[0]
    return {"label": _text(label), "uuid": _uuid(bytes(geometry[64:80])), "size": block_size * blocks}
