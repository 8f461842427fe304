"""The pillar for what a pool has already: images made by anybody, as ``rbd:namespaces``, ``rbd:volumes`` and ``rbd:clones``."""

import os
from collections import namedtuple

from saltrbd import clone, features, image, luks, purge, size, snapshot
from saltrbd import spec as specs
from saltrbd.errors import CommandFailed, ImageNotFound, InvalidArgument, PermissionDenied, PoolNotFound, RbdError, Refused, quoted
from saltrbd.spec import Spec

# Keys of this package's own in an image's metadata: they are nobody's declaration.
_OWN = "saltrbd."

# ``places``: specs without an image. ``images``: {spec: facts, or the error of reading them}. ``parents``: {spec: facts, error or None}
# of those that lie elsewhere. ``trash``: [(place, entry)].
Found = namedtuple("Found", "places images parents trash")


def read(ceph, pool, namespace=None):
    """Return what a pool has (:class:`Found`), in one namespace, or in all of them where ``namespace`` is None."""
    names = ["", *ceph.call("namespace_list", pool=pool)] if namespace is None else [namespace]
    places = [Spec(pool, name, "", "") for name in names]
    where = [{"pool": place.pool, "namespace": place.namespace} for place in places]
    listed = zip(places, ceph.batch([("image_list", item) for item in where]))
    images = [place._replace(image=item["name"]) for place, outcome in listed for item in outcome.get()]
    trash = zip(places, ceph.batch([("trash_list", item) for item in where]))
    facts = zip(images, ceph.batch([("image_info", dict(spec.where(), users=True)) for spec in images]))
    # An image that went while this was read is not there any more.
    known = {spec: outcome.error or outcome.result for spec, outcome in facts if not isinstance(outcome.error, ImageNotFound)}
    return Found(places, known, _parents(ceph, known), [(place, entry) for place, outcome in trash for entry in outcome.get()])


def _parents(ceph, images):
    heads = {clone.parent_of(facts).head for facts in images.values() if isinstance(facts, dict) and facts["parent"]} - set(images)
    outcomes = zip(heads, ceph.batch([("image_info", head.where()) for head in heads]))
    return {head: _parent(outcome) for head, outcome in outcomes}


def _parent(outcome):
    if isinstance(outcome.error, PermissionDenied):
        return outcome.error  # its pool is closed to this user
    return None if isinstance(outcome.error, (ImageNotFound, PoolNotFound)) else outcome.get()


def pillar(found):
    """Return (the pillar's ``rbd:`` section as a dict, what it cannot express as sentences); pure. ``found`` is from :func:`read`."""
    told, section = [], {"namespaces": [], "volumes": {}, "clones": {}}
    for place in found.places:
        if place.namespace and _sound(told, "The namespace {}".format(place), specs.parse_namespace, str(place)):
            section["namespaces"].append(str(place))
    taken = set()
    for spec, facts in sorted(found.images.items()):
        if not isinstance(facts, dict):
            told.append("{} is left out: {}".format(spec, facts))
            continue
        kind, entry = _entry(told, spec, facts, {**found.parents, **found.images})
        if entry is None:
            continue
        key = spec.image
        if key in taken:
            key, entry = str(spec), dict(entry, image=spec.image)
        taken.add(key)
        section[kind][key] = entry
    told += ["{} is in the trash, of which the pillar says nothing.".format(purge.label(place, entry)) for place, entry in found.trash]
    return {key: value for key, value in section.items() if value}, told


def _sound(told, what, check, *args, **kwargs):
    """True where the check of a declaration lets this pass; else what is left out is told."""
    try:
        check(*args, **kwargs)
    except RbdError as error:
        told.append("{} is left out: {}".format(what, error))
        return False
    return True


def _entry(told, spec, facts, others):
    """Return ("volumes" or "clones", the declaration of an image), or (None, None) for one that cannot be declared."""
    if not _sound(told, str(spec), specs.parse_image, str(spec)):
        return None, None
    entry = {"pool": spec.pool}
    if spec.namespace:
        entry["namespace"] = spec.namespace
    kind = _lineage(told, spec, facts, others, entry)
    if _sound(told, str(spec), image.desired, facts["size"]):
        entry["size"] = size.show(facts["size"])
    elif kind == "volumes":
        return None, None
    _layout(told, spec, facts, entry)
    for key in ("metadata", "config"):
        values = {name: value for name, value in sorted(facts[key].items()) if _text(told, spec, key, name, value)}
        if values:
            entry[key] = values
    snapshots = _snapshots(told, spec, facts)
    if snapshots:
        entry["snapshots"] = snapshots
    if facts.get("group"):
        told.append("{} is in the group {} of images, of which the pillar says nothing.".format(spec, facts["group"]))
    if luks.MARK in facts["metadata"]:  # a clone has its parent's header, and its metadata
        told.append("{} is encrypted; declare encryption: with its passphrase, which nothing here can tell.".format(spec))
    for name, words in (("migrating", "is being migrated"), ("non-primary", "is the copy of a mirrored image")):
        if name in facts["features"]:
            told.append("{} {}, of which the pillar says nothing.".format(spec, words))
    return kind, entry


def _lineage(told, spec, facts, others, entry):
    """Declare the parent; return "clones", or "volumes" for an image without a parent, or with one that cannot be declared."""
    parent = clone.parent_of(facts)
    if parent is None:
        return "volumes"
    above, why = others.get(parent.head), None
    if facts["parent"]["trash"]:
        why = "the snapshot was removed since"
    elif isinstance(above, RbdError):
        why = str(above).rstrip(".")
    elif above is None or above["id"] != facts["parent"]["id"]:
        why = "the image lies in the trash"
    elif snapshot.find(above, parent.snapshot) is None:
        why = "it is no snapshot of a user"
    else:
        try:
            specs.parse_snapshot(str(parent))
        except RbdError as error:
            why = str(error).rstrip(".")
    if why:
        told.append("{} is declared as a volume, without its parent {}: {}.".format(spec, parent, why))
        return "volumes"
    entry.update(parent=str(parent), clone_format=facts["clone_format"])
    return "clones"


def _layout(told, spec, facts, entry):
    have = features.visible(facts["features"])
    if _sound(told, "{}: features ({})".format(spec, ", ".join(have)), image.desired, image_features=have):
        entry["features"] = have
    layout = {"object_size": facts["object_size"]}
    if (facts["stripe_unit"], facts["stripe_count"]) != (facts["object_size"], 1):
        layout.update(stripe_unit=facts["stripe_unit"], stripe_count=facts["stripe_count"])
    if _sound(told, "{}: layout".format(spec), image.desired, **layout):
        entry.update({key: value if key == "stripe_count" else size.show(value) for key, value in layout.items()})
    if facts["data_pool"]:
        entry["data_pool"] = facts["data_pool"]


def _text(told, spec, key, name, value):
    if name.startswith(_OWN):
        return False
    what = "{}: {} {}".format(spec, key, name if name.isprintable() else repr(name))
    if "\ufffd" in name + value:
        told.append("{} is left out: it is no text.".format(what))
        return False
    return _sound(told, what, image.desired, **{key: {name: value}})


def _snapshots(told, spec, facts):
    found = {}
    for item in facts["snapshots"]:
        if item["type"] != "user":
            name = item["original_name"] or item["name"]
            told.append("{}: the snapshot {} of the type {} is left out.".format(spec, name, item["type"]))
        elif _sound(told, "{}: the snapshot {!r}".format(spec, item["name"]), specs.check_name, item["name"]):
            found[item["name"]] = {"protected": True} if item["protected"] else {}
    return found


def write(path, text, told):
    """Write the pillar, as text, into a file that is not there yet; the warnings are its comments. Only root can read it.

    Raises :class:`Refused` for a file that is there, :class:`InvalidArgument`, :class:`CommandFailed`.
    """
    if not isinstance(path, str) or not os.path.isabs(path):
        raise InvalidArgument("The path must be absolute, not {}.".format(quoted(path)))
    # Without the first line Salt would take {{ in somebody's metadata for Jinja.
    lines = ["#!yaml", "# Written by rbd_image.export_pillar."] + ["# {}".format(" ".join(line.split())) for line in told]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused("{} exists already and is not written over.".format(path))
    except OSError as error:
        raise CommandFailed("{} cannot be written: {}.".format(path, error.strerror))
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n" + text)
