"""Encrypting a blank image: what is there, the plan, and the format, so that one that was killed is known for what it is.

The decision of ``rbd_encryption.formatted``, in :func:`plan`:

    no image                                      refuse
    a LUKS header      of the declared format     it is there : refuse
    a format was cut off, nothing behind it yet   write it again
    anything else is there                        refuse
    nothing            no parent, nobody uses it  write it : refuse

Before the header is written a mark goes into the image's metadata (``luks.MARK``), and the header's UUID into the mark when it
is written. With that UUID the header counts as part of a blank image, and a filesystem may be made behind it.
"""

import time

from saltrbd import device_find, errors, hostlock, killed, luks, owner, signature
from saltrbd.converge import Plan, change
from saltrbd.size import show

# What is written is of no use without room for data behind it; librbd would take any image that holds the header.
_LEAST = 1 << 20


def look(ceph, spec, image_id=None):
    """Return the facts of an image's encryption as a dict; raises ImageNotFound.

    Keys: image_id, size and object_size (bytes), parent, features; format, uuid and offset of its LUKS header, or None; mark (format, uuid,
    time) or None; signature (text for people, or None); mapped (its device on this host, or None); user (who else may write to it, or
    None); not_blank (why no header may be written, or None); begun (a format was cut off, and nothing lies behind its header).

    ``image_id``: of an image in the trash.
    """
    image = ceph.call("image_info", spec.head, image_id=image_id)
    header = luks.read(ceph, spec, image["size"], image_id)
    mark = luks.mark_of(image)
    facts = {key: image[key] for key in ("size", "object_size", "parent", "features")}
    facts.update(image_id=image["id"], mark=mark and dict(mark._asdict()), mapped=None, user=None, begun=False, not_blank=None)
    facts.update(nothing() if header is None else dict(header._asdict(), signature="crypto_LUKS (crypto)"))
    if header and (mark is None or mark.uuid):
        return facts
    mapping = None if image_id else device_find.find(ceph, spec, image)
    facts["mapped"] = mapping and (mapping.device or "a device")
    if header is None:
        found = signature.probe_image(ceph, spec, image["size"], image_id)[0]
        facts["signature"] = found and found.text
    facts["begun"] = _is_begun(ceph, spec, image, mark, facts, image_id)
    told = ceph.call("image_blank", spec, image_id=image_id, start=_behind(mark.format, facts) if facts["begun"] else 0)
    facts["not_blank"] = _why_not(facts, told)
    if not image_id and not mapping:
        facts["user"] = owner.look(ceph, spec, image["id"], "").refusal
    return facts


def nothing():
    """Return the facts of an image without a header."""
    return dict.fromkeys(("format", "uuid", "offset", "signature"))


def _behind(kind, facts):
    """Where the header of a cut-off format ends, at most: librbd does not begin the data before, nor does the header that is there."""
    ends = [luks.offset_for(kind, facts["object_size"]), facts["size"]]
    return min(ends if facts["offset"] is None else [*ends, facts["offset"]])


def _is_begun(ceph, spec, image, mark, facts, image_id):
    """Tell whether the content is what a cut-off format left: nothing behind its header, and no sign of another's data in it."""
    if mark is None or mark.uuid:
        return False
    if facts["format"] is None and (facts["signature"] or killed.is_late(image, mark.time)):
        return False  # there is data without a header, and nothing tells whose it is
    told = ceph.call("image_blank", spec, image_id=image_id, start=_behind(mark.format, facts))
    return told["first_used"] is None


def _why_not(facts, told):
    if facts["parent"]:
        return "it is a clone of {pool}/{image}@{snapshot}; a clone is opened with its parent's passphrase".format(**facts["parent"])
    if told["migrating"]:
        return "it is being migrated"
    if told["first_used"] is not None:
        found = ", and it carries {}".format(facts["signature"]) if facts["signature"] else ""
        return "librbd knows of data in it, first at byte {}{}".format(told["first_used"], found)
    return None


def expected(spec, known, ask):
    """Return the facts of :func:`look` as they will be when a state runs; ``known`` and ``ask`` as in ``filesystem.expected``."""
    name, image = str(spec), known.get(("image", str(spec)), False)
    if image is None:
        raise errors.ImageNotFound("{} will not exist: an earlier state of this run removes it.".format(spec))
    facts = ask(spec, None)
    if facts is None and image and image.get("id"):
        facts = ask(spec, image["id"])
    if facts is None:
        if not image:
            raise errors.ImageNotFound("{} does not exist; declare rbd_image.present.".format(spec))
        facts = dict(nothing(), image_id=None, mark=None, mapped=None, user=None, begun=False, not_blank=None, parent=image["parent"])
        facts["not_blank"] = _why_not(facts, {"migrating": False, "first_used": None})
    facts.update((key, image[key]) for key in ("size", "object_size", "features") if image)
    planned = known.get(("encryption", name))
    if planned:
        facts.update(planned, begun=False, not_blank=None, user=None)
    if known.get(("device", name)):
        facts["mapped"] = "its device"
    elif ("device", name) in known:
        facts.update(mapped=None, user=None)
    return facts


def plan(spec, facts, wanted):
    """Return the :class:`Plan` that encrypts an image as ``wanted`` (``luks.Wanted``); pure."""
    settled = facts["mark"] is None or facts["mark"]["uuid"]
    if facts["format"] and (settled or not facts["begun"]):
        if facts["format"] == wanted.format:
            return Plan()
        text = "{} is encrypted as {}, not {}; it stays so, or make a new image and copy the data."
        return Plan(refusals=[text.format(spec, facts["format"], wanted.format)])
    refusals = _refusals(spec, facts, wanted)
    if refusals:
        return Plan(refusals=refusals)
    offset = luks.offset_for(wanted.format, facts["object_size"])
    planned = {"format": wanted.format, "uuid": "", "offset": offset, "mark": None, "signature": "crypto_LUKS (crypto)"}
    return Plan(
        [("rbd_encryption.format", {"name": str(spec), "encryption": luks.reference(wanted)})],
        {str(spec): {"encryption": change("what a killed format left" if facts["begun"] else None, wanted.format)}},
        planned={("encryption", str(spec)): planned},
    )


def _refusals(spec, facts, wanted):
    words = "{} is not encrypted: {}."
    if facts["not_blank"]:
        hint = "" if facts["parent"] else " Only an image that is proven blank is; make a new one and copy the data"
        return [words.format(spec, facts["not_blank"] + "." * bool(hint) + hint)]
    if "journaling" in facts["features"]:
        return [words.format(spec, "librbd encrypts no image with the feature journaling")]
    if facts["size"] < luks.offset_for(wanted.format, facts["object_size"]) + _LEAST:
        least = show(luks.offset_for(wanted.format, facts["object_size"]) + _LEAST)
        return [words.format(spec, "it has {}, and with its header it needs {} or more".format(show(facts["size"]), least))]
    if facts["mapped"]:
        return [words.format(spec, "it is mapped at {}; unmap it first".format(facts["mapped"]))]
    return [facts["user"]] if facts["user"] else []


def format_image(ceph, spec, key):
    """Write a LUKS header into a blank image and return its UUID; the proof is made anew.

    Raises :class:`Refused` with every reason, :class:`NotBlank`, :class:`Busy`.
    """
    image = ceph.call("image_info", spec)
    with hostlock.hold(ceph, image["id"]):
        facts = look(ceph, spec)
        found = plan(spec, facts, luks.Wanted(key.format, key.pillar))
        if found.refusals:
            raise errors.Refused(" ".join(found.refusals))
        if not found.steps:
            return facts["uuid"]
        return _format(ceph, spec, key, facts)


def _format(ceph, spec, key, facts):
    image_id = facts["image_id"]
    verdict = owner.look(ceph, spec, image_id, "")
    if verdict.refusal:
        raise errors.Busy(verdict.refusal)
    with owner.hold(ceph, spec, image_id, verdict):
        behind = _behind(facts["mark"]["format"], facts) if facts["begun"] else 0
        now = int(time.time())
        ceph.call("image_metadata", spec, put={luks.MARK: luks.mark_text(image_id, key.format, "", now)})
        ceph.call("image_encrypt", spec, image_id=image_id, encryption=key.argument(), behind=behind)
        header = luks.read(ceph, spec, facts["size"])
        if header is None or header.format != key.format:
            raise errors.NotConverged("{} carries no {} header after librbd said so.".format(spec, key.format))
        ceph.call("image_metadata", spec, put={luks.MARK: luks.mark_text(image_id, key.format, header.uuid, now)})
    return header.uuid


def opens(ceph, spec, key, image_id=None):
    """Return the size in bytes of what lies behind the header; raises :class:`WrongPassphrase` naming the place in the pillar."""
    try:
        return ceph.call("image_unlock", spec, encryption=key.argument(), image_id=image_id)["size"]
    except errors.WrongPassphrase:
        raise wrong(spec, key)


def wrong(spec, key):
    """Return the error of a passphrase that does not open the image."""
    return errors.WrongPassphrase(
        "The passphrase in the pillar {} does not open the LUKS header of {}. Put the one in with which it was encrypted.".format(
            ":".join(key.pillar), spec
        )
    )
