"""What is to be done for an image to be mapped or unmapped as declared, and what stands in the way."""

import re
from collections import namedtuple

from saltrbd import boot, device_fuse, device_krbd, device_nbd, device_users, dmcrypt, errors, fence, kernel, luks, owner, unlock
from saltrbd.converge import Plan, change
from saltrbd.device_find import DRIVERS, choose_driver, facts_of, find, on_host, snapshot_id, stale
from saltrbd.errors import quoted
from saltrbd.mapping import Mapping, link_is_right, link_path
from saltrbd.spec import Spec

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]*")
# Longer than any option of a driver.
_LONGEST = 256

_UNHOOKED = "{} was mapped without Ceph's quiesce hook: snapshots that others make of it are crash-consistent, until it is mapped anew."
# What earlier states of a dry run planned: what all units for the boot run is written anew.
PROGRAM = ("boot", "program")
# ``persist``: True, False, or None where the boot is left as it is.
# ``key``: luks.Key where the LUKS header of the image is to be opened.
Desired = namedtuple("Desired", "driver read_only exclusive options persist key", defaults=(None, None))


class Current(
    namedtuple(
        "Current",
        "image mapping verdict driver lacking users mend parents boot unit unlock",
        defaults=(None,) * 4 + ((),) * 3 + (None,) * 3,
    )
):
    """What is there: the image's facts (None: no image), its mapping, the owner.Verdict on a writable one (None where nothing
    is to be held), the driver that would be taken or what all that may be taken lack, who uses a faulty device, and what of a
    good mapping is to be mended ("link", "lock"), [(spec, features)] of the parents that the kernel would open too, the change that
    the boot needs and the unit that maps it at boot then (see :func:`look_boot`), the error that opening its LUKS header would meet
    (see ``unlock.look``)."""

    __slots__ = ()


def desired(settings, spec, driver=None, read_only=False, exclusive=True, options=None, persist=None, key=None):
    """Return the checked :class:`Desired`; raises :class:`InvalidArgument`. A snapshot is always read-only."""
    driver = driver or settings.driver
    if not isinstance(driver, str) or driver not in ("auto",) + tuple(DRIVERS):
        raise errors.InvalidArgument("The driver must be auto, krbd, nbd or fuse, not {}.".format(quoted(driver)))
    for name, value in (("read_only", read_only), ("exclusive", exclusive)):
        if not isinstance(value, bool):
            raise errors.InvalidArgument("{} must be True or False, not {}.".format(name, quoted(value)))
    if persist not in (None, True, False):
        raise errors.InvalidArgument("persist must be True or False, not {}.".format(quoted(persist)))
    if key and persist:
        raise errors.InvalidArgument("{} is encrypted, and its passphrase is not kept on this node: declare persist: False.".format(spec))
    chosen = _options(options)
    if chosen and driver == "auto":
        raise errors.InvalidArgument("Options belong to one driver; name it: driver: krbd, nbd or fuse.")
    if chosen:
        DRIVERS[driver].check(chosen)
    return Desired(driver, read_only or bool(spec.snapshot), exclusive, chosen, persist, key)


def _options(options):
    """Return options (a mapping, or a list of words) as [(key, value or None)] of plain words."""
    if options is None:
        return []
    if hasattr(options, "items"):
        pairs = list(options.items())
    elif isinstance(options, (list, tuple)) and all(isinstance(item, str) for item in options):
        pairs = [(key, value if mark else True) for key, mark, value in (item.partition("=") for item in options)]
    else:
        raise errors.InvalidArgument("options must be a mapping or a list of words, not {}.".format(quoted(options)))
    nameless = [quoted(key) for key, _ in pairs if not isinstance(key, str)]
    if nameless:
        raise errors.InvalidArgument("An option's name must be text, not {}; put it in quotes.".format(", ".join(sorted(nameless))))
    return [(_word(key, key), None if value is None or value is True else _word(key, value)) for key, value in pairs]


def _word(key, value):
    """Return the name or the value of an option as text; raises :class:`InvalidArgument`. What is refused may be a secret."""
    if value is False:
        return "off"  # what YAML makes of it
    if isinstance(value, (str, int, float)):
        try:
            text = str(value)
        except ValueError:  # Python refuses to write numbers of more than 4300 digits
            text = ""
        if len(text) <= _LONGEST and _WORD.fullmatch(text):
            return text
    raise errors.InvalidArgument(
        "The option {} is not made of plain words (letters, digits, . _ : / + -, at most {} of them).".format(quoted(key), _LONGEST)
    )


def look(ceph, spec, want, image, known=(), wait=True):
    """Return the :class:`Current` of ``spec`` for a mapping as wanted.

    ``image`` are the image's facts, None where there is no image; one that a dry run only plans has no id. ``known`` is what
    earlier states of a dry run planned. ``wait`` False: the caller holds the host's lock and maps the image next,
    which tries its passphrase.
    """
    current = Current(image)
    if image is None:
        return current
    needed, unit = look_boot(ceph, spec, want, image, known)
    current = current._replace(boot=needed, unit=unit)
    if image.get("id"):
        mapping = find(ceph, spec, image, wait)
        verdict = _verdict(ceph, spec, want, image, _served(mapping, image), known)
        current = current._replace(
            mapping=mapping,
            verdict=verdict,
            users=tuple(device_users.users(mapping)) if mapping and mapping.fault else (),
            mend=() if not mapping or mapping.fault else _mend(mapping, verdict),
        )
    if ("device", str(spec)) in known:
        planned = known[("device", str(spec))]
        mapping = _planned(spec, planned) if planned else None
        current = current._replace(mapping=mapping, mend=())
    if current.mapping and not current.mapping.fault:
        return current
    driver, lacking = choose_driver(want.driver)
    if want.key:
        lacking = lacking or (dmcrypt.lacking() if driver == "krbd" else None)
        current = current._replace(unlock=unlock.look(ceph, spec, want.key, image, known, tries=wait))
    return current._replace(driver=driver, lacking=lacking, parents=_parents(ceph, image, known) if driver == "krbd" else ())


def _planned(spec, facts):
    """Return the :class:`Mapping` that an earlier state of a dry run would make."""
    kind = (facts.get("encryption") or {}).get("format", "")
    return Mapping(spec, None, facts["driver"], facts["read_only"], None, encryption=kind)


def look_boot(ceph, spec, want, image, known=()):
    """Return (the change that makes the boot map the image, or not, as wanted, or None; the unit that maps it at boot then, or None).

    Where no systemd is there to do it, nothing is to be changed.
    """
    key = ("device", str(spec))
    if key in known:
        now = known[key]["at_boot"] if known[key] else None
        right = now is not None
    else:
        now = boot.unit_of(ceph.fsid, spec)
        record = boot.record(ceph.settings, ceph.fsid, spec, want, image.get("id"), snapshot_id(image, spec))
        right = boot.enabled(ceph.fsid, spec) == record and (PROGRAM in known or boot.program_is_right())
    if want.persist is None or (want.persist and (right or not boot.possible())):
        return None, now
    if not want.persist:
        return now and change(now, None), None
    name = boot.unit(link_path(ceph.fsid, spec))
    return change(now and now + ", outdated", name), name


def _parents(ceph, image, known):
    """Return [(spec, features)] of the image's parents, those in the trash too: by their ids, since another image may have the name."""
    found, known = [], dict(known)
    while image and image["parent"] and len(found) <= kernel.MAX_PARENTS:
        parent = image["parent"]
        spec = Spec(parent["pool"], parent["namespace"], parent["image"], "")
        image = known.get(("image", str(spec)))
        if not image or image["id"] != parent["id"]:
            # Without an id an earlier state of a dry run clones it from an image that is there: that one is found by its name.
            image = facts_of(ceph.batch([("image_info", dict(spec.where(), image_id=parent["id"]))])[0])
        if image:
            found.append((spec, image["features"]))
    return tuple(found)


def _served(mapping, image):
    if mapping is None:
        return ""
    if not recoverable(mapping, image):
        return "device"
    return "daemon" if mapping.pid or mapping.driver == device_krbd.NAME else ""


def _mend(mapping, verdict):
    """A run that was cut off may have left the link out, or the writer's address in the lock."""
    unnoted = verdict and verdict.ours and not verdict.holder.facts.get("address")
    return (() if link_is_right(mapping) else ("link",)) + (("lock",) if unnoted else ())


def _verdict(ceph, spec, want, image, served, known=()):
    if want.read_only:
        return None
    if want.exclusive:
        return owner.look(ceph, spec, image["id"], served, lambda watchers: fence.living(watchers, known), fence.is_released(spec, known))
    held = None if fence.is_released(spec, known) else owner.holder(ceph, spec, image["id"])
    if held and served:
        return owner.Verdict("{} is mapped exclusively, not with exclusive: False as declared; unmap it first.".format(spec))
    if held:
        return owner.Verdict(
            "{} is mapped exclusively by the host {} (address {}); unmap it there first.".format(
                spec, held.facts.get("host") or "without a name", held.facts.get("address") or held.address
            )
        )
    return None


def recoverable(mapping, image):
    """A daemon of ours that died, or got no device, or krbd without its LUKS header opened: what is left of it is cleared away and the
    image mapped again."""
    if mapping.driver == device_krbd.NAME:
        return mapping.fault == device_krbd.UNOPENED and mapping.image_id == image["id"]
    broken = mapping.pid is None or mapping.device is None
    return bool(mapping.fault) and mapping.driver in (device_fuse.NAME, device_nbd.NAME) and broken and mapping.image_id == image["id"]


def obstacles(spec, current, want, supported):
    """Return the errors that stand in the way of ``spec`` mapped as wanted, in a dry run and a real run; pure.

    ``supported`` are the features that the kernel maps.
    """
    image, mapping = current.image, current.mapping
    if image is None:
        return [errors.ImageNotFound("{} does not exist.".format(spec.head))]
    if spec.snapshot and not any(item["name"] == spec.snapshot for item in image["snapshots"]):
        return [errors.SnapshotNotFound("{} does not exist.".format(spec))]
    if mapping and mapping.fault and not recoverable(mapping, image):
        return [stale(mapping)]
    if mapping and mapping.fault and current.users:
        return [errors.Busy("{}; but {}.".format(str(stale(mapping)).rstrip("."), " and ".join(current.users)))]
    found = []
    if current.verdict and current.verdict.refusal:
        found.append(errors.Busy(current.verdict.refusal))
    if mapping and not mapping.fault:
        return _differences(spec, mapping, want) + found
    if current.lacking:
        return [errors.NotSupported("{}: {}".format(spec, current.lacking))] + found
    refusal = None
    if current.driver == "krbd":
        refusal = kernel.features_refusal(spec, image["features"], supported)
        refusal = refusal or kernel.parents_refusal(spec, current.parents, supported)
    return ([errors.NotSupported(refusal)] if refusal else []) + ([current.unlock] if current.unlock else []) + found


def _differences(spec, mapping, want):
    wrong = []
    if want.driver not in ("auto", mapping.driver):
        wrong.append("by {}, not by {}".format(mapping.driver, want.driver))
    if mapping.read_only != want.read_only:
        words = {True: "read-only", False: "writable"}
        wrong.append("{}, not {}".format(words[mapping.read_only], words[want.read_only]))
    opened, declared = mapping.encryption, want.key.format if want.key else ""
    if opened != declared:
        wrong.append(
            "{}, not {}".format(*("behind its {} header".format(kind) if kind else "as it is stored" for kind in (opened, declared)))
        )
    if not wrong:
        return []
    return [errors.Refused("{} is mapped {} as declared; unmap it first.".format(spec, " and ".join(wrong)))]


def plan(spec, current, want, supported):
    """Return the converge.Plan that maps ``spec`` as wanted; pure."""
    refusals = [str(error) for error in obstacles(spec, current, want, supported)]
    if refusals:
        return Plan(refusals=refusals)
    mapping = current.mapping
    good = mapping and not mapping.fault
    unhooked = good and mapping.quiesce == "" and device_nbd.wants_hook(want.options)
    notes = [_UNHOOKED.format(spec)] if unhooked else []
    if good and not current.mend and not current.boot:
        return Plan(notes=notes)
    driver = mapping.driver if good else current.driver
    new = _words(driver, want.read_only, want.key.format if want.key else "")
    changes = {"device": change(None if mapping is None else "{}, but {}".format(new, mapping.fault), new)}
    if good:
        mended = {"link": change(None, link_path(mapping.fsid, spec)), "lock": change("without the writer's address", "complete")}
        changes = {field: mended[field] for field in current.mend}
    if current.boot:
        changes["at_boot"] = current.boot
    notes += owner.locked_out(current.verdict)
    arguments = {
        "name": str(spec),
        "driver": want.driver,
        "read_only": want.read_only,
        "exclusive": want.exclusive,
        "options": dict(want.options) or None,
        "persist": want.persist,
    }
    planned = {"driver": driver, "read_only": want.read_only, "at_boot": current.unit}
    if want.key:
        arguments["encryption"] = planned["encryption"] = luks.reference(want.key)
    planned = {("device", str(spec)): planned}
    if current.boot and current.unit:
        planned[PROGRAM] = {}
    return Plan([("rbd_device.map", arguments)], {str(spec): changes}, (), planned, notes)


def _words(driver, read_only, encryption=""):
    words = "mapped {}by {}".format("read-only " if read_only else "", driver)
    return words + (" behind its {} header".format(encryption) if encryption else "")


def look_unmapped(ceph, spec, known=()):
    """Return (mapping, who uses its device, lock left without a mapping, unit that maps it at boot) for a plan to unmap ``spec``."""
    key = ("device", str(spec))
    mounted = [
        "an earlier state mounts it on {}".format(point)
        for (kind, point), facts in dict(known).items()
        if kind == "mount" and facts and facts["image"] == str(spec)
    ]
    if key in known:
        planned = known[key]
        if planned is None:
            return None, mounted, None, None
        return _planned(spec, planned), mounted, None, planned["at_boot"]
    at_boot = boot.unit_of(ceph.fsid, spec)
    image = facts_of(ceph.batch([("image_info", spec.head.where())])[0])
    mapping = find(ceph, spec, image)
    if mapping is None:
        return None, [], left_lock(ceph, spec, image["id"]) if image else None, at_boot
    gone = {point for (kind, point), facts in dict(known).items() if kind == "mount" and facts is None}
    return mapping, device_users.users(mapping, gone) or mounted, None, at_boot


def plan_unmapped(spec, mapping, users, left, at_boot=None):
    """Return the converge.Plan that unmaps ``spec``; ``at_boot`` is the unit that maps it at boot, or None; pure."""
    if mapping and users:
        return Plan(refusals=[str(used(mapping, users))])
    fields = {}
    if mapping:
        fields["device"] = change(_words(mapping.driver, mapping.read_only, mapping.encryption), None)
    elif left:
        fields["lock"] = change("held by this host", None)
    if at_boot:
        fields["at_boot"] = change(at_boot, None)
    if not fields:
        return Plan()
    return Plan([("rbd_device.unmap", {"name": str(spec)})], {str(spec): fields}, (), {("device", str(spec)): None})


def used(mapping, users):
    """Return the error that names who uses a device."""
    return errors.Busy("{} at {} cannot be unmapped: {}.".format(mapping.spec, mapping.device, " and ".join(users)))


def left_lock(ceph, spec, image_id):
    """Return the lock that this host holds on an image of which it has no writable device, or None."""
    if not image_id or spec.snapshot:
        return None
    if any(one.image_id == image_id and not one.read_only and one.fsid == ceph.fsid for one in on_host() if one.pid or not one.fault):
        return None
    held = owner.holder(ceph, spec, image_id)
    mine = owner.me(ceph.settings)
    return held if held and all(held.facts.get(key) == mine[key] for key in mine) else None
