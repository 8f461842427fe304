"""The features and flags of images: their bits, and switching them on and off."""

FEATURES = {
    "layering": 1,
    "striping": 2,
    "exclusive-lock": 4,
    "object-map": 8,
    "fast-diff": 16,
    "deep-flatten": 32,
    "journaling": 64,
    "data-pool": 128,
    "operations": 256,
    "migrating": 512,
    "non-primary": 1024,
}
FLAGS = {"object-map-invalid": 1, "fast-diff-invalid": 2}


def names(bits, table):
    """Return the names of the bits that are set."""
    return sorted(name for name, bit in table.items() if bits & bit)


def mask(wanted):
    """Return the bits of feature names, None for None."""
    return None if wanted is None else sum(FEATURES[name] for name in wanted)


def image_features(session, report, pool, namespace, image, enable=(), disable=(), snapshot=""):
    """Disable, then enable features, one after the other in the order given."""
    with session.image(pool, namespace, image, write=True) as handle:
        for wanted, enabled in [(name, False) for name in disable] + [(name, True) for name in enable]:
            if bool(handle.features() & FEATURES[wanted]) != enabled:
                handle.update_features(FEATURES[wanted], enabled)


OPERATIONS = {"image_features": image_features}
