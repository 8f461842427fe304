"""What a document of the table may say: JSON schemas (draft 7), checked by the library jsonschema, every defect with its JSON path.

The sentences are made here: the library's own show the value that is wrong, which may be a password. ``writeOnly`` marks what is secret,
for :mod:`saltplatform.shown` too.
"""

import ipaddress
import re

from saltrbd.errors import quoted

from saltplatform.errors import InvalidDocument

try:
    import jsonschema
except ImportError:  # Salt's own Python may lack it; the execution module then does not load, and says how to get it
    jsonschema = None

# The types of rows that this package knows to render.
TYPES = ("rbd", "mail")

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?")
_URL = re.compile(r"https?://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:@?#\s\[\]]+)(:(?P<port>[0-9]+))?(/[^\s@?#]*)?")
_ADDRESS = re.compile(r"[^@\s]+@(?P<host>[^@\s]+)")
_PATH = re.compile(r"/[^\0\n]*[^\0\n/]")


def host(text):
    """Return whether a text is a host's name or its address (an IPv6 address in brackets)."""
    if text.startswith("[") and text.endswith("]"):
        return _is_address(text[1:-1], 6)
    if re.fullmatch(r"[0-9.]+", text):
        return _is_address(text, 4)
    return bool(_HOST.fullmatch(text))


def _is_address(text, version):
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _port(text):
    return bool(re.fullmatch(r"[0-9]{1,5}", text)) and 1 <= int(text) <= 65535


def host_and_port(text):
    """Return whether a text is HOST:PORT."""
    name, colon, port = text.rpartition(":")
    return bool(colon) and host(name) and _port(port)


def url(text):
    """Return whether a text is the address of an HTTP service, without a user in it."""
    match = _URL.fullmatch(text)
    return bool(match) and host(match.group("host")) and (match.group("port") is None or _port(match.group("port")))


def address(text):
    """Return whether a text is one mail address."""
    match = _ADDRESS.fullmatch(text)
    return bool(match) and host(match.group("host"))


_FORMATS = {
    "host-and-port": (host_and_port, "HOST:PORT, such as 192.0.2.1:5000"),
    "http-address": (url, "an address such as https://storage.example.net:8011, without a user in it"),
    "mail-address": (address, "a mail address"),
    "host-name": (host, "a host's name or address"),
    "absolute-path": (lambda text: bool(_PATH.fullmatch(text)), "an absolute path"),
    "one-line": (str.isprintable, "one line of text"),
}


def _text(form="one-line", **more):
    return {"type": "string", "minLength": 1, "format": form, **more}


def _object(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def of(config_type, pool=None):
    """Return the JSON schema of a type of rows; with ``pool`` that pool alone is right."""
    if config_type == "mail":
        return {
            **_object(
                host=_text("host-name"),
                port={"type": "integer", "minimum": 1, "maximum": 65535},
                security={"enum": ["none", "starttls", "tls"]},
                # Both empty: a relay that asks for no login.
                user={"type": "string", "format": "one-line"},
                sender=_text("mail-address"),
                password={"type": "string", "format": "one-line", "writeOnly": True},
            ),
            "if": {"properties": {"user": {"const": ""}}, "required": ["user"]},
            "then": {"properties": {"password": {"const": "", "description": "empty, as user is"}}},
            "else": {"properties": {"password": {"minLength": 1}}},
        }
    # Secrets come last: a server shows the first 64 bytes of a value in some of its messages (see saltplatform.rows).
    return _object(
        name=_text(),
        url=_text("http-address"),
        config=_object(
            monitors={"type": "array", "minItems": 1, "uniqueItems": True, "items": _text("host-and-port")},
            pool=_text() if pool is None else _text(const=pool),
            user=_text(),
            keyring=_text("absolute-path"),
            fsType={"enum": ["ext4", "xfs"]},
        ),
        calamariUrl=_text("host-and-port"),
        agent=_object(user=_text(), password=_text(writeOnly=True)),
    )


def defects(document, schema):
    """Return every defect of a document as ``[(JSON path, sentence)]``; a path such as ``$.config.monitors[0]``."""
    checker = jsonschema.FormatChecker(formats=())
    for name, (right, _) in _FORMATS.items():
        checker.checks(name)(lambda value, right=right: not isinstance(value, str) or right(value))
    found = {}
    for error in jsonschema.Draft7Validator(schema, format_checker=checker).iter_errors(document):
        for at, said in _told(error):
            found.setdefault(at, said)
    return list(found.items())


def check(what, document, schema):
    """Raise :class:`InvalidDocument` with every defect of a document; ``what`` says whose it is."""
    wrong = defects(document, schema)
    if wrong:
        told = "; ".join("{} {}".format(at, said) for at, said in wrong)
        raise InvalidDocument("{} is not written, for it would be wrong: {}.".format(what, told), wrong)


def path(parts):
    """Return a JSON path of keys and indexes."""
    text = "$"
    for part in parts:
        plain = isinstance(part, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part)
        text += ".{}".format(part) if plain else "[{}]".format(quoted(part))
    return text


def _told(error):
    """Yield (path, sentence) of one error of the library."""
    parts, rule, value, schema = list(error.absolute_path), error.validator, error.instance, error.schema
    if rule == "required":
        for key in error.validator_value:
            if key not in value:
                yield path([*parts, key]), "is missing"
    elif rule == "additionalProperties":
        for key in value:
            if key not in schema["properties"]:
                yield path([*parts, key]), "is a key that nobody knows (there are {})".format(", ".join(schema["properties"]))
    else:
        yield path(parts), _sentence(rule, value, schema)


def _sentence(rule, value, schema):
    if value == "" and schema.get("minLength"):
        return "is empty"
    if rule == "minItems":
        return "is an empty list"
    if rule == "uniqueItems":
        return "names one twice"
    return "must be {}{}".format(_wanted(rule, schema), _instead(value, schema))


def _wanted(rule, schema):
    if "description" in schema:
        return schema["description"]
    if "const" in schema:
        return "{}, as in the pillar".format(quoted(schema["const"]))
    if "enum" in schema:
        return "one of {}".format(", ".join(schema["enum"]))
    if schema.get("type") == "integer":
        return "a number from {} to {}".format(schema["minimum"], schema["maximum"])
    if rule == "type" and schema["type"] == "string":
        return "a text"
    if rule == "type":
        return {"object": "an object", "array": "a list"}[schema["type"]]
    return _FORMATS[schema["format"]][1]


def _instead(value, schema):
    """What stands there; never of a secret, of what may have one in it, or of what is no plain value."""
    if schema.get("writeOnly") or "description" in schema or schema.get("type") in ("object", "array") or isinstance(value, (dict, list)):
        return ""
    if isinstance(value, str) and "@" in value:
        return " (what stands there is not shown)"
    return ", not {}".format(quoted(value))
