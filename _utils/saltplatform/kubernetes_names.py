"""Names as Kubernetes takes them (RFC 1123), and a name for what has another one."""

import hashlib
import re

# A label is a name without dots: of a container, of a volume in a Pod, of a namespace. A subdomain is that of most objects.
MAX_LABEL, MAX_SUBDOMAIN = 63, 253
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
# Digits of a sha256 that tell names apart which look the same in RFC 1123's letters.
_DIGITS = 10


def is_label(text):
    """Return whether a text is a name of RFC 1123 without dots, at most 63 characters."""
    return isinstance(text, str) and len(text) <= MAX_LABEL and bool(_LABEL.fullmatch(text))


def is_subdomain(text):
    """Return whether a text is a name of RFC 1123, at most 253 characters."""
    return isinstance(text, str) and len(text) <= MAX_SUBDOMAIN and bool(_SUBDOMAIN.fullmatch(text))


def subdomain(text, limit=MAX_SUBDOMAIN):
    """Return the text where it is a name of RFC 1123, else one made of it: ``Data_1`` is ``data-1-`` and ten digits of its hash.

    The name depends on the text alone, so that another volume never changes it.
    """
    return text if is_subdomain(text) and len(text) <= limit else _made(text, limit)


def label(text):
    """Return the text where it is a name without dots, else one made of it, as :func:`subdomain` does."""
    return text if is_label(text) else _made(text, MAX_LABEL)


def _made(text, limit):
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[: limit - _DIGITS - 1].strip("-")
    return "{}-{}".format(plain or "volume", digits)
