"""What PostgreSQL keeps of a password: made and checked here, so that the password itself never reaches the server or its log."""

import base64
import hashlib
import hmac
import os

# PostgreSQL's own count (RFC 7677's least).
ITERATIONS = 4096
SALT_BYTES = 16


def md5(name, password):
    """Return what is stored for the method md5."""
    return "md5" + hashlib.md5((password + name).encode()).hexdigest()  # noqa: S324 the method is called so


def scram(password, salt=None, iterations=ITERATIONS):
    """Return what is stored for the method scram-sha-256."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *(base64.b64encode(part).decode() for part in (salt, client, server)))


def make(name, password, use_scram):
    """Return what is to be stored for a role's password."""
    return scram(password) if use_scram else md5(name, password)


def matches(stored, name, password, use_scram):
    """Return whether this password is what is stored, in the way that it is to be stored."""
    if not stored:
        return False
    if not use_scram:
        return hmac.compare_digest(stored, md5(name, password))
    try:
        kind, count, rest = stored.split("$", 2)[0], *stored.split("$", 2)[1].split(":", 1)
        return kind == "SCRAM-SHA-256" and hmac.compare_digest(stored, scram(password, base64.b64decode(rest), int(count)))
    except (ValueError, IndexError):
        return False


def mistake(password):
    """Return why a password cannot be used, or an empty text; the text does not show it.

    SCRAM prepares a password by RFC 4013; within ASCII that changes nothing, and beyond it servers and clients differ.
    """
    if not isinstance(password, str) or not password:
        return "it must be a text that is not empty; put it in quotes"
    if not password.isascii() or not password.isprintable():
        return "it may hold only printable characters of ASCII"
    return ""
