"""The features of an image: names, what needs what, and the order in which Ceph lets them change."""

from saltrbd.errors import InvalidArgument, quoted

# The order of enabling; disabling goes the other way round. Each needs those on its right.
_MUTABLE = {
    "exclusive-lock": (),
    "journaling": ("exclusive-lock",),
    "object-map": ("exclusive-lock",),
    "fast-diff": ("object-map", "exclusive-lock"),
}
# Ceph can not change layering, and a deep-flatten that was disabled can never be enabled again.
_FIXED = ("layering", "deep-flatten")
DECLARABLE = tuple(_MUTABLE) + _FIXED
# Set by Ceph itself: by striping, a data pool, format-2 clones, a migration, mirroring.
INTERNAL = ("striping", "data-pool", "operations", "migrating", "non-primary")
_BITS = {
    "layering": 1,
    "exclusive-lock": 4,
    "object-map": 8,
    "fast-diff": 16,
    "deep-flatten": 32,
    "journaling": 64,
}


def declared(value):
    """Return declared features as a sorted list, None for None; raises :class:`InvalidArgument`.

    ``value`` is a list of names, or text with commas between them, as the rbd command takes it.
    """
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InvalidArgument("The features must be a list of names, not {}.".format(quoted(value)))
    names = check_names(name for name in names if name)
    if ("object-map" in names) != ("fast-diff" in names):
        raise InvalidArgument("Ceph gives an image object-map and fast-diff together: declare both, or none of them.")
    for name in names:
        for needed in _MUTABLE.get(name, ()):
            if needed not in names:
                raise InvalidArgument("The feature {} needs {}: declare that too, or leave {} out.".format(name, needed, name))
    return sorted(set(names))


def check_names(names):
    """Return the names as a list; raises :class:`InvalidArgument` for one that is no feature."""
    names = list(names)
    unknown = sorted(set(names) - set(DECLARABLE))
    if unknown:
        raise InvalidArgument("Unknown features {}: there are {}.".format(", ".join(map(quoted, unknown)), ", ".join(sorted(DECLARABLE))))
    return names


def from_default(text):
    """Return the names in Ceph's option ``rbd_default_features``: a number of bits, or names with commas."""
    if text.strip().isdigit():
        return sorted(name for name, bit in _BITS.items() if int(text) & bit)
    return sorted(name.strip() for name in text.split(",") if name.strip())


def visible(names):
    """Return the features without Ceph's internal ones."""
    return sorted(name for name in names if name not in INTERNAL)


def moves(current, wanted):
    """Return (to disable, to enable), each in the order that Ceph needs."""
    order = list(_MUTABLE)
    disable = [name for name in reversed(order) if name in current and name not in wanted]
    enable = [name for name in order if name in wanted and name not in current]
    return disable, enable


def refusals(spec, current, wanted):
    """Return why the features cannot become the wanted ones, as sentences."""
    found = []
    if ("layering" in current) != ("layering" in wanted):
        found.append("{}: the feature layering cannot be changed after the image was created.".format(spec))
    if "deep-flatten" in wanted and "deep-flatten" not in current:
        found.append("{}: the feature deep-flatten cannot be enabled after the image was created.".format(spec))
    if "deep-flatten" in current and "deep-flatten" not in wanted:
        found.append(
            "{0}: disabling deep-flatten cannot be undone. Declare it, or run 'rbd feature disable {0} deep-flatten' yourself.".format(spec)
        )
    return found
