"""Would the image open? What stands in the way of a mapping behind a LUKS header, for a dry run and a real run."""

from saltrbd import encryption, errors, luks
from saltrbd.spec import Spec


def look(ceph, spec, key, image, known=(), tries=True):
    """Return the error that opening the LUKS header of an image would meet, None where it opens.

    ``tries`` False: the passphrase is not tried, which takes seconds; whoever maps the image will see.

    ``image``: its facts; one that a dry run only plans has no id. ``known`` is what earlier states of a dry run planned.
    """
    planned = dict(known).get(("encryption", str(spec.head)))
    if planned:
        return judge(spec, key, image["features"], planned["format"])
    restored = None
    if not image.get("id"):
        restored = (dict(known).get(("image", str(spec.head))) or {}).get("id")
        if not restored:
            return _of_new(ceph, spec, key, image, known, tries)
    header = luks.read(ceph, spec, _size(spec, image), restored)
    found = judge(spec, key, image["features"], header and header.format)
    if found or not tries:
        return found
    try:
        encryption.opens(ceph, spec, key, restored)
    except (errors.WrongPassphrase, errors.Refused) as error:
        return error
    return None


def _size(spec, image):
    return next((item["size"] for item in image["snapshots"] if spec.snapshot and item["name"] == spec.snapshot), image["size"])


def _of_new(ceph, spec, key, image, known, tries):
    """A clone that a dry run plans has its parent's header; where the parent is planned too, nobody can be asked."""
    parent = image["parent"]
    if parent is None:
        return judge(spec, key, image["features"], None)
    where = Spec(parent["pool"], parent["namespace"], parent["image"], "")
    planned = dict(known).get(("encryption", str(where)))
    if planned:
        return judge(spec, key, image["features"], planned["format"])
    there = ceph.batch([("image_info", where.where())])[0]
    if there.error is not None:
        return None
    return look(ceph, where, key, dict(there.result, features=image["features"]), known, tries)


def judge(spec, key, features, found):
    """Return the error that facts alone tell: no such header, or a feature; None else; pure."""
    if found is None:
        return errors.Refused("{} carries no LUKS header; declare rbd_encryption.formatted before its device.".format(spec))
    if found != key.format:
        return errors.Refused("{} is encrypted as {}, not {} as declared.".format(spec, found, key.format))
    if "journaling" in features:
        return errors.NotSupported("{} has the feature journaling, with which librbd opens no LUKS header.".format(spec))
    return None
