"""Clones as desired state: an image with one declared parent."""

from saltrbd import image as images
from saltrbd import size, snapshot
from saltrbd.converge import Plan, change
from saltrbd.errors import InvalidArgument
from saltrbd.spec import Spec

# The first Ceph release whose clients can all read format-2 clones.
_MIMIC = "mimic"


def check_format(value):
    """Return ``auto``, 1 or 2; raises :class:`InvalidArgument`."""
    if value in ("auto", None):
        return "auto"
    if value in (1, 2, "1", "2") and not isinstance(value, bool):
        return int(value)
    raise InvalidArgument("The clone_format must be auto, 1 or 2, not {!r}.".format(value))


def choose_format(declared, cluster):
    """Return 1 or 2: auto is 2 where the cluster admits only clients that read it, as librbd itself decides.

    ``cluster["require_min_compat_client"]`` is a release's name; Ceph's releases are in the order of the alphabet.
    """
    if declared != "auto":
        return declared
    return 2 if cluster["require_min_compat_client"] >= _MIMIC else 1


def plan_present(spec, current, parent, parent_image, want, declared_format, cluster):
    """Return the :class:`Plan` that makes ``spec`` a clone of ``parent``.

    ``current``: the clone's facts or None; ``parent_image``: the facts of the parent's image or None.
    """
    if current is not None:
        return _plan_drift(spec, current, parent, want, declared_format)
    missing = _missing(spec, parent, parent_image)
    if missing:
        return Plan(refusals=[missing])
    found = snapshot.find(parent_image, parent.snapshot)
    number = choose_format(declared_format, cluster)
    if number == 1 and not found["protected"]:
        return Plan(
            refusals=[
                "{0} cannot be cloned to {1}: a clone of format 1 needs a protected parent. Declare rbd_snapshot.protected "
                "for {0}, or clone_format: 2 here.".format(parent, spec)
            ]
        )
    if want["size"] is not None and want["size"] < found["size"]:
        return Plan(
            refusals=[
                "{}: its parent {} has {}, and a clone cannot begin with less than that; {} is declared.".format(
                    spec, parent, size.show(found["size"]), size.show(want["size"])
                )
            ]
        )
    return _plan_clone(spec, parent, found, want, number, cluster)


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


def _plan_clone(spec, parent, found, want, number, cluster):
    whole = dict(want, size=want["size"] or found["size"])
    fields = images.creation(whole)
    fields["parent"] = change(None, str(parent))
    fields["clone_format"] = change(None, number)
    arguments = {key: value for key, value in want.items() if value is not None and key != "size"}
    for key in ("metadata", "config"):
        arguments[key] = {name: value for name, value in (want[key] or {}).items() if value is not None}
    steps = [("rbd_clone.create", dict(arguments, name=str(spec), parent=str(parent), clone_format=number))]
    if whole["size"] > found["size"]:
        steps.append(("rbd_image.resize", {"name": str(spec), "size": whole["size"]}))
    for key in ("metadata", "config"):  # a clone takes over its parent's
        gone = sorted(name for name, value in (want[key] or {}).items() if value is None)
        if gone:
            steps.append(("rbd_image.set_" + key, {"name": str(spec), "put": {}, "remove": gone}))
    facts = images.planned_facts(whole, cluster, dict(parent.where(), id=None, overlap=found["size"]))
    facts["clone_format"] = number
    return Plan(steps=steps, changes={str(spec): fields}, planned={("image", str(spec)): facts})


def _plan_drift(spec, current, parent, want, declared_format):
    refused = []
    have = parent_of(current)
    if have is None:
        refused.append("{} exists and has no parent, where {} is declared. Was it flattened, or made as an image?".format(spec, parent))
    elif have != parent:
        refused.append("{} is a clone of {}, not of {} as declared. A clone's parent cannot be changed.".format(spec, have, parent))
    if have is not None and declared_format != "auto" and current["clone_format"] != declared_format:
        refused.append(
            "{}: clone_format is {} and cannot be changed to {}.".format(spec, current["clone_format"], declared_format)
        )
    drift = images.plan_drift(spec, current, want)
    if refused or drift.refusals:
        return Plan(refusals=refused + drift.refusals)
    return drift


def parent_of(facts):
    """Return the :class:`Spec` of an image's parent, None where it has none."""
    parent = facts["parent"]
    if parent is None:
        return None
    return Spec(parent["pool"], parent["namespace"], parent["image"], parent["snapshot"])
