"""Images as desired state: check what is declared, and plan from the current facts."""

from saltrbd import duration, features, size
from saltrbd import users as who
from saltrbd.converge import Plan, change
from saltrbd.errors import InvalidArgument, quoted

# Ceph takes an order from 12 (4 KiB) to 25 (32 MiB) for objects: rbd(8), --object-size.
MIN_OBJECT, MAX_OBJECT = 4 << 10, 32 << 20
# librbd refuses smaller ones.
MIN_STRIPE_UNIT = 512
# librbd makes no larger object map (cls_rbd's MAX_OBJECT_MAP_OBJECT_COUNT).
MAX_MAPPED_OBJECTS = 256000000
LAYOUT = ("object_size", "stripe_unit", "stripe_count", "data_pool")


def desired(
    image_size=None,
    image_features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    metadata=None,
    config=None,
):
    """Return the declaration with sizes in bytes; None is what is not declared. Raises InvalidArgument, InvalidSize."""
    want = {
        "size": None if image_size is None else size.parse(image_size),
        "features": features.declared(image_features),
        "object_size": None if object_size is None else size.parse(object_size, "object_size"),
        "stripe_unit": None if stripe_unit is None else size.parse(stripe_unit, "stripe_unit"),
        "stripe_count": _count(stripe_count),
        "data_pool": _text(data_pool, "data_pool"),
        "metadata": _texts(metadata, "metadata"),
        "config": _texts(config, "config"),
    }
    _check_layout(want)
    for key in want["config"] or ():
        if not key.startswith("rbd_"):
            raise InvalidArgument("The config key {} is not one of an image: they begin with rbd_.".format(quoted(key)))
    for key in want["metadata"] or ():
        if key.startswith("conf_"):
            raise InvalidArgument("The metadata key {} belongs to the image's config: declare it there.".format(quoted(key)))
    return want


def _check_layout(want):
    number, unit, count = want["object_size"], want["stripe_unit"], want["stripe_count"]
    if number is not None and (number & (number - 1) or not MIN_OBJECT <= number <= MAX_OBJECT):
        raise InvalidArgument("The object_size {} is not a power of two from 4K to 32M.".format(size.show(number)))
    if (unit is None) != (count is None):
        raise InvalidArgument("Declare stripe_unit and stripe_count together: one needs the other.")
    if unit is not None and unit < MIN_STRIPE_UNIT:
        raise InvalidArgument("The stripe_unit {} is less than {} bytes.".format(size.show(unit), MIN_STRIPE_UNIT))
    if unit is not None and (number or MAX_OBJECT) % unit:
        raise InvalidArgument(
            "The stripe_unit {} does not divide the object_size {}.".format(size.show(unit), size.show(number or MAX_OBJECT))
        )


def _count(value):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**32:
        raise InvalidArgument("The stripe_count must be a number of objects, 1 or more, not {}.".format(quoted(value)))
    return value


def _text(value, what):
    if value is None or (isinstance(value, str) and value):
        return value
    raise InvalidArgument("The {} must be a name, not {}.".format(what, quoted(value)))


def _texts(value, what):
    """Return a mapping of text to text; a None in it means that the key shall not be there."""
    if value is None:
        return None
    if not hasattr(value, "items"):
        raise InvalidArgument("The {} must be a mapping of keys to values, not {}.".format(what, quoted(value)))
    found = {}
    for key, item in value.items():
        if not isinstance(key, str) or not _storable(key):
            raise InvalidArgument("The {} has a key that is no text: {}.".format(what, quoted(key)))
        if isinstance(item, bool):
            item = "true" if item else "false"  # as Ceph writes them
        if item is not None and not isinstance(item, (int, float)) and not (isinstance(item, str) and _storable(item)):
            raise InvalidArgument("The {} of {} must be text or a number, and not empty, not {}.".format(what, quoted(key), quoted(item)))
        try:
            found[key] = None if item is None else str(item)
        except ValueError:
            raise InvalidArgument("The {} of {} is {}.".format(what, quoted(key), quoted(item)))
    return found


def _storable(text):
    """True for text that librbd keeps as it is: it cuts text at a NUL, and its bindings lose track of empty values."""
    try:
        return bool(text.encode("utf-8")) and "\0" not in text
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def names(value, what):
    """Return a list of names; text counts as names with commas between them, as the rbd command takes them."""
    found = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(name, str) and _storable(name) for name in found):
        raise InvalidArgument("The {} must be a list of names, not {}.".format(what, quoted(value)))
    return list(found)


def flag(value, what):
    """Return ``value`` if it is True or False, else raise :class:`InvalidArgument`: a text such as "no" counts as neither."""
    if not isinstance(value, bool):
        raise InvalidArgument("{} must be True or False, not {}.".format(what, quoted(value)))
    return value


def check_restore(value):
    """Return ``value`` if restore_from_trash can have it: None, True, False or an id."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise InvalidArgument("restore_from_trash must be True, False or an id in quotes, not {}.".format(quoted(value)))


def check_delay(value, trash=True):
    """Return how long the trash keeps an image in seconds, 0 for None; without the trash there is nothing to delay."""
    if value is not None and not trash:
        raise InvalidArgument("A delay is for the trash: leave out delay, or trash: False.")
    return 0 if value is None else duration.parse(value)


def plan_present(spec, current, want, allow_shrink=False, restore=None, trashed=(), defaults=None, encryption=None):
    """Return the :class:`Plan` that makes the image as declared.

    ``current``: the image's facts, None where it is absent; ``trashed``: the trash's entries of this name, each with
    the ``facts`` of its image; ``restore``: None, True, False or an id; ``defaults``: the cluster's facts, for what is
    not declared; ``encryption``: the argument of that name, for a shrink.
    """
    if current is not None:
        return plan_drift(spec, current, want, allow_shrink, encryption)
    if restore is not False and (trashed or isinstance(restore, str)):
        return plan_restore(spec, restore, trashed, lambda facts: plan_drift(spec, facts, want, allow_shrink, encryption))
    if want["size"] is None:
        return Plan(refusals=["{} does not exist, and no size is declared to create it with.".format(spec)])
    refused = layout_refusals(spec, planned_facts(want, defaults))
    if refused:
        return Plan(refusals=refused)
    arguments = {key: value for key, value in want.items() if value is not None}
    for key in ("metadata", "config"):
        arguments[key] = {name: value for name, value in (want[key] or {}).items() if value is not None}
    facts = planned_facts(want, defaults)
    return Plan(
        steps=[("rbd_image.create", dict(arguments, name=str(spec)))],
        changes={str(spec): creation(want)},
        planned={("image", str(spec)): facts},
    )


def layout_refusals(spec, facts):
    """Return why an image with these facts cannot be: its stripe unit does not fit, or it needs too large an object map."""
    refused = []
    if facts["object_size"] % facts["stripe_unit"]:
        refused.append(
            "{}: the stripe_unit {} does not divide the object_size {}.".format(
                spec, size.show(facts["stripe_unit"]), size.show(facts["object_size"])
            )
        )
    if "object-map" in facts["features"] and facts["size"] > MAX_MAPPED_OBJECTS * facts["object_size"]:
        refused.append(
            "{}: {} is too large for the feature object-map with objects of {}: Ceph maps {} of them at most.".format(
                spec, size.show(facts["size"]), size.show(facts["object_size"]), MAX_MAPPED_OBJECTS
            )
        )
    return refused


def missing_places(spec, want, cluster, namespaces):
    """Return why the image cannot be made where it is declared: its namespace or data pool does not exist.

    ``namespaces(pool)`` returns a pool's namespaces. (A pool that does not exist is an error of the first reading.)
    """
    refused = []
    if spec.namespace and spec.namespace not in namespaces(spec.pool):
        refused.append("{0}: the namespace {1.pool}/{1.namespace} does not exist.".format(spec, spec))
    if want["data_pool"] and want["data_pool"] not in cluster["all_pools"]:
        refused.append("{}: the data pool {} does not exist.".format(spec, want["data_pool"]))
    return refused


def unknown_config(spec, current, want, known_keys):
    """Return why the declared config cannot be set: keys that Ceph does not have. ``known_keys(pool)`` returns those it has."""
    have = current["config"] if current else {}
    ask = sorted(key for key, value in (want["config"] or {}).items() if value is not None and key not in have)
    there = known_keys(spec.pool) if ask else ()
    return ["{}: Ceph has no config key {} for images.".format(spec, quoted(key)) for key in ask if key not in there]


def creation(want):
    """Return the changes of an image that is made."""
    fields = {"image": change(None, "present")}
    for key, value in want.items():
        if key in ("metadata", "config"):
            value = {name: item for name, item in (value or {}).items() if item is not None}
        if value:
            fields[key] = change(None, size.show(value) if key in ("size", "object_size", "stripe_unit") else value)
    return fields


def planned_facts(want, defaults=None, parent=None):
    """Return the facts that an image made as declared will have, as far as a dry run can know."""
    names = want["features"]
    if names is None:
        names = features.from_default((defaults or {}).get("default_features", ""))
    number = want["object_size"] or 1 << (defaults or {}).get("default_order", 22)
    return {
        "id": None,
        "size": want["size"],
        "features": names,
        "flags": [],
        "object_size": number,
        "stripe_unit": want["stripe_unit"] or number,
        "stripe_count": want["stripe_count"] or 1,
        "data_pool": want["data_pool"] or "",
        "parent": parent,
        "clone_format": None,
        "metadata": {key: value for key, value in (want["metadata"] or {}).items() if value is not None},
        "config": {key: value for key, value in (want["config"] or {}).items() if value is not None},
        "snapshots": [],
        "watchers": [],
        "locks": [],
        "group": None,
    }


def restored(restore, trashed):
    """Return the one of the trash's entries that ``restore`` (True or an id) brings back, None where there is none, or no one."""
    chosen = [entry for entry in trashed if restore is True or entry["id"] == restore]
    return chosen[0] if len(chosen) == 1 else None


def plan_restore(spec, restore, trashed, drift_from):
    """Return the :class:`Plan` that brings the image back from the trash, or the refusal where that is not declared.

    ``drift_from(facts)`` is the plan that brings the image with these facts to what is declared.
    """
    listed = ", ".join("id {id}".format(**item) for item in trashed) or "none"
    if restore is None:
        return Plan(
            refusals=[
                "{0} does not exist, but an image of that name lies in the trash ({1}). Declare restore_from_trash: True "
                "to bring it back, or restore_from_trash: False to make a new one.".format(spec, listed)
            ]
        )
    entry = restored(restore, trashed)
    if entry is None:
        found = "{} images of that name lie in the trash".format(len(trashed))
        if restore is not True:
            found = "no image of that name with the id {} lies in the trash".format(quoted(restore))
        return Plan(
            refusals=["{}: {} ({}). Declare restore_from_trash: ID with the id of the one to bring back.".format(spec, found, listed)]
        )
    drift = drift_from(entry["facts"])
    if drift.refusals:
        return drift
    fields = {"image": change("in the trash", "present")}
    fields.update(drift.changes.get(str(spec), {}))
    steps = [("rbd_image.restore", {"name": str(spec), "image_id": entry["id"]})] + drift.steps
    facts = drift.planned.get(("image", str(spec)), entry["facts"])
    planned = {("image", str(spec)): facts, ("trash", str(spec)): None}
    return Plan(steps=steps, changes={str(spec): fields}, planned=planned)


def plan_drift(spec, current, want, allow_shrink=False, encryption=None):
    """Return the :class:`Plan` that brings an image that exists to what is declared."""
    name, fields, steps, refused, facts = str(spec), {}, [], [], dict(current)
    for key in LAYOUT:
        if want[key] is not None and want[key] != current[key]:
            show = str if key in ("stripe_count", "data_pool") else size.show
            words = "{}: {} is {} and cannot be changed to {} after the image was created. {}, or make a new image and copy the data."
            have = show(current[key])
            keep = "Declare " + have if have else "Leave {} out".format(key)
            refused.append(words.format(spec, key, have or "none", show(want[key]), keep))
    _plan_features(spec, current, want, fields, steps, refused, facts)
    if want["size"] is not None and want["size"] != current["size"]:
        old, new = size.show(current["size"]), size.show(want["size"])
        if want["size"] < current["size"] and not allow_shrink:
            refused.append(
                "{}: it has {}, and shrinking it to {} would cut off data. Declare allow_shrink: True to do it.".format(spec, old, new)
            )
        fields["size"] = change(old, new)
        shrinks = want["size"] < current["size"]
        arguments = {"name": name, "size": want["size"], "allow_shrink": shrinks}
        steps.append(("rbd_image.resize", dict(arguments, encryption=encryption) if shrinks and encryption else arguments))
        facts["size"] = want["size"]
    for key in ("metadata", "config"):
        put = {item: value for item, value in (want[key] or {}).items() if value is not None and current[key].get(item) != value}
        remove = sorted(item for item, value in (want[key] or {}).items() if value is None and item in current[key])
        for item in sorted(put) + remove:
            fields["{}.{}".format(key, item)] = change(current[key].get(item), put.get(item))
        if put or remove:
            steps.append(("rbd_image.set_" + key, {"name": name, "put": put, "remove": remove}))
            facts[key] = {item: value for item, value in dict(current[key], **put).items() if item not in remove}
    if "size" in fields or "features" in fields:
        refused += layout_refusals(spec, facts)
    changes = {name: fields} if fields else {}
    if refused:
        return Plan(changes=changes, refusals=refused)
    return Plan(steps=steps, changes=changes, planned={("image", name): facts} if fields else {})


def _plan_features(spec, current, want, fields, steps, refused, facts):
    if want["features"] is None:
        return
    have = features.visible(current["features"])
    refused.extend(features.refusals(spec, have, want["features"]))
    disable, enable = features.moves(have, want["features"])
    if disable or enable:
        fields["features"] = change(have, want["features"])
        steps.append(("rbd_image.set_features", {"name": str(spec), "enable": enable, "disable": disable}))
        facts["features"] = sorted(set(current["features"]) - set(disable) | set(enable))
    stale = bool(current["flags"]) and "object-map" in want["features"] and "object-map" in have
    if stale:
        fields["flags"] = change(current["flags"], [])
        facts["flags"] = []
    if stale or "object-map" in enable or "fast-diff" in enable:
        # A map that was enabled again is not valid before it was rebuilt, and librbd then walks every object.
        steps.append(("rbd_image.rebuild_object_map", {"name": str(spec)}))


def plan_absent(spec, current, trash=True, delay=0):
    """Return the :class:`Plan` that removes the image, or every reason against it.

    ``current`` carries ``watchers``, ``locks``, ``group`` and each snapshot's ``children``; ``delay`` are the seconds that the trash
    keeps it.
    """
    if current is None:
        return Plan()
    fields = {"image": change("present", "in the trash" if trash else None)}
    arguments = {"name": str(spec), "image_id": current["id"]}
    if trash and delay:
        fields["kept_for"] = change(None, duration.show(delay))
        arguments["delay"] = delay
    blocked = in_the_way(current, spec, trash)
    if blocked:
        told = "{} is not removed. In the way are: {}.{}".format(spec, "; ".join(blocked), who.hints(current))
        return Plan(changes={str(spec): fields}, refusals=[told])
    planned = {("image", str(spec)): None}
    if trash:
        planned["trash", str(spec)] = {"name": spec.image, "id": current["id"], "facts": current, "source": "USER", "delay": delay}
    step = "rbd_image.trash" if trash else "rbd_image.remove"
    return Plan(steps=[(step, arguments)], changes={str(spec): fields}, planned=planned)


def in_the_way(current, spec, trash=False):
    """Return what stands in the way of a removal of the image with these facts, as words: who uses it, what hangs on it."""
    blocked = ["the clone {}".format(child_name(child)) for item in current["snapshots"] for child in item.get("children", ())]
    blocked += users(current)
    blocked += [device for item in current["snapshots"] for device in item.get("devices", ())]
    if not trash:
        blocked += [_snapshot_in_the_way(spec, item) for item in current["snapshots"]]
        blocked += ["the group {} of images".format(current["group"])] if current["group"] else []
    if "migrating" in current["features"]:
        blocked.append("its migration")
    return sorted(set(blocked))


def left_in_trash(spec, entries):
    """Return a sentence about the trash's entries of an image's name: moved there on purpose, or left by a removal cut off midway."""
    ids = ", ".join("id {id}".format(**item) for item in entries if item["name"] == spec.image)
    text = "In the trash lies still an image of that name ({}); 'rbd trash rm {}/ID' ends a removal that was cut off."
    return [text.format(ids, "/".join(part for part in (spec.pool, spec.namespace) if part))] if ids else []


def users(current):
    """Return who uses the image with these facts, as words."""
    found = list(current.get("devices", ()))
    found += ["the user " + who.words(item) for item in current["watchers"]]
    return found + ["the lock '{cookie}' held by {client} at {address}".format(**item) for item in current["locks"]]


def bound(current):
    """Return what else has its hand on the content of the image with these facts, as words."""
    words = {"migrating": "its migration", "non-primary": "its mirroring: the primary image lies in another cluster"}
    return [word for feature, word in words.items() if feature in current["features"]]


def _snapshot_in_the_way(spec, item):
    if item["type"] == "trash":
        return "the snapshot {}@{} in Ceph's trash for snapshots".format(spec, item["original_name"])
    if item["type"] == "unfinished":
        return "the unfinished snapshot {}@{}".format(spec, item["name"])
    if item["type"] != "user":
        return "the snapshot {} of the type {}".format(item["name"], item["type"])
    return "the {}snapshot {}@{}".format("protected " if item["protected"] else "", spec, item["name"])


def child_name(child):
    """Return a clone's name for people: ``pool/namespace/image``, and that it lies in the trash."""
    name = "/".join(part for part in (child["pool"], child["namespace"], child["image"]) if part)
    return "{} (in the trash, id {})".format(name, child["id"]) if child["trash"] else name
