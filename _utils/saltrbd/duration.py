"""The one parser for spans of time: seconds inside, ``7d`` outside."""

import re

from saltrbd.errors import InvalidArgument, quoted

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([0-9]{1,12})\s*([smhdw]?)", re.ASCII)
# 68 years; librbd adds a span to the time of now.
MAX_SECONDS = 2**31 - 1


def parse(value, what="delay"):
    """Return ``value`` in seconds.

    A number is seconds; text is a whole number with an optional unit: s, m (minutes), h, d, w. Raises :class:`InvalidArgument` for all
    else, for less than nothing and for more than 68 years. Example: ``parse("7d") == 604800``.
    """
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        value = int(match.group(1)) * _UNITS[match.group(2) or "s"]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgument("The {} must be seconds, 0 or more, or text such as 12h or 7d, not {}.".format(what, quoted(value)))
    if value > MAX_SECONDS:
        raise InvalidArgument("The {} {} is more than {}.".format(what, quoted(value), show(MAX_SECONDS // 86400 * 86400)))
    return value


def show(seconds):
    """Return seconds as text in the largest unit that divides them: ``show(604800) == "1w"``."""
    for unit in "wdhm":
        if seconds and seconds % _UNITS[unit] == 0:
            return "{}{}".format(seconds // _UNITS[unit], unit)
    return "{}s".format(seconds)
