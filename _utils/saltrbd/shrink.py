"""May an image shrink? Only below nothing that is in use: the filesystem in it must have been shrunk before."""

from saltrbd.size import show

_SHRINK_FIRST = "Shrink it first: unmount it, then 'e2fsck -f {0}' and 'resize2fs {0} {1}K', and unmap the image"


def refusals(spec, size, content, image, unmapped=False):
    """Return why an image may not shrink to ``size`` bytes, empty where it may; pure.

    ``content``: the facts of ``filesystem.look``; ``image``: those of ``rbd_image.info`` with its users. ``unmapped``: an earlier state of
    a dry run unmaps it on this host.
    """
    words = "{} cannot shrink to {}: {{}}.".format(spec, show(size))
    users = ["{address} (client.{client})".format(**item) for item in image["watchers"] if not (unmapped and item.get("here"))]
    users += [] if unmapped else list(image.get("devices", ()))
    # What lies in the page cache of whoever uses it is not in the image yet, the filesystem's new size included.
    found = [words.format("it is in use by {}; unmap it first".format(", ".join(users)))] if users else []
    reason = _content(spec, size - content["offset"], content)
    return found + ([words.format(reason)] if reason else [])


def _content(spec, size, content):
    kind = content["fs_type"]
    if kind == "crypto_LUKS":
        return (
            "it is encrypted, and what lies behind its LUKS header is not known. Declare encryption: with the place of its passphrase "
            "in the pillar"
        )
    if size <= 0:
        return "that is not more than its LUKS header takes"
    if kind not in ("ext4", "xfs"):
        return None
    if content["size"] is None:
        return "the superblock of its {} does not tell its size".format(kind)
    if content["size"] <= size:
        return None
    if kind == "xfs":
        return "its xfs has {}, and an xfs cannot be made smaller. Make a new image and copy the data".format(show(content["size"]))
    device = content["device"] or "DEVICE"
    return "its ext4 has {}. {}".format(show(content["size"]), _SHRINK_FIRST.format(device, size // 1024))
