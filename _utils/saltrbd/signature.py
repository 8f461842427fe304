"""Which content a device or an image shows: filesystem, partition table, LVM, LUKS and the like, as blkid knows them."""

import base64
import os
import tempfile
from collections import namedtuple

from saltrbd import errors
from saltrbd.run import run

# Bytes at both ends of an image that hold every signature that blkid knows (ZFS: 512 KiB at each end).
ENDS = 512 << 10

# ``kind``: blkid's TYPE ("ext4", "LVM2_member", ...), or "dos", "gpt" for a partition table, "" where several compete.
Signature = namedtuple("Signature", "kind label uuid text")


def probe(path, limit):
    """Return the :class:`Signature` on a device or file, or None where blkid finds none.

    None is no proof of anything: blkid says the same of a device that it cannot read.
    """
    result = run(["blkid", "-p", "-o", "export", path], limit, ok=(0, 2, 8))
    if result.code == 8:
        return Signature("", "", "", "several signatures at once")
    values = dict(line.partition("=")[::2] for line in result.out.splitlines())
    if "TYPE" in values:
        text = values["TYPE"] if values.get("USAGE") == "filesystem" else "{} ({})".format(values["TYPE"], values.get("USAGE"))
        return Signature(values["TYPE"], _plain(values.get("LABEL", "")), values.get("UUID", ""), text)
    if "PTTYPE" in values:
        return Signature(values["PTTYPE"], "", "", "a partition table ({})".format(values["PTTYPE"]))
    return None


def _plain(text):
    """blkid writes a backslash before what a shell would touch."""
    out, after = [], False
    for char in text:
        if char == "\\" and not after:
            after = True
            continue
        out.append(char)
        after = False
    return "".join(out)


def probe_image(ceph, spec, size, image_id=None):
    """Return (:class:`Signature` or None, first bytes) of an image that is not mapped here, read through librbd.

    ``image_id``: of an image in the trash.
    """
    length = min(ENDS, size)
    places = [0] if size <= ENDS else [0, size - length]
    answers = ceph.batch([("image_read", dict(spec.where(), offset=offset, length=length, image_id=image_id)) for offset in places])
    with tempfile.NamedTemporaryFile(prefix="saltrbd-") as file:
        return _probe_file(ceph, spec, size, [block for answer in answers for block in answer.get()], file, tempfile.gettempdir())


def probe_blocks(ceph, spec, size, blocks):
    """Return what :func:`probe_image` does, for blocks that were read before; plain text of an encrypted image stays in memory."""
    with os.fdopen(os.memfd_create("ends", os.MFD_CLOEXEC), "w+b") as file:
        return _probe_file(ceph, spec, size, blocks, file, "memory")


def _probe_file(ceph, spec, size, blocks, file, where):
    try:
        file.truncate(size)
    except OSError:
        raise errors.NotSupported(
            "{} cannot be looked at before it is mapped: {} takes no sparse file of {} bytes.".format(spec, where, size)
        )
    for offset, block in blocks:
        file.seek(offset)
        file.write(base64.b64decode(block))
    file.flush()
    path = "/proc/{}/fd/{}".format(os.getpid(), file.fileno())
    return probe(path, ceph.settings.timeout), os.pread(file.fileno(), 4096, 0)
