"""The one parser for ``pool[/namespace]/image[@snapshot]``."""

from collections import namedtuple

from saltrbd.errors import InvalidSpec, quoted

# Ceph takes nearly any byte in a name; these would make a spec ambiguous or break a line of a log, a fstab or a unit.
_SEPARATORS = "/@"
MAX_NAME = 255


class Spec(namedtuple("Spec", "pool namespace image snapshot")):
    """One image or snapshot; prints itself whole, as ``pool[/namespace]/image[@snapshot]``."""

    __slots__ = ()

    def __str__(self):
        return "/".join(part for part in (self.pool, self.namespace, self.image) if part) + ("@" + self.snapshot if self.snapshot else "")

    def at(self, snapshot):
        """Return the spec of a snapshot of this image: ``Spec.at("snap1")``."""
        return self._replace(snapshot=check_name(snapshot, "snapshot name"))

    @property
    def head(self):
        """The spec of the image itself, without a snapshot."""
        return self._replace(snapshot="")

    def where(self):
        """Return the keyword arguments that the worker's operations take for this spec."""
        return {"pool": self.pool, "namespace": self.namespace, "image": self.image, "snapshot": self.snapshot}


def check_name(name, what="name"):
    """Return ``name`` if it can be a pool, namespace, image or snapshot name, else raise :class:`InvalidSpec`."""
    if not isinstance(name, str):
        raise InvalidSpec("The {} must be text, not {}; put it in quotes.".format(what, quoted(name)))
    if not name:
        raise InvalidSpec("The {} is empty.".format(what))
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME:
        raise InvalidSpec("The {} {} is longer than {} bytes.".format(what, quoted(name), MAX_NAME))
    if any(char in _SEPARATORS or char.isspace() or not char.isprintable() for char in name):
        raise InvalidSpec("The {} {} holds '/', '@', white space or an unprintable character.".format(what, quoted(name)))
    if name.startswith("-"):
        raise InvalidSpec("The {} {} begins with '-', which a command would take for an option.".format(what, quoted(name)))
    return name


def parse(text, pool=None, namespace=None):
    """Return the :class:`Spec` of ``text``.

    ``pool`` and ``namespace`` are what a bare image name is in; a spec that names its pool ignores both.
    Raises :class:`InvalidSpec`, with what is wrong. ``parse("rbd/k8s/db@snap1")`` is pool rbd, namespace k8s, image db,
    snapshot snap1.
    """
    if isinstance(text, Spec):
        return text
    if not isinstance(text, str):
        raise InvalidSpec("An image must be named as text, pool[/namespace]/image[@snapshot], not {}.".format(quoted(text)))
    path, at, snapshot = text.partition("@")
    if at:
        check_name(snapshot, "snapshot name in {}".format(quoted(text)))
    parts = path.split("/")
    if len(parts) > 3:
        raise InvalidSpec("{} has more than pool/namespace/image before its snapshot.".format(quoted(text)))
    if len(parts) == 1:
        if not pool:
            raise InvalidSpec(
                "{} names no pool: write pool/image, or set ceph:pool in the pillar or the minion's configuration.".format(quoted(text))
            )
        parts = [pool, namespace, parts[0]] if namespace else [pool, parts[0]]
    for part, what in zip(parts, ("pool", "namespace" if len(parts) == 3 else "image name", "image name")):
        check_name(part, "{} in {}".format(what, quoted(text)))
    return Spec(parts[0], parts[1] if len(parts) == 3 else "", parts[-1], snapshot)


def parse_place(text):
    """Return the :class:`Spec` of a pool or namespace, without an image: ``pool`` or ``pool/namespace``. Raises :class:`InvalidSpec`."""
    if not isinstance(text, str):
        raise InvalidSpec("A pool or namespace must be named as text, pool[/namespace], not {}.".format(quoted(text)))
    pool, slash, namespace = text.partition("/")
    check_name(pool, "pool in {}".format(quoted(text)))
    return Spec(pool, check_name(namespace, "namespace in {}".format(quoted(text))) if slash else "", "", "")


def parse_namespace(text, pool=None):
    """Return the :class:`Spec` of a namespace, without an image: ``pool/namespace``, or a bare name in ``pool``."""
    if pool and isinstance(text, str) and "/" not in text:
        text = "{}/{}".format(pool, text)
    place = parse_place(text)
    if not place.namespace:
        raise InvalidSpec("{} names no namespace: write pool/namespace.".format(quoted(text)))
    return place


def parse_image(text, pool=None, namespace=None):
    """Return the :class:`Spec` of an image; a snapshot in ``text`` is an :class:`InvalidSpec`."""
    spec = parse(text, pool, namespace)
    if spec.snapshot:
        raise InvalidSpec("{} names a snapshot, where an image is wanted; leave out '@{}'.".format(spec, spec.snapshot))
    return spec


def parse_snapshot(text, pool=None, namespace=None):
    """Return the :class:`Spec` of a snapshot; an image without one is an :class:`InvalidSpec`."""
    spec = parse(text, pool, namespace)
    if not spec.snapshot:
        raise InvalidSpec("{} names no snapshot; write {}@SNAPSHOT.".format(spec, spec))
    return spec
