"""What a declaration may say to mkfs: type, label, options. Nothing that forces, and nothing that names another device."""

from collections import namedtuple

from saltrbd import errors

FS_TYPES = ("ext4", "xfs")
# Bytes that a label has room for: mke2fs(8), mkfs.xfs(8).
LABEL_BYTES = {"ext4": 16, "xfs": 12}
# Each option takes a value; what it may not hold is set by this package, writes elsewhere, or only pretends.
_OPTIONS = {
    "ext4": {
        "-b": (),
        "-C": (),
        "-E": ("offset", "discard", "nodiscard", "assume_storage_prezeroed", "test_fs", "lazy_itable_init", "lazy_journal_init"),
        "-e": (),
        "-g": (),
        "-G": (),
        "-i": (),
        "-I": (),
        "-J": ("device", "location"),
        "-m": (),
        "-N": (),
        "-O": ("journal_dev",),
        "-T": (),
    },
    "xfs": {
        "-b": (),
        "-d": ("file", "name"),
        "-i": (),
        "-l": ("logdev", "file", "name", "internal"),
        "-m": ("uuid",),
        "-n": (),
        "-r": ("rtdev", "file", "name"),
        "-s": (),
    },
}

Wanted = namedtuple("Wanted", "fs_type label options")


def desired(settings, fs_type=None, label=None, mkfs_options=None):
    """Return the checked :class:`Wanted`; raises :class:`InvalidArgument`.

    ``mkfs_options`` is a list of words such as ``["-m", 0, "-E", "stride=16"]``; they become pairs (option, value).
    """
    kind = check_type(fs_type or settings.fs_type)
    return Wanted(kind, check_label(kind, label), _pairs(kind, mkfs_options))


def check_type(fs_type):
    """Return the filesystem type if this package makes it, else raise :class:`InvalidArgument`."""
    if fs_type not in FS_TYPES:
        raise errors.InvalidArgument("The fs_type must be {}, not {!r}.".format(" or ".join(FS_TYPES), fs_type))
    return fs_type


def check_label(fs_type, label):
    """Return the label (None: not declared, "": none) if the filesystem can carry it, else raise :class:`InvalidArgument`."""
    if label is None:
        return None
    if not isinstance(label, str) or not label.isprintable() or label.startswith("-") or any(char in label for char in " \"\\/'"):
        raise errors.InvalidArgument(
            "The label {!r} must be printable text without blanks, quotes and slashes, and must not begin with '-'.".format(label)
        )
    if len(label.encode("utf-8")) > LABEL_BYTES[fs_type]:
        raise errors.InvalidArgument("The label {!r} is longer than the {} bytes of {}.".format(label, LABEL_BYTES[fs_type], fs_type))
    return label


def _pairs(fs_type, words):
    if words is None:
        return ()
    if not isinstance(words, (list, tuple)):
        raise errors.InvalidArgument("mkfs_options must be a list of words such as ['-m', '0'], not {!r}.".format(words))
    if any(isinstance(word, bool) or not isinstance(word, (str, int, float)) for word in words):
        raise errors.InvalidArgument("mkfs_options must be words, not {!r}.".format(words))
    pairs, rest = [], [str(word) for word in words]
    while rest:
        option, value = rest[0][:2], rest[0][2:]
        rest = rest[1:]
        if option not in _OPTIONS[fs_type]:
            raise errors.InvalidArgument(
                "mkfs_options: {!r} is not an option that mkfs.{} may be given here; it may be given {}.".format(
                    option, fs_type, ", ".join(sorted(_OPTIONS[fs_type]))
                )
            )
        if not value:
            if not rest:
                raise errors.InvalidArgument("mkfs_options: {} lacks its value.".format(option))
            value, rest = rest[0], rest[1:]
        _check_value(fs_type, option, value)
        pairs.append((option, value))
    return tuple(pairs)


def _check_value(fs_type, option, value):
    if not value or value.startswith("-") or not value.isprintable() or " " in value or "/" in value:
        raise errors.InvalidArgument("mkfs_options: {!r} is not a value for {}.".format(value, option))
    for part in value.split(","):
        if part.partition("=")[0].lstrip("^") in _OPTIONS[fs_type][option]:
            raise errors.InvalidArgument("mkfs_options: {} may not be given {!r}.".format(option, part))
