"""Snapshots as desired state, of one image or of many at once."""

from saltrbd import spec as specs
from saltrbd.converge import Plan, change
from saltrbd.errors import InvalidArgument, InvalidSpec, quoted
from saltrbd.image import child_name

CONSISTENCY = ("auto", "filesystem", "crash")
DOUBTFUL = "is there, or may be, and may be of another moment: remove it, unless it is somebody else's."
# What a snapshot is until it has its name (see worker/snapshots.py), and after how many seconds nobody is at work on it any more.
UNFINISHED, ABANDONED = "unfinished", 3600
LEFT = "may be left under a name that begins with saltrbd_begun.; rbd_snapshot.present removes that when it is an hour old."


def named(name, images=None, pool=None, namespace=None):
    """Return the snapshots' specs: ``name`` is a spec with a snapshot, or a snapshot's name for every one of ``images``."""
    if images is None:
        return [specs.parse_snapshot(name, pool, namespace)]
    _check_list(images)
    if isinstance(name, str) and ("@" in name or "/" in name):
        raise InvalidSpec("With images, the name is a snapshot's name alone, not {}.".format(quoted(name)))
    specs.check_name(name, "snapshot name")
    found = [specs.parse_image(image, pool, namespace).at(name) for image in images]
    if not found:
        raise InvalidArgument("The list of images for the snapshot {} is empty.".format(name))
    return sorted(set(found))


def heads(images, pool=None, namespace=None):
    """Return the specs of a list of images; raises :class:`InvalidArgument` for an empty one."""
    _check_list(images)
    found = sorted({specs.parse_image(image, pool, namespace) for image in images})
    if not found:
        raise InvalidArgument("The list of images is empty.")
    return found


def _check_list(images):
    if isinstance(images, (str, bytes)) or not hasattr(images, "__iter__"):
        raise InvalidArgument("The images must be a list of specs, not {}.".format(quoted(images)))


def check_consistency(value):
    """Return ``value`` if it is auto, filesystem or crash, else raise :class:`InvalidArgument`."""
    if value not in CONSISTENCY:
        raise InvalidArgument("The consistency must be one of {}, not {}.".format(", ".join(CONSISTENCY), quoted(value)))
    return value


def quiesce(targets, consistency):
    """Return whether the quiesce hooks of the images' clients are called before their snapshots: "skip" or "try"; pure.

    What stands still by us (``targets``) needs none: it would find the filesystem frozen; and it would stand still for as long as the hooks
    of images beside it take on other hosts. ``crash`` never freezes. Of the others only those can freeze it that have it mounted; nobody
    tells whether one did, so that it counts as crash-consistent, and one that fails is no reason to make none.
    """
    return "skip" if targets or consistency == "crash" else "try"


def too_early(seconds):
    """Return why a snapshot is not filesystem-consistent whose filesystem did not stand still until it was made."""
    after = "" if seconds is None else " after {:.0f} s".format(seconds)
    return "its filesystem was thawed{}, before the snapshot was known to be on the image".format(after)


def may_be(spec, outcome, begun):
    """Tell whether the snapshot may be there although its making had no answer; pure. ``begun``: it has no name yet."""
    facts = getattr(outcome.error, "facts", None) or {}
    if not facts.get("unknown"):
        return False
    # A client that has the image's lock may make it yet, but then nobody takes it for the snapshot.
    return bool(begun) or facts["seen"] is None or find(facts["seen"], spec.snapshot) is not None


def left(begun):
    """Return what is said of a snapshot that is left, or may be: named already, or only begun."""
    return LEFT if begun else DOUBTFUL


def find(image, name):
    """Return the facts of a user's snapshot among an image's, None where there is none."""
    for item in image["snapshots"]:
        if item["name"] == name and item["type"] in ("user", UNFINISHED):
            return item
    return None


def plan_present(wanted, images, protect=False, consistency="auto", targets=None, now=0):
    """Return the :class:`Plan` that makes the snapshots, protected where ``protect``, and removes of the images what was never finished.

    ``images``: {image spec: facts or None}. ``targets``: {image spec: reason or None} for what is to be frozen; None
    means that the filesystem can be frozen. ``now``: seconds since 1970.
    """
    plan = _without_unfinished(images, now)
    make, protects, there = [], [], []
    for spec in wanted:
        image = images[spec.head]
        if image is None:
            plan.changes[str(spec)] = _creation(protect)
            plan.refusals.append(
                "{} does not exist, so it can have no snapshot {}. Declare rbd_image.present.".format(spec.head, spec.snapshot)
            )
            continue
        current = find(image, spec.snapshot)
        if current is not None:
            there.append(str(spec))
        if current is not None and (current["protected"] or not protect):
            continue
        plan.changes[str(spec)] = _creation(protect) if current is None else {"protected": change(False, True)}
        if protect and "layering" not in image["features"]:
            plan.refusals.append("{} cannot be protected, because its image lacks the feature layering.".format(spec))
        if current is not None:
            protects.append(str(spec))
            plan.planned[("snapshot", str(spec))] = {"protected": True}
            continue
        reason = (targets or {}).get(spec.head)
        if consistency == "filesystem" and reason:
            plan.refusals.append(
                "{} cannot be made filesystem-consistent: {}. Mount it here, or declare consistency: auto or crash.".format(spec, reason)
            )
        make.append(str(spec))
        plan.planned[("snapshot", str(spec))] = {"id": None, "protected": protect}
    if plan.refusals:
        return Plan(changes=plan.changes, refusals=plan.refusals)
    if make:
        plan.steps.append(("rbd_snapshot.create", {"name": make, "protect": protect, "consistency": consistency}))
    if make and there:
        plan.notes.append("Of another moment, because they were there before: {}.".format(_some(there)))
    if protects:
        plan.steps.append(("rbd_snapshot.protect", {"name": protects}))
    return plan


def _without_unfinished(images, now):
    """What a killed run has begun, or a client made for it after its end, has no name by which anybody would take it for a snapshot."""
    plan, protected = Plan(), []
    for head, image in sorted(images.items()):
        for item in (image or {}).get("snapshots", ()):
            if item["type"] != UNFINISHED or item["created"] + ABANDONED > now:
                continue
            name = str(head._replace(snapshot=item["name"]))
            plan.changes[name] = {"snapshot": change("present", None)}
            plan.planned[("snapshot", name)] = None
            protected += [name] if item["protected"] else []
    if protected:
        plan.steps.append(("rbd_snapshot.unprotect", {"name": protected}))
    if plan.changes:
        plan.steps.append(("rbd_snapshot.remove", {"name": list(plan.changes)}))
    return plan


def _some(names):
    return ", ".join(names) if len(names) <= 8 else "{} and {} more".format(", ".join(names[:8]), len(names) - 8)


def _creation(protect):
    fields = {"snapshot": change(None, "present")}
    if protect:
        fields["protected"] = change(None, True)
    return fields


def plan_unprotected(wanted, images):
    """Return the :class:`Plan` that takes the protection away; refused while format-1 clones hang on a snapshot."""
    plan, names = Plan(), []
    for spec in wanted:
        current = _current(images, spec)
        if current is None or not current["protected"]:
            continue
        plan.changes[str(spec)] = {"protected": change(True, False)}
        blocked = sorted(child_name(child) for child in current.get("children", ()) if child.get("clone_format") != 2)
        if blocked:
            plan.refusals.append("{} stays protected, because these clones of format 1 hang on it: {}.".format(spec, ", ".join(blocked)))
            continue
        names.append(str(spec))
        plan.planned[("snapshot", str(spec))] = {"protected": False}
    if plan.refusals:
        return Plan(changes=plan.changes, refusals=plan.refusals)
    if names:
        plan.steps.append(("rbd_snapshot.unprotect", {"name": names}))
    return plan


def plan_absent(wanted, images, with_clones=False):
    """Return the :class:`Plan` that removes the snapshots; refused while protected, or while a clone hangs on one."""
    plan, names = Plan(), []
    for spec in wanted:
        current = _current(images, spec)
        if current is None:
            continue
        if current["protected"]:
            plan.refusals.append("{} is protected. Declare rbd_snapshot.unprotected first.".format(spec))
        if current.get("devices"):
            plan.refusals.append("{} is not removed. In the way are: {}.".format(spec, "; ".join(current["devices"])))
        children = sorted(child_name(child) for child in current.get("children", ()))
        if children and not with_clones:
            plan.refusals.append(
                "{} is not removed, because these clones hang on it: {}. With with_clones: True it goes to Ceph's trash "
                "for snapshots until the last of them is gone.".format(spec, ", ".join(children))
            )
        names.append(str(spec))
        plan.changes[str(spec)] = {"snapshot": change("present", None)}
        # Under a clone it moves to Ceph's trash for snapshots, and the clone still hangs on it.
        plan.planned[("snapshot", str(spec))] = {"type": "trash", "original_name": spec.snapshot} if children else None
    if plan.refusals:
        return Plan(changes=plan.changes, refusals=plan.refusals)
    if names:
        plan.steps.append(("rbd_snapshot.remove", {"name": names, "with_clones": with_clones}))
    return plan


def _current(images, spec):
    image = images[spec.head]
    return None if image is None else find(image, spec.snapshot)


def describe(made):
    """Return the sentence for the comment: which snapshots are filesystem-consistent, with the seconds of standstill."""
    still = [
        "{} (frozen for {:.2f} s)".format(name, facts["seconds"])
        for name, facts in sorted(made.items())
        if facts["consistency"] == "filesystem"
    ]
    crash = sorted(name for name, facts in made.items() if facts["consistency"] == "crash")
    sentences = []
    if still:
        sentences.append("Filesystem-consistent: {}.".format(", ".join(still)))
    if crash:
        sentences.append("Crash-consistent: {}.".format(", ".join(crash) if len(crash) <= 8 else "{} snapshots".format(len(crash))))
    reasons = {"{}: {}".format(name, facts["reason"]) for name, facts in made.items() if facts.get("reason")}
    return " ".join(sentences + ["{}.".format(text) for text in sorted(reasons)])
