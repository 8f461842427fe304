"""The server's certificate and key: the pillar's own, or self-signed ones, so that passwords never cross a network in the clear."""

import datetime
import ipaddress
import os

from saltrbd.errors import InvalidPillar, NotSupported
from saltrbd.postgresql import files

# The longest that common clients accept of a server's certificate (825 days), and when a self-signed one is made anew.
DAYS = 825
RENEW_DAYS = 30


def plan(place, given, today=None):
    """Return the changes of the files: what is there, what comes; ``given`` is the pillar's ``tls``, with its PEM texts."""
    tls = place["tls"]
    changes = {}
    if not tls["given"]:
        reason = _stale(tls, today or datetime.datetime.utcnow())
        return {tls["certificate"]: {"old": reason, "new": "self-signed, for {} days".format(DAYS)}} if reason else {}
    for key in ("certificate", "key", "ca"):
        if given.get(key) and files.read(tls[key]) != _ended(given[key]):
            changes[tls[key]] = {"old": "another one" if os.path.exists(tls[key]) else None, "new": "the pillar's"}
    changes.update({tls[key]: {"mode": "0600"} for key in ("key",) if tls[key] not in changes and not files.as_declared(tls[key])})
    return changes


def _ended(pem):
    return pem if pem.endswith("\n") else pem + "\n"


def _stale(tls, now):
    """Return why a self-signed certificate must be made, or an empty text."""
    text = files.read(tls["certificate"])
    if text is None or not os.path.exists(tls["key"]):
        return "none"
    if not files.as_declared(tls["key"]):
        return "a key that others can read"
    try:
        left = _end(_x509().load_pem_x509_certificate(text.encode())) - now
    except ValueError:
        return "not readable"
    return "ends in {} days".format(left.days) if left.days < RENEW_DAYS else ""


def _end(found):
    """The last moment of a certificate, in UTC; newer cryptography has it with its time zone."""
    aware = getattr(found, "not_valid_after_utc", None)
    return found.not_valid_after if aware is None else aware.replace(tzinfo=None)


def write(place, given, names):
    """Write the files; ``names`` are the host names and addresses that a self-signed certificate is for."""
    tls = place["tls"]
    if tls["given"]:
        _check(given)
        pems = {key: _ended(given[key]) for key in ("certificate", "key", "ca") if given.get(key)}
    else:
        pems = dict(zip(("certificate", "key"), self_signed(names)))
    for key, pem in pems.items():
        files.write(tls[key], pem, 0o600 if key == "key" else 0o644)


def _x509():
    try:
        from cryptography import x509
    except ImportError:
        raise NotSupported(
            "Salt's Python has no module cryptography, which makes the certificate; declare postgresql:tls:certificate."
        ) from None
    return x509


def _check(given):
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = _x509().load_pem_x509_certificate(given["certificate"].encode())
        key = serialization.load_pem_private_key(given["key"].encode(), None)
    except (ValueError, TypeError):
        raise InvalidPillar("postgresql:tls:certificate and key must be PEM texts, the key without a password.") from None
    if key.public_key() != certificate.public_key() and key.public_key().public_numbers() != certificate.public_key().public_numbers():
        raise InvalidPillar("postgresql:tls:key is not the key of postgresql:tls:certificate.")


def self_signed(names):
    """Return ``(certificate, key)`` as PEM texts. RSA, which the OpenSSL of old binaries knows as well."""
    x509 = _x509()
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.datetime.utcnow()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    # An hour back: clocks differ.
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=DAYS))
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(x509, name) for name in names]), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    certificate = builder.sign(key, hashes.SHA256())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key.private_bytes(*form).decode()


def _general(x509, name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
