"""Shrinking an image: only below nothing that is in use, so the filesystem in it must have been shrunk before.

No host maps the image between the look at its content and the end of the shrink: our own lock is held from before the one until after
the other.
"""

from saltrbd import errors, filesystem, owner, users
from saltrbd.size import show

_SHRINK_FIRST = "Shrink it first: unmount it, then 'e2fsck -f {0}' and 'resize2fs {0} {1}K', and unmap the image"
_UNREAD = (
    "it carries {}, and how much of the image that needs is not read here. Make it smaller with its own tools, and the image by hand: "
    "'rbd resize {} --size {} --allow-shrink'"
)


def refusals(spec, size, content, image, unmapped=False, verdict=None):
    """Return why an image may not shrink to ``size`` bytes, empty where it may; pure.

    ``content``: the facts of ``filesystem.look``; ``image``: those of ``rbd_image.info`` with its users. ``unmapped``: an earlier state of
    a dry run unmaps it on this host. ``verdict``: from :func:`judge`.
    """
    return in_use(spec, size, image, unmapped, verdict) + _below(spec, size, content)


def in_use(spec, size, image, unmapped=False, verdict=None):
    """Return who keeps an image from shrinking; the arguments are those of :func:`refusals`; pure."""
    using = [users.words(item) for item in image["watchers"] if not (unmapped and item.get("here"))]
    using += [] if unmapped else list(image.get("devices", ()))
    if using:
        # What lies in the page cache of whoever uses it is not in the image yet, the filesystem's new size included.
        return [_sentence(spec, size, "it is in use by {}; unmap it first".format(", ".join(using)))]
    return [verdict.refusal] if verdict and verdict.refusal else []


def judge(ceph, spec, image):
    """Return the ``owner.Verdict`` on this host's taking the lock of an image that it has not mapped; ``image``: facts with users."""
    return owner.judge(spec, owner.holder(ceph, spec, image["id"]), image, "", owner.me(ceph.settings))


def carry_out(ceph, spec, size, image, key=None):
    """Shrink an image to ``size`` bytes. The caller holds the host's lock on it; ``image``: its facts with users; ``key``: ``luks.Key``.

    Raises :class:`Refused` with every reason, and :class:`Busy` where another host was quicker to take the image's lock.
    """
    verdict = judge(ceph, spec, image)
    refused = in_use(spec, size, image, verdict=verdict)
    if refused:
        raise errors.Refused(" ".join(refused))
    with owner.hold(ceph, spec, image["id"], verdict):
        refused = _below(spec, size, filesystem.look(ceph, spec, check=False, wait=False, key=key))
        if refused:
            raise errors.Refused(" ".join(refused))
        ceph.call("image_resize", spec, size=size, allow_shrink=True)


def _sentence(spec, size, reason):
    return "{} cannot shrink to {}: {}.".format(spec, show(size), reason)


def _below(spec, size, content):
    reason = _content(spec, size, size - content["offset"], content)
    return [_sentence(spec, size, reason)] if reason else []


def _content(spec, whole, size, content):
    """``whole``: bytes of the image, ``size`` those behind its LUKS header."""
    kind = content["fs_type"]
    if kind == "crypto_LUKS" and not content["encryption"]:
        return (
            "it is encrypted, and what lies behind its LUKS header is not known. Declare encryption: with the place of its passphrase "
            "in the pillar"
        )
    if size <= 0:
        return "that is not more than its LUKS header takes"
    if kind not in ("ext4", "xfs"):
        return content["signature"] and _UNREAD.format(content["signature"], spec, show(whole))
    if content["size"] is None:
        return "the superblock of its {} does not tell its size".format(kind)
    if content["size"] <= size:
        return None
    if kind == "xfs":
        return "its xfs has {}, and an xfs cannot be made smaller. Make a new image and copy the data".format(show(content["size"]))
    device = content["device"] or "DEVICE"
    return "its ext4 has {}. {}".format(show(content["size"]), _SHRINK_FIRST.format(device, size // 1024))
