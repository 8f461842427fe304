"""Clones as desired state: an image with one declared parent."""

import functools

from saltrbd import features, size, snapshot
from saltrbd import image as images
from saltrbd.converge import Plan, change
from saltrbd.errors import InvalidArgument, quoted
from saltrbd.spec import Spec

# The first Ceph release whose clients can all read format-2 clones.
_MIMIC = "mimic"


def check_format(value):
    """Return ``auto``, 1 or 2; raises :class:`InvalidArgument`."""
    if value in ("auto", None):
        return "auto"
    if value in (1, 2, "1", "2") and not isinstance(value, bool):
        return int(value)
    raise InvalidArgument("The clone_format must be auto, 1 or 2, not {}.".format(quoted(value)))


def choose_format(declared, cluster):
    """Return 1 or 2: auto is 2 where the cluster admits only clients that read it, as librbd itself decides.

    ``cluster["require_min_compat_client"]`` is a release's name; Ceph's releases are in the order of the alphabet.
    """
    if declared != "auto":
        return declared
    return 2 if cluster["require_min_compat_client"] >= _MIMIC else 1


def plan_present(spec, current, parent, parent_image, want, declared_format, cluster, restore=None, trashed=()):
    """Return the :class:`Plan` that makes ``spec`` a clone of ``parent``.

    ``current``: the clone's facts or None; ``parent_image``: the facts of the parent's image or None; ``restore`` and ``trashed``
    as for ``image.plan_present``.
    """
    if current is not None:
        return _plan_drift(spec, current, parent, parent_image, want, declared_format)
    if restore is not False and (trashed or isinstance(restore, str)):
        drift = functools.partial(_plan_drift, spec, parent=parent, parent_image=parent_image, want=want, declared_format=declared_format)
        return images.plan_restore(spec, restore, trashed, drift)
    missing = _missing(spec, parent, parent_image)
    if missing:
        return Plan(refusals=[missing])
    found = snapshot.find(parent_image, parent.snapshot)
    number = choose_format(declared_format, cluster)
    refused = []
    if number == 1 and not found["protected"]:
        refused.append(
            "{0} cannot be cloned to {1}: a clone of format 1 needs a protected parent. Declare rbd_snapshot.protected "
            "for {0}, or clone_format: 2 here.".format(parent, spec)
        )
    if number == 1 and spec.namespace != parent.namespace:
        refused.append("{}: a clone of format 1 lies in the namespace of its parent {}. Declare clone_format: 2.".format(spec, parent))
    if want["size"] is not None and want["size"] < found["size"]:
        refused.append(
            "{}: its parent {} has {}, and a clone cannot begin with less than that; {} is declared.".format(
                spec, parent, size.show(found["size"]), size.show(want["size"])
            )
        )
    if want["features"] is not None and "layering" not in want["features"]:
        refused.append("{}: a clone needs the feature layering, which its declared features lack.".format(spec))
    facts = _planned_facts(parent, parent_image, found, want, number)
    refused += images.layout_refusals(spec, facts)
    if refused:
        return Plan(refusals=refused)
    return _plan_clone(spec, parent, found, want, facts)


def _missing(spec, parent, parent_image):
    if parent.head == spec:
        return "{} cannot be a clone of itself.".format(spec)
    if parent_image is None:
        return "{} cannot be made: the parent's image {} does not exist, and no earlier state makes it.".format(spec, parent.head)
    if snapshot.find(parent_image, parent.snapshot) is None:
        return "{} cannot be made: the parent {} does not exist, and no earlier state makes it.".format(spec, parent)
    if "layering" not in parent_image["features"]:
        return "{} cannot be made: the parent {} lacks the feature layering.".format(spec, parent)
    return None


def _planned_facts(parent, parent_image, found, want, number):
    """Return the facts that the clone will have: what is not declared it takes over from its parent, even metadata and config."""
    whole = {
        "size": want["size"] or found["size"],
        "features": features.visible(parent_image["features"]) if want["features"] is None else want["features"],
    }
    for key in ("object_size", "stripe_unit", "stripe_count"):
        whole[key] = want[key] or parent_image[key]
    if want["stripe_unit"] is None and parent_image["stripe_unit"] == parent_image["object_size"]:
        whole["stripe_unit"] = whole["object_size"]  # the parent is not striped
    whole["data_pool"] = want["data_pool"]
    for key in ("metadata", "config"):
        whole[key] = dict(parent_image[key], **(want[key] or {}))
    facts = images.planned_facts(whole, None, dict(parent.where(), id=None, overlap=found["size"], trash=False))
    facts["clone_format"] = number
    return facts


def _plan_clone(spec, parent, found, want, facts):
    whole = dict(want, size=facts["size"])
    fields = images.creation(whole)
    fields["parent"] = change(None, str(parent))
    fields["clone_format"] = change(None, facts["clone_format"])
    arguments = {key: value for key, value in want.items() if value is not None and key != "size"}
    for key in ("metadata", "config"):
        arguments[key] = {name: value for name, value in (want[key] or {}).items() if value is not None}
    create = dict(arguments, name=str(spec), parent=str(parent), clone_format=facts["clone_format"])
    steps = [("rbd_clone.create", create)]
    if whole["size"] > found["size"]:
        steps.append(("rbd_image.resize", {"name": str(spec), "size": whole["size"]}))
    for key in ("metadata", "config"):  # a clone takes over its parent's
        gone = sorted(name for name, value in (want[key] or {}).items() if value is None)
        if gone:
            steps.append(("rbd_image.set_" + key, {"name": str(spec), "put": {}, "remove": gone}))
    return Plan(steps=steps, changes={str(spec): fields}, planned={("image", str(spec)): facts})


def _plan_drift(spec, current, parent, parent_image, want, declared_format):
    refused = []
    have = parent_of(current)
    if have is None:
        refused.append("{} exists and has no parent, where {} is declared. Was it flattened, or made as an image?".format(spec, parent))
    elif have != parent:
        refused.append("{} is a clone of {}, not of {} as declared. A clone's parent cannot be changed.".format(spec, have, parent))
    elif current["parent"]["trash"] and parent_image and snapshot.find(parent_image, parent.snapshot):
        refused.append(
            "{} is a clone of an older snapshot {} that was removed since, not of the one that is there now.".format(spec, parent)
        )
    elif _of_another(current["parent"], parent_image):
        refused.append(
            "{} is a clone of an image that was called {} and has the id {}, not of the one that has this name now (id {}).".format(
                spec, parent.head, current["parent"]["id"], parent_image["id"] or "not known yet"
            )
        )
    if have is not None and declared_format != "auto" and current["clone_format"] != declared_format:
        refused.append("{}: clone_format is {} and cannot be changed to {}.".format(spec, current["clone_format"], declared_format))
    drift = images.plan_drift(spec, current, want)
    if refused or drift.refusals:
        return Plan(changes=drift.changes, refusals=refused + drift.refusals)
    return drift


def _of_another(have, parent_image):
    """True where another image has got the name of a clone's parent, which lies in the trash or was renamed. One that an earlier state
    of a dry run clones has no parent's id yet."""
    return bool(parent_image and have["id"] and parent_image["id"] != have["id"])


def plan_flattened(spec, current):
    """Return the :class:`Plan` that makes the image stand alone. ``current``: its facts with users, None where it does not exist."""
    if current is None:
        return Plan(refusals=["{} does not exist, so it cannot be flattened.".format(spec)])
    parent = parent_of(current)
    if parent is None:
        return Plan()
    changes = {str(spec): {"parent": change(str(parent), None)}}
    # librbd carries it out where the image is open; krbd cannot, and a mapping that is exclusive does not lend its lock.
    blocked = ["{client} has it mapped by krbd, exclusively".format(**item) for item in current["locks"] if item.get("driver") == "krbd"]
    blocked += images.bound(current)
    if blocked:
        return Plan(changes=changes, refusals=["{} is not flattened. In the way are: {}.".format(spec, "; ".join(blocked))])
    notes = []
    if not lets_go(current):
        names = ", ".join(item["name"] for item in current["snapshots"] if item["type"] == "user")
        notes.append("Its snapshots ({}) go on standing on {}, because {} lacks the feature deep-flatten.".format(names, parent, spec))
    facts = dict(current, parent=None, clone_format=None)
    return Plan(steps=[("rbd_clone.flatten", {"name": str(spec)})], changes=changes, planned={("image", str(spec)): facts}, notes=notes)


def lets_go(facts):
    """Whether a flatten of the image with these facts takes its snapshots off the parent too."""
    return "deep-flatten" in facts["features"] or not any(item["type"] == "user" for item in facts["snapshots"])


def parent_of(facts):
    """Return the :class:`Spec` of an image's parent, None where it has none."""
    parent = facts["parent"]
    if parent is None:
        return None
    return Spec(parent["pool"], parent["namespace"], parent["image"], parent["snapshot"])
