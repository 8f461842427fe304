"""RADOS locks of our own on an image's header object, and on others.

The bindings can take such a lock, but not tell who holds it, nor break it: that is asked of the object class ``lock`` itself, whose
requests and answers are Ceph's wire format: little-endian numbers, texts with their length before them, and a version, a compatible
version and a length before each structure, so that what newer versions add is skipped.
"""

import socket
import struct

import rados
from session import WorkerError

MAY_RENEW, _MUST_RENEW = 1, 2  # LIBRADOS_LOCK_FLAG_MAY_RENEW, _MUST_RENEW
_ANSWER = 1 << 20
# entity_name_t's kinds; a lock is nearly always a client's.
_KINDS = {1: "mon", 2: "mds", 4: "osd", 8: "client", 16: "mgr"}


def image_lock(session, report, pool, namespace, image, image_id, name, cookie, description, renew=False, snapshot=""):
    """Take a RADOS lock of our own on the header object; the second taker gets Busy. librbd is not disturbed by it.

    ``renew`` writes another description into a lock that this session holds with this cookie.
    """
    with session.image(pool, namespace, image) as handle:
        if handle.id() != image_id:
            raise WorkerError("ImageNotFound", "the image is another one of that name by now (id {})".format(handle.id()))
    header, flags = "rbd_header." + image_id, _MUST_RENEW if renew else 0
    try:
        session.ioctx(pool, namespace).lock_exclusive(header, name, cookie, desc=description, flags=flags)
    except (rados.ObjectBusy, rados.ObjectExists, rados.ObjectNotFound):
        raise WorkerError("Busy", "the lock {} on {} is held by another client".format(name, header))


def image_lock_holder(session, report, pool, namespace, image, image_id, name, snapshot=""):
    """Who holds the lock on the header of the image with this id: name, cookie, address, description; None for nobody."""
    return lock_holder(session.ioctx(pool, namespace), "rbd_header." + image_id, name)


def image_lock_break(session, report, pool, namespace, image, image_id, name, holder, snapshot=""):
    """Take the lock on the header of the image with this id from this one holder (name, cookie); fine if that holder has it no more."""
    break_lock(session.ioctx(pool, namespace), "rbd_header." + image_id, name, holder)


def lock_holder(context, oid, name):
    """Who holds a lock on an object, as :func:`image_lock_holder`."""
    try:
        _, answer = context.execute(oid, "lock", "get_info", _structure(_text(name)), _ANSWER)
    except rados.ObjectNotFound:
        return None
    for holder in _holders(_Reader(answer).structure()):
        return holder
    return None


def break_lock(context, oid, name, holder):
    """Take a lock from this one holder; fine if that holder has it no more."""
    kind, _, number = holder["name"].partition(".")
    who = struct.pack("<Bq", {word: code for code, word in _KINDS.items()}[kind], int(number))
    try:
        context.execute(oid, "lock", "break_lock", _structure(_text(name) + who + _text(holder["cookie"])), _ANSWER)
    except rados.ObjectNotFound:
        pass


def _structure(body):
    return struct.pack("<BBI", 1, 1, len(body)) + body


def _text(text):
    raw = text.encode("utf-8")
    return struct.pack("<I", len(raw)) + raw


class _Reader:
    """Reads Ceph's wire format from the front of some bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def raw(self, length):
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self):
        return self.raw(self.number("I")).decode("utf-8", "replace")

    def structure(self):
        """Return a reader of the next structure alone."""
        self.number("H")  # version and compatible version
        return _Reader(self.raw(self.number("I")))


def _holders(reply):
    for _ in range(reply.number("I")):
        who, info = reply.structure(), reply.structure()
        name = "{}.{}".format(_KINDS.get(who.number("B"), "unknown"), who.number("q"))
        cookie = who.text()
        info.number("Q")  # when it expires; those on headers never do
        address = _address(info)
        yield {"name": name, "cookie": cookie, "address": address, "description": info.text()}


def _address(info):
    """Read an entity_addr_t and return "IP:PORT/NONCE", as Ceph's own tools write it."""
    if info.number("B") != 1:  # before Nautilus: 3 more bytes of a zero, the nonce, a sockaddr_storage
        info.raw(3)
        nonce = info.number("I")
        return _of(info.raw(128), nonce, ">H")
    inner = info.structure()
    inner.number("I")  # the kind of protocol
    nonce = inner.number("I")
    return _of(inner.raw(inner.number("I")), nonce, "<H")


def _of(raw, nonce, family):
    kind = struct.unpack_from(family, raw)[0] if len(raw) >= 8 else 0
    if kind == socket.AF_INET:
        host = socket.inet_ntop(socket.AF_INET, raw[4:8])
    elif kind == socket.AF_INET6 and len(raw) >= 24:
        host = "[{}]".format(socket.inet_ntop(socket.AF_INET6, raw[8:24]))
    else:
        return "-/{}".format(nonce)
    return "{}:{}/{}".format(host, struct.unpack_from(">H", raw, 2)[0], nonce)


OPERATIONS = {"image_lock": image_lock, "image_lock_break": image_lock_break, "image_lock_holder": image_lock_holder}
