"""What the state tree ``salt/rbd`` declares for the volumes and clones of the pillar: names, arguments, requisites."""

import glob


def layout(entries, namespaces=()):
    """Return ``{KIND: [...]}``, KIND being namespaces, images, clones, encryption, devices, filesystems, mounts and snapshots.

    Each item has ``id``, ``function`` (the state), ``arguments`` and ``require`` (a list of {state module: id}). A clone
    comes after its parent's snapshot, a snapshot after the mount that it freezes. Snapshots of images without a mount
    are gathered, those of one name in one state: the monitor hands out snapshot ids once a second, to all who wait.
    """
    places = {place: _id("namespace", place) for place in namespaces}
    makers = {entry["spec"]: _maker(entry) for entry in entries}
    mounts = {entry["mount"]: _id("mount", entry["mount"]) for entry in entries if entry["mount"]}
    snapshots, taken_by = _snapshots(entries, makers)
    kinds = ("images", "clones", "encryption", "devices", "filesystems", "mounts")
    found = dict({kind: [] for kind in kinds}, snapshots=snapshots)
    found["namespaces"] = [_item(identity, "rbd_namespace.present", [], name=str(place)) for place, identity in places.items()]
    for entry in entries:
        found["clones" if entry["clone"] else "images"].append(_image(entry, taken_by, places))
        if _is_formatted(entry):
            found["encryption"].append(_encryption(entry))
        if entry["mount"]:
            found["devices"].append(_device(entry, makers[entry["spec"]]))
            if not entry["clone"]:
                found["filesystems"].append(_filesystem(entry))
            found["mounts"].append(_mount(entry, mounts))
    return found


def _id(kind, name):
    return "rbd {} {}".format(kind, name)


def _is_formatted(entry):
    """A clone has its parent's LUKS header."""
    return bool(entry["encryption"]) and not entry["clone"]


def _maker(entry):
    if _is_formatted(entry):
        return _needs("rbd_encryption", _id("encryption", entry["spec"]))
    kind = "clone" if entry["clone"] else "image"
    return _needs("rbd_" + kind, _id(kind, entry["spec"]))


def _needs(module, identity):
    """Return the requisite on one state. Salt takes *, ? and [ in a requisite for a pattern, and Ceph takes them in a name."""
    return {module: glob.escape(identity)}


def _item(identity, function, require, **arguments):
    given = {key: value for key, value in arguments.items() if value is not None}
    return {"id": identity, "function": function, "arguments": given, "require": require}


def _image(entry, taken_by, places):
    name, place = str(entry["spec"]), entry["spec"]._replace(image="")
    require = [_needs("rbd_namespace", places[place])] if place in places else []
    if not entry["clone"]:
        key = entry["encryption"] if entry["image"].get("allow_shrink") else None
        return _item(_id("image", name), "rbd_image.present", require, name=name, encryption=key, **entry["image"])
    require += [taken_by[entry["parent"]]] if entry["parent"] in taken_by else []
    return _item(_id("clone", name), "rbd_clone.present", require, name=name, parent=str(entry["parent"]), **entry["image"])


def _encryption(entry):
    name = str(entry["spec"])
    made = [_needs("rbd_image", _id("image", name))]
    return _item(_id("encryption", name), "rbd_encryption.formatted", made, name=name, encryption=entry["encryption"])


def _device(entry, maker):
    name = str(entry["spec"])
    return _item(
        _id("device", name),
        "rbd_device.mapped",
        [maker],
        name=name,
        driver=entry["driver"],
        options=entry["map_options"],
        exclusive=entry["exclusive"],
        encryption=entry["encryption"],
        persist=entry["persist"],
    )


def _filesystem(entry):
    name = str(entry["spec"])
    return _item(
        _id("filesystem", name),
        "rbd_filesystem.formatted",
        [_needs("rbd_device", _id("device", name))],
        name=name,
        fs_type=entry["fs_type"],
        label=entry["label"],
        mkfs_options=entry["mkfs_options"],
    )


def _mount(entry, mounts):
    name = str(entry["spec"])
    before = _needs("rbd_device", _id("device", name)) if entry["clone"] else _needs("rbd_filesystem", _id("filesystem", name))
    outer = [_needs("rbd_filesystem", identity) for mount, identity in sorted(mounts.items()) if entry["mount"].startswith(mount + "/")]
    return _item(
        mounts[entry["mount"]],
        "rbd_filesystem.mounted",
        [before] + outer,
        name=entry["mount"],
        image=name,
        fs_type=entry["fs_type"],
        mount_options=entry["mount_options"],
        persist=entry["persist"],
        grow=entry["grow"],
    )


def _snapshots(entries, makers):
    """Return (the states, {snapshot spec: the requisite of the state that makes it})."""
    states, taken_by, gathered = [], {}, {}
    for entry in entries:
        for name, options in entry["snapshots"].items():
            spec = entry["spec"].at(name)
            if not entry["mount"]:
                gathered.setdefault((entry["level"], name, options["protected"], options["consistency"]), []).append(spec)
                continue
            identity = _id("snapshot", spec)
            taken_by[spec] = _needs("rbd_snapshot", identity)
            require = [_needs("rbd_filesystem", _id("mount", entry["mount"]))]
            states.append(_snapshot(identity, options["protected"], require, name=str(spec), consistency=options["consistency"]))
    for (level, name, protected, consistency), specs in sorted(gathered.items()):
        identity = _id("snapshots", "{} {}{} {}".format(name, consistency, " protected" if protected else "", level))
        for spec in specs:
            taken_by[spec] = _needs("rbd_snapshot", identity)
        require = [makers[spec.head] for spec in specs]
        images = [str(spec.head) for spec in specs]
        states.append(_snapshot(identity, protected, require, name=name, images=images, consistency=consistency))
    return states, taken_by


def _snapshot(identity, protected, require, **arguments):
    return _item(identity, "rbd_snapshot.protected" if protected else "rbd_snapshot.present", require, **arguments)
