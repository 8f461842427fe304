"""LUKS: the header of an image, the mark of a header that this package wrote, and the passphrase from the pillar.

librbd writes the header into the image itself, so that krbd with dm-crypt, rbd-nbd and qemu-storage-daemon open the same image.
The mark in the image's metadata tells the id of the image (a clone has its parent's metadata), the format, the time, and the
header's UUID once it was written: without a UUID a format was cut off.
"""

import base64
import json
import struct
from collections import namedtuple

from saltrbd import errors

FORMATS = ("luks1", "luks2")
MARK = "saltrbd.luks"
_MAGIC = b"LUKS\xba\xbe"
# Bytes read for a header; LUKS2 may have larger ones (4 MiB, docs/on-disk-format-luks2.pdf), which neither librbd nor cryptsetup
# makes by default (16 KiB).
LENGTH = 64 << 10
# LUKS_PHDR_SIZE of LUKS1, and the binary part of a LUKS2 header, whose JSON follows.
_LUKS1_LENGTH, _LUKS2_BINARY = 592, 4096
# What libcryptsetup keeps free before the data by default: 16 MiB in LUKS2, 2 MiB in LUKS1; librbd rounds it up to whole objects.
_RESERVED = {"luks1": 2 << 20, "luks2": 16 << 20}
# cryptsetup(8) reads 512 bytes of an interactive passphrase; what is longer could not be typed by whoever has to mend things.
_LONGEST = 512

# Why no filesystem is made behind a header: see :func:`is_ours`.
FOREIGN = "its LUKS header is none that rbd_encryption.formatted wrote for this image"

# ``offset``: the byte of the image at which the data begins.
Header = namedtuple("Header", "format uuid offset")
Mark = namedtuple("Mark", "format uuid time")
# What a declaration says: the format, and the keys that lead to the passphrase in the pillar. No secret is in it.
Wanted = namedtuple("Wanted", "format pillar")


class Key(namedtuple("Key", "format pillar passphrase")):
    """A :class:`Wanted` with its passphrase, which no message shows."""

    __slots__ = ()

    def __repr__(self):
        return "Key({!r}, {!r})".format(self.format, self.pillar)

    __str__ = __repr__

    def argument(self):
        """Return what the worker takes as ``encryption``."""
        return {"format": self.format, "passphrase": self.passphrase}


def desired(encryption):
    """Return the checked :class:`Wanted` of an argument ``encryption``, None for None; raises :class:`InvalidArgument`.

    The argument is a mapping: ``format`` (luks1, luks2; luks2 where none is given) and ``pillar``, where the passphrase stands:
    text with colons, or a list of keys.
    """
    if encryption is None:
        return None
    if not hasattr(encryption, "items") or set(encryption) - {"format", "pillar"} or "pillar" not in encryption:
        # Not shown: it may be a passphrase that went astray.
        raise errors.InvalidArgument("encryption must be a mapping of format and pillar, where the passphrase stands in the pillar.")
    path = encryption["pillar"]
    path = tuple(path.split(":")) if isinstance(path, str) else path
    if not isinstance(path, (list, tuple)) or not path or not all(isinstance(key, str) and key for key in path):
        raise errors.InvalidArgument("encryption: pillar must be text such as keys:volume, or a list of keys.")
    return Wanted(check_format(encryption.get("format", "luks2")), tuple(path))


def check_format(value):
    """Return the format if it is one, else raise :class:`InvalidArgument`. What is wrong is not shown: a passphrase may have got there."""
    if value not in FORMATS:
        raise errors.InvalidArgument("The encryption's format must be {}.".format(" or ".join(FORMATS)))
    return value


def reference(wanted):
    """Return the argument ``encryption`` of a :class:`Wanted` or :class:`Key`, None for None."""
    return wanted and {"format": wanted.format, "pillar": list(wanted.pillar)}


def key(encryption, pillar):
    """Return the :class:`Key` for an argument ``encryption`` with its passphrase from the pillar, None for None.

    Raises :class:`InvalidArgument`, and :class:`InvalidPillar` where there is no passphrase or none that can be one; a place that the
    pillar does not have at all is not shown: it may be the passphrase itself.
    """
    wanted = desired(encryption)
    if wanted is None:
        return None
    found = pillar
    for step in wanted.pillar:
        found = found.get(step) if hasattr(found, "get") else None
    try:
        return Key(wanted.format, wanted.pillar, check_passphrase(found))
    except errors.InvalidArgument as error:
        there = hasattr(pillar, "get") and wanted.pillar[0] in pillar
        place = "The pillar " + ":".join(wanted.pillar) if there else "What encryption: pillar names is not in the pillar"
        raise errors.InvalidPillar("{}: {}".format(place, error))


def check_passphrase(value):
    """Return the passphrase if it can be one; the error does not show it."""
    if not isinstance(value, str) or not value:
        raise errors.InvalidArgument("the passphrase is missing, or is no text.")
    if not value.isprintable() or len(value.encode("utf-8")) > _LONGEST:
        raise errors.InvalidArgument("the passphrase must be one line of at most {} bytes of text.".format(_LONGEST))
    return str(value)


def parse(data):
    """Return the :class:`Header` in the first bytes of an image, None where there is none that makes sense; pure."""
    if data[:6] != _MAGIC or len(data) < _LUKS1_LENGTH:
        return None
    version, uuid = struct.unpack_from(">H", data, 6)[0], data[168:208].rstrip(b"\0").decode("ascii", "replace")
    if version == 1:
        return Header("luks1", uuid, struct.unpack_from(">I", data, 104)[0] * 512)
    size = struct.unpack_from(">Q", data, 8)[0]
    if version != 2 or not _LUKS2_BINARY < size <= len(data):
        return None
    try:
        areas = json.loads(data[_LUKS2_BINARY:size].rstrip(b"\0").decode("utf-8"))["segments"]
        return Header("luks2", uuid, min(int(area["offset"]) for area in areas.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read(ceph, spec, size, image_id=None):
    """Return the :class:`Header` of an image or snapshot of ``size`` bytes, None where there is none; ``image_id``: in the trash."""
    found = ceph.call("image_read", spec, offset=0, length=min(LENGTH, size), image_id=image_id)
    data = bytearray(min(LENGTH, size))
    for offset, block in found:
        block = base64.b64decode(block)
        data[offset : offset + len(block)] = block
    return parse(bytes(data))


def offset_of(ceph, mapping, size):
    """Return how many of the image's ``size`` bytes lie before what a mapping's device shows: those of the LUKS header it opened.

    Raises :class:`StaleMapping` where the header is gone.
    """
    if not mapping.encryption:
        return 0
    header = read(ceph, mapping.spec, size)
    if header is None:
        raise errors.StaleMapping("{} is mapped by its LUKS header, which is not there any more.".format(mapping.spec))
    return header.offset


def offset_for(kind, object_size):
    """Return where the data begins behind a header that librbd will write; pure."""
    return -(-_RESERVED[kind] // object_size) * object_size


def mark_of(image):
    """Return the :class:`Mark` in an image's facts, or None: this package wrote a header there, or began to (no UUID)."""
    try:
        told = json.loads(image["metadata"].get(MARK) or "null")
        if told["image"] != image["id"]:
            return None
        return Mark(str(told["format"]), str(told["uuid"] or ""), int(told["time"]))
    except (ValueError, TypeError, KeyError):
        return None


def is_ours(header, mark):
    """Tell whether this package wrote a header into that very image: the :class:`Mark` in the image tells the header's UUID; pure."""
    return bool(header and mark and mark.uuid and header.uuid == mark.uuid)


def mark_text(image_id, kind, uuid, now):
    """Return the text of a mark."""
    return json.dumps({"image": image_id, "format": kind, "uuid": uuid, "time": now}, sort_keys=True)
