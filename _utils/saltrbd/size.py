"""The one parser for sizes: bytes inside, ``10G`` outside, binary units as the rbd command has them."""

import re

from saltrbd.errors import InvalidSize, quoted

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_SIZE = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,6}))?\s*(?:([KMGTPE])(?:I?B)?|B)?", re.IGNORECASE | re.ASCII)
# librbd counts bytes in an unsigned 64-bit number, the kernel's block layer in a signed one.
MAX_BYTES = 2**63 - 1


def parse(value, what="size"):
    """Return ``value`` in bytes.

    A number is bytes; text is a number with an optional unit K, M, G, T, P or E (powers of 1024; ``10G``, ``10GiB`` and
    ``10gb`` are the same). Raises :class:`InvalidSize` for all else, for less than one byte and for a part of a byte.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidSize("The {} must be a size such as 512M or 10G, not {}.".format(what, quoted(value)))
    if isinstance(value, int):
        return _within(value, value, what)
    match = _SIZE.fullmatch(value.strip())
    if not match:
        raise InvalidSize("The {} {} is not a size such as 512M or 10G.".format(what, quoted(value)))
    whole, fraction, unit = match.groups()
    factor = 1024 ** _UNITS[(unit or "").upper()]
    number = int(whole) * factor
    if fraction:
        part, rest = divmod(int(fraction) * factor, 10 ** len(fraction))
        if rest:
            raise InvalidSize("The {} {} is not a whole number of bytes.".format(what, quoted(value)))
        number += part
    return _within(number, value, what)


def _within(number, value, what):
    if number < 1:
        raise InvalidSize("The {} {} is less than one byte.".format(what, quoted(value)))
    if number > MAX_BYTES:
        raise InvalidSize("The {} {} is more than 8 EiB.".format(what, quoted(value)))
    return number


def show(number):
    """Return bytes as text in the largest unit that divides them: ``show(536870912) == "512M"``."""
    for unit in "EPTGMK":
        factor = 1024 ** _UNITS[unit]
        if number and number % factor == 0:
            return "{}{}".format(number // factor, unit)
    return "{}B".format(number) if number else "0"
