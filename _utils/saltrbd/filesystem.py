"""The filesystem in an image: what is there, what an earlier state of a dry run would put there, and the plan for it.

The decision of ``rbd_filesystem.formatted``, in :func:`plan`:

    not mapped                            refuse
    mounted           declared type       it is there (the kernel has checked it) : refuse
    mkfs was killed   not mounted since   check passes: take the mark away : make it again
    declared type     its check passes    it is there : refuse
    anything else is there                refuse
    nothing           proven blank        make it : refuse
"""

from saltrbd import blank, device_find, errors, fscheck, killed, loop, luks, mkfs, proc, signature, superblock, xfs_uuid
from saltrbd.converge import Plan, change
from saltrbd.size import show
from saltrbd.spec import Spec

MIN_XFS = 300 << 20  # mkfs.xfs makes none below since xfsprogs 5.19
LATE = " It may be what a killed mkfs.{} left: too long ago, or before a snapshot, to be sure of it."
REPLAY = "Its journal waits to be replayed, as after a crash or in a snapshot of a mounted filesystem; the next mount does that."


def look(ceph, spec, check=True, image_id=None, wait=True, key=None):
    """Return the facts of the filesystem in an image or snapshot as a dict; raises ImageNotFound, SnapshotNotFound, StaleMapping.

    Keys: image, image_id, image_size (bytes), parent (the image's, or None), device (None: not mapped here), device_number,
    device_size, read_only; signature (text for people, or None), fs_type, label, uuid, size (bytes of the filesystem); mounts (list of
    mount points on this host); state (mounted, clean, unclean, damaged, or None without a filesystem or a check); damage
    (the check's words); mark (of a mkfs that was not seen to end), used (mounted since then);
    not_blank (why no filesystem may be made, None where one may); renewed (a clone's xfs has got a UUID of its own), twin (where a
    filesystem with the same UUID is mounted); encryption (the LUKS format behind which the device shows the image, or empty), offset (bytes
    of the image before what it shows; image_size is without them).

    ``check`` False reads no more than who is there: no check, no proof of blankness. ``image_id``: of an image in the trash.
    ``wait`` False: the caller holds the host's lock on the image. ``key`` (``luks.Key``) shows what lies behind the LUKS header of an
    image that is not mapped.
    """
    image = ceph.call("image_info", spec.head, image_id=image_id)
    mapping = None if image_id else device_find.find(ceph, spec, image, wait)
    if mapping and mapping.fault:
        raise device_find.stale(mapping)
    facts = nothing(_size(spec, image))
    facts.update(image=str(spec), image_id=image["id"], parent=image["parent"])
    facts["renewed"] = xfs_uuid.is_renewed(image)
    facts["mark"] = None if spec.snapshot else _plain(mkfs.mark_of(image))
    facts["late"] = bool(facts["mark"]) and killed.is_late(image, facts["mark"]["time"])
    if mapping is None:
        _through_librbd(ceph, spec, facts, image, image_id, key)
        return facts
    facts["offset"] = luks.offset_of(ceph, mapping, facts["image_size"])
    facts.update(encryption=mapping.encryption, image_size=facts["image_size"] - facts["offset"])
    facts.update(device=mapping.device, device_size=loop.size_of(mapping.device), read_only=mapping.read_only)
    facts["device_number"] = device_number(mapping.device)
    mounts = mounts_of(mapping.device)
    if mounts:
        _mounted(ceph, mapping, mounts, facts)
        return facts
    _unmounted(ceph, mapping, facts, check)
    return facts


def _size(spec, image):
    if not spec.snapshot:
        return image["size"]
    for item in image["snapshots"]:
        if item["name"] == spec.snapshot and item["type"] == "user":
            return item["size"]
    raise errors.SnapshotNotFound("The snapshot {} does not exist.".format(spec))


def nothing(size):
    """Return the facts of an image of ``size`` bytes without any content, as one that was just created."""
    facts = dict.fromkeys(
        ("image", "image_id", "parent", "device", "device_number", "device_size", "signature", "fs_type", "label", "uuid", "size", "state")
    )
    facts.update(image_size=size, read_only=False, mounts=[], damage="", mark=None, used=False, not_blank=None, renewed=False, twin=None)
    facts.update(encryption="", offset=0)
    return facts


def _plain(mark):
    return mark and dict(mark._asdict())


def mounts_of(device):
    """Return the mounts (``proc.Mount``) of a block device on this host: known by its number, never by a path."""
    number = device_number(device)
    return [mount for mount in proc.mounts() if mount.device == number]


def device_number(device):
    """Return "major:minor" of a block device, read from sysfs."""
    with open("/sys/class/block/{}/dev".format(device.rpartition("/")[2])) as file:
        return file.read().strip()


def _through_librbd(ceph, spec, facts, image, image_id, key):
    """An image that is not mapped: both ends of it are read, which show every signature."""
    if key:
        told = ceph.call("image_unlock", spec, encryption=key.argument(), ends=signature.ENDS, image_id=image_id)
        facts.update(encryption=key.format, offset=facts["image_size"] - told["size"], image_size=told["size"])
        found, data = signature.probe_blocks(ceph, spec, told["size"], told["blocks"])
    else:
        found, data = signature.probe_image(ceph, spec, facts["image_size"], image_id)
    _found(facts, found, superblock.parse(data))
    if found is None:
        told = dict(ceph.call("image_blank", spec.head, image_id=image_id), **({"first_used": told["first_used"]} if key else {}))
        if facts["parent"]:
            facts["not_blank"] = "it is a clone of {pool}/{image}@{snapshot}".format(**facts["parent"])
        elif told["migrating"]:
            facts["not_blank"] = "it is being migrated"
        elif key and not luks.is_ours(luks.read(ceph, spec, _size(spec, image), image_id), luks.mark_of(image)):
            facts["not_blank"] = luks.FOREIGN
        elif told["first_used"] is not None and not remnant(facts):
            facts["not_blank"] = (blank.data_at(told["first_used"], "DEVICE", "when it is mapped ") + "." + _doubt(facts)).rstrip(".")


def _mounted(ceph, mapping, mounts, facts):
    facts.update(mounts=[mount.point for mount in mounts], fs_type=mounts[0].fs_type, signature=mounts[0].fs_type, state="mounted")
    facts["used"] = True
    facts.update(superblock.of_mounted(mapping.device, mounts[0], ceph.settings.timeout))


def _unmounted(ceph, mapping, facts, check):
    limit = ceph.settings.timeout
    found = signature.probe(mapping.device, limit)
    block = superblock.read(mapping.device, limit)
    _found(facts, found, block)
    if facts["fs_type"] == "xfs":
        facts["twin"] = xfs_uuid.mounted_twin(facts["uuid"], facts["device_number"])
    if not check:
        return
    mark = facts["mark"]
    if facts["fs_type"] in ("ext4", "xfs"):
        result = fscheck.check(mapping.device, facts["fs_type"], ceph.settings.progress_timeout, bool(mark), block)
        facts.update(state=result.state, damage=result.text, used=facts["used"] or result.state == "unclean")
    if found is None or remnant(facts):
        facts["not_blank"] = _why_not_blank(ceph, mapping, facts, content=not remnant(facts))


def _found(facts, found, block):
    if found is None:
        return
    facts.update(signature=found.text, fs_type=found.kind, label=found.label, uuid=found.uuid)
    if block and block.fs_type == found.kind:
        facts.update(size=block.size, used=block.used)
    elif found.kind in ("ext4", "xfs"):
        facts["used"] = True  # its superblock makes no sense to us, so nothing tells that it was never mounted


def remnant(facts):
    """Tell whether the content is what a killed mkfs of ours left: by its UUID, never mounted, and not whole."""
    mark = facts["mark"]
    if mark is None or facts["used"] or facts["state"] == "clean":
        return False
    if facts["signature"] is None:
        return not facts.get("late")
    return (facts["fs_type"], facts["uuid"]) == (mark["fs_type"], mark["uuid"])


def _why_not_blank(ceph, mapping, facts, content):
    try:
        blank.prove(ceph, mapping, content, exact=False)
    except errors.NotBlank as error:
        return str(error) + (_doubt(facts) if error.data else "")
    return None


def _doubt(facts):
    return LATE.format(facts["mark"]["fs_type"]) if facts["mark"] else ""


def expected(spec, known, ask, encryption=None):
    """Return the facts of :func:`look` as they will be when a state runs; raises ImageNotFound.

    ``known`` is from ``converge.planned`` (empty in a real run), ``ask(spec, image_id, encryption)`` returns the facts of now, None for
    an image that does not exist; ``image_id`` is None, or that of an image which an earlier state would bring back from the trash;
    ``encryption`` is None, or the argument of that name with which an earlier state would map the image.
    """
    name = str(spec)
    encryption = (known.get(("device", name)) or {}).get("encryption") or encryption
    image = known.get(("image", str(spec.head)), False)
    if image is None:
        raise errors.ImageNotFound("{} will not exist: an earlier state of this run removes it.".format(spec.head))
    if spec.snapshot and known.get(("snapshot", name), True) is None:
        raise errors.SnapshotNotFound("{} will not exist: an earlier state of this run removes it.".format(spec))
    facts = _of_planned_snapshot(spec, known, ask, encryption) or _of_planned_header(spec, known, ask, encryption)
    facts = facts or ask(spec, None, encryption)
    if facts is None and image and image.get("id"):
        facts = ask(spec, image["id"], encryption)
    if facts is None:
        if not image:
            raise errors.ImageNotFound("{} does not exist; declare rbd_image.present or rbd_clone.present.".format(spec.head))
        facts = _of_new(spec, image, known, ask, encryption)
    if image and not spec.snapshot:
        facts["image_size"] = image["size"] - facts["offset"]
    if ("filesystem", name) in known:
        made = known[("filesystem", name)]
        facts.update(fs_type=made["fs_type"], signature=made["fs_type"], label=made["label"], size=made["size"], mark=None, damage="")
        facts["state"] = facts["state"] if facts["mounts"] else "clean"
    if ("device", name) in known:
        device = known[("device", name)]
        facts["device"] = (facts["device"] or "its device") if device else None
        facts["read_only"] = bool(device and device["read_only"])
    for (kind, point), mount in known.items():
        if kind == "mount" and mount is None:
            facts["mounts"] = [other for other in facts["mounts"] if other != point]
        elif kind == "mount" and mount["image"] == name:
            facts["mounts"] = facts["mounts"] + [point] * (point not in facts["mounts"])
    return facts


def _of_planned_header(spec, known, ask, encryption):
    """The facts of an image that this dry run would encrypt and open: nothing lies behind the new header; None for any other."""
    planned = known.get(("encryption", str(spec)))
    if not planned or not encryption:
        return None
    image = known.get(("image", str(spec))) or ask(spec, None, None)
    facts = nothing(image["size" if "object_size" in image else "image_size"] - planned["offset"])
    facts.update(image=str(spec), encryption=planned["format"], offset=planned["offset"])
    return facts


def _of_planned_snapshot(spec, known, ask, encryption):
    """The facts of a snapshot that this dry run would take, None for any other: it shows what its image will show."""
    if not spec.snapshot or ("snapshot", str(spec)) not in known:
        return None
    try:
        if ask(spec, None, encryption):
            return None  # it is there already, the dry run only protects it
    except errors.SnapshotNotFound:
        pass
    seen = expected(spec.head, known, ask, encryption)
    facts = nothing(seen["image_size"])
    facts.update(
        (key, seen[key]) for key in ("image_id", "parent", "signature", "fs_type", "label", "uuid", "size", "encryption", "offset")
    )
    facts.update(image=str(spec), state="unclean" if seen["fs_type"] else None)
    return facts


def _of_new(spec, image, known, ask, encryption):
    """The facts of an image that this dry run would create: a clone shows what its parent will show."""
    facts = nothing(image["size"])
    facts.update(image=str(spec), parent=image["parent"])
    if not image["parent"]:
        return facts
    parent = Spec(*(image["parent"][key] for key in ("pool", "namespace", "image")), "")
    facts["not_blank"] = "it is a clone of {}".format(parent.at(image["parent"]["snapshot"]))
    seen = expected(parent, known, ask, encryption)
    facts.update((key, seen[key]) for key in ("signature", "fs_type", "label", "uuid", "size", "encryption", "offset"))
    facts["image_size"] -= facts["offset"]
    facts["state"] = "unclean" if seen["fs_type"] else None
    return facts


def plan(spec, facts, wanted):
    """Return the :class:`Plan` for a filesystem as ``wanted`` (``mkfs_options.desired``); pure."""
    if facts["device"] is None:
        return Plan(refusals=["{} is not mapped on this host; declare rbd_device.mapped before its filesystem.".format(spec)])
    if remnant(facts):
        return _make(spec, facts, wanted, "what a killed mkfs.{} left".format(facts["mark"]["fs_type"]))
    if facts["signature"] is None:
        return _make(spec, facts, wanted, None)
    refusal = _unfit(spec, facts, wanted)
    return Plan(refusals=[refusal]) if refusal else _keep(spec, facts, wanted)


def _unfit(spec, facts, wanted):
    if facts["fs_type"] != wanted.fs_type:
        where = " and is mounted on {}".format(facts["mounts"][0]) if facts["mounts"] else ""
        return (
            "{} carries {}{}, not {}. No filesystem is made over it. If nothing in it is needed, move the image to the trash and "
            "declare a new one, or discard all of it: blkdiscard {}.".format(
                spec, facts["signature"], where, wanted.fs_type, facts["device"]
            )
        )
    if facts["state"] == "damaged":
        return "The {} of {} does not pass its check: {}. Repair it, or roll the image back to a snapshot.".format(
            facts["fs_type"], spec, facts["damage"]
        )
    return None


def _make(spec, facts, wanted, old):
    if facts["not_blank"]:
        text = facts["not_blank"]
        return Plan(refusals=[text if text.startswith(str(spec)) else "{} gets no filesystem: {}.".format(spec, text)])
    if facts["read_only"]:
        return Plan(refusals=["{} gets no filesystem: it is mapped read-only.".format(spec)])
    if wanted.fs_type == "xfs" and facts["image_size"] < MIN_XFS:
        text = "{} has {}, and xfs wants {} or more; grow it, or declare ext4."
        return Plan(refusals=[text.format(spec, show(facts["image_size"]), show(MIN_XFS))])
    fields = {"filesystem": change(old, wanted.fs_type)}
    if wanted.label:
        fields["label"] = change(None, wanted.label)
    options = [word for pair in wanted.options for word in pair]
    arguments = {"name": str(spec), "fs_type": wanted.fs_type, "label": wanted.label, "mkfs_options": options}
    return Plan(
        [("rbd_filesystem.format", arguments)],
        {str(spec): fields},
        planned=_planned(spec, wanted.fs_type, wanted.label or "", facts["image_size"]),
    )


def _keep(spec, facts, wanted):
    fields, steps, label = {}, [], facts["label"]
    if facts["mark"]:
        fields["filesystem"] = change("{}, not yet checked".format(facts["fs_type"]), facts["fs_type"])
        steps.append(("rbd_filesystem.settle", {"name": str(spec)}))
    if wanted.label is not None and wanted.label != label:
        if facts["read_only"]:
            return Plan(refusals=["The label of {} cannot become {!r}: it is mapped read-only.".format(spec, wanted.label)])
        fields["label"] = change(label, wanted.label)
        steps.append(("rbd_filesystem.relabel", {"name": str(spec), "label": wanted.label}))
        label = wanted.label
    notes = [REPLAY] if facts["state"] == "unclean" else []
    return Plan(steps, {str(spec): fields} if fields else {}, planned=_planned(spec, facts["fs_type"], label, facts["size"]), notes=notes)


def _planned(spec, fs_type, label, size):
    return {("filesystem", str(spec)): {"fs_type": fs_type, "label": label, "size": size}}
