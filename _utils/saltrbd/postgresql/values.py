"""Values of PostgreSQL's settings: written into its file, read from it, and compared with what a server says."""

import re

from saltrbd.errors import quoted

HEADER = "# Managed by Salt (salt/postgresql); what is changed here is changed back.\n"

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")
_LINE = re.compile(r"([a-z_][a-z0-9_.]*) = '((?:[^']|'')*)'")
_AMOUNT = re.compile(r"(-?[0-9.]+)\s*([A-Za-z]*)")
_TRUE, _FALSE = ("on", "true", "yes", "1"), ("off", "false", "no", "0")

# In bytes and in microseconds.
_UNITS = {"B": 1, "kB": 1024, "8kB": 8192, "16MB": 16 << 20, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_UNITS.update({"us": 1, "ms": 10**3, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6})


def text(value):
    """Return a value of the pillar as the text that stands in the file."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def mistake(key, value):
    """Return what is wrong with a setting of the pillar, or an empty text."""
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        return "{} is no name of a setting".format(quoted(key))
    plain = isinstance(value, (bool, int, float, str)) or (isinstance(value, list) and all(isinstance(item, (str, int)) for item in value))
    if not plain or not text(value).isprintable() or "\\" in text(value):
        return "{} must be one line of text, a number or yes or no, not {}".format(key, quoted(value))
    return ""


def file(settings):
    """Return the text of postgresql.conf."""
    rows = ["{} = '{}'".format(key, settings[key].replace("'", "''")) for key in sorted(settings)]
    return HEADER + "\n".join(rows) + "\n"


def read(content):
    """Return the settings of a file that ``file`` made, or None for one that is not Salt's."""
    if not content.startswith(HEADER):
        return None
    found = (_LINE.fullmatch(line) for line in content.splitlines())
    return {match.group(1): match.group(2).replace("''", "'") for match in found if match}


def same(live, wanted):
    """Return whether a row of pg_settings (setting, unit, vartype, context) has the wanted text."""
    setting, kind = live["setting"], live["vartype"]
    if kind == "bool":
        return (setting == "on") == (wanted.lower() in _TRUE) and wanted.lower() in _TRUE + _FALSE
    if kind in ("integer", "real"):
        return _amount(wanted, live["unit"]) == _amount(setting, live["unit"])
    if kind == "enum":
        return setting.lower() == wanted.lower() or _alias(setting) == _alias(wanted)
    if live["context"] == "postmaster":
        return _words(setting) == _words(wanted)
    # A server completes some: dmy reads back as ISO, DMY.
    return setting == wanted or set(_words(wanted)) <= set(_words(setting))


def _alias(value):
    value = value.lower()
    return "on" if value in _TRUE else "off" if value in _FALSE else value


def _words(value):
    """A list of names reads the same whether or not they stand in quotes, and whatever spaces and case are."""
    return [part.strip().strip('"').lower() for part in value.split(",")]


def _amount(value, unit):
    match = _AMOUNT.fullmatch(value.strip())
    if not match:
        return value
    amount = float(match.group(1))
    own = _UNITS.get(unit or "", 1)
    # A bare number counts in the setting's own unit.
    factor = _UNITS.get(match.group(2)) if match.group(2) else own
    if factor is None or amount < 0:
        return amount
    return round(amount * factor / own)
