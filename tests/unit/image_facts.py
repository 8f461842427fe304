"""The facts of an image as ``rbd_image.info`` gives them, for tests of pure functions."""

from saltrbd import image as images
from saltrbd import spec as specs

P = specs.parse("p/i")
NAME = ("image", "p/i")
CLUSTER = {"default_features": "61", "default_order": 22, "all_pools": ["p", "ec"]}
G = 1 << 30
M = 1 << 20
DEFAULT_FEATURES = ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]


def want(**declared):
    """Return the checked declaration of an image."""
    names = {"size": "image_size", "features": "image_features"}
    return images.desired(**{names.get(key, key): value for key, value in declared.items()})


def image(**more):
    """Return the facts of a plain image of 1 GiB; ``more`` replaces some."""
    facts = {
        "id": "10ab",
        "size": G,
        "features": list(DEFAULT_FEATURES),
        "flags": [],
        "object_size": 4 * M,
        "stripe_unit": 4 * M,
        "stripe_count": 1,
        "data_pool": "",
        "parent": None,
        "clone_format": None,
        "metadata": {},
        "config": {},
        "created": 1700000000,
        "snapshots": [],
        "watchers": [],
        "locks": [],
        "group": None,
    }
    assert set(more) <= set(facts)
    return dict(facts, **more)


def snapshot(name, **more):
    """Return the facts of one of an image's snapshots."""
    facts = {
        "name": name,
        "id": 4,
        "size": G,
        "type": "user",
        "protected": False,
        "created": 1700000000,
        "original_name": None,
        "children": [],
    }
    assert set(more) <= set(facts)
    return dict(facts, **more)


def child(image_name, pool="p", namespace="", **more):
    """Return a clone as it stands among the children of a snapshot."""
    facts = {"pool": pool, "namespace": namespace, "image": image_name, "id": "c-" + image_name, "trash": False, "clone_format": 2}
    assert set(more) <= set(facts)
    return dict(facts, **more)


def parent(pool="p", namespace="", image_name="a", snapshot_name="s", **more):
    """Return what a clone's facts say of its parent."""
    facts = {
        "pool": pool,
        "namespace": namespace,
        "image": image_name,
        "snapshot": snapshot_name,
        "id": "10ab",
        "overlap": G,
        "trash": False,
    }
    assert set(more) <= set(facts)
    return dict(facts, **more)
