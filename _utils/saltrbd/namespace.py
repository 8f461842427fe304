"""Namespaces of a pool as desired state."""

from saltrbd import facts, purge
from saltrbd import spec as specs
from saltrbd.converge import Plan, change


def plan_present(place, content):
    """Return the :class:`Plan` that makes the namespace be there; ``content`` is what is in it, None where it is not there; pure."""
    if content is not None:
        return Plan()
    empty = {"images": [], "trash": [], "groups": []}
    return Plan(
        [("rbd_namespace.create", {"name": str(place)})],
        {str(place): {"namespace": change(None, "present")}},
        planned={("namespace", str(place)): empty},
    )


def plan_absent(place, content):
    """Return the :class:`Plan` that removes the namespace, or names everything that is in it; pure."""
    if content is None:
        return Plan()
    changes = {str(place): {"namespace": change("present", None)}}
    blocked = ["the image {}".format(place._replace(image=name)) for name in content["images"]]
    blocked += ["{} in the trash".format(purge.label(place, entry)) for entry in content["trash"]]
    blocked += ["the group {} of images".format(name) for name in content["groups"]]
    if blocked:
        return Plan(changes=changes, refusals=["The namespace {} is not removed. In it are: {}.".format(place, "; ".join(blocked))])
    return Plan([("rbd_namespace.remove", {"name": str(place)})], changes, planned={("namespace", str(place)): None})


def expected(content, known, place):
    """Return what is in a namespace as earlier states of this dry run would leave it; ``known`` is from ``converge.known``."""
    content = known.get(("namespace", str(place)), content)
    if content is None:
        return None
    images = set(content["images"])
    for (kind, name), image in known.items():
        if kind == "image" and specs.parse(name)._replace(image="") == place:
            (images.add if image else images.discard)(specs.parse(name).image)
    return dict(content, images=sorted(images), trash=facts.trash(content["trash"], known, place))
