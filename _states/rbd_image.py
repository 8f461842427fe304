"""
Ceph RBD images as desired state.

.. code-block:: yaml

    the database's volume:
      rbd_image.present:
        - name: rbd/db
        - size: 10G
        - features: [layering, exclusive-lock, object-map, fast-diff]
        - metadata:
            owner: platform

    the old volume, to be had back for a week:
      rbd_image.absent:
        - name: rbd/old
        - delay: 7d

    what lies in the trash past its time:
      rbd_image.purged:
        - name: rbd
"""

import functools
import time

from saltrbd import client, converge, facts, image, owner, purge, rename, settings, shrink, spec

__virtualname__ = "rbd_image"


def __virtual__():
    if "rbd_image.info" not in __salt__:
        return False, "The execution module rbd_image is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def present(
    name,
    size=None,
    features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    metadata=None,
    config=None,
    allow_shrink=False,
    restore_from_trash=None,
    encryption=None,
):
    """
    Make the image exist as declared. What is not declared is left as it is.

    name
        ``pool[/namespace]/image``.
    size
        Bytes, or text such as ``10G``. Needed to create the image. Growing is done; shrinking is refused without
        ``allow_shrink: True``, and also with it while anybody uses the image, and while its ext4 needs more: shrink that first
        (``resize2fs``). An xfs cannot shrink. What else it carries (a partition table, LVM, swap, btrfs) is not looked into, and refused.
    features
        The whole list of features (layering, exclusive-lock, object-map, fast-diff, deep-flatten, journaling). Drift is
        mended in the order that Ceph needs, and the object map rebuilt; layering and deep-flatten cannot be changed.
    object_size, stripe_unit, stripe_count, data_pool
        The layout. Another layout than declared is an error that names the field, since it can never be changed.
    metadata, config
        Keys to set; a key with the value None is removed; other keys are left alone. ``config`` holds Ceph's options for
        this image, such as ``rbd_qos_iops_limit``.
    restore_from_trash
        When the image is absent and one of its name lies in the trash: None refuses, True brings it back, False makes a
        new one, an id brings that one back.
    encryption
        Only for a shrink of an encrypted image, to look for its filesystem: format and place of the passphrase, as in
        ``rbd_device.mapped``.

    What only trying can tell: whether the Ceph user may write, whether the cluster has room, whether a data pool takes
    overwrites, and whether Ceph takes a ``config`` key's value.
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse_image(name, chosen.pool, chosen.namespace)
        want = image.desired(size, features, object_size, stripe_unit, stripe_count, data_pool, metadata, config)
        image.flag(allow_shrink, "allow_shrink")
        image.check_restore(restore_from_trash)
        current = facts.images(__salt__["rbd_image.info"], known, [wanted])[wanted]
        refused = image.unknown_config(wanted, current, want, __salt__["rbd_image.config_keys"])
        if current is not None:
            plan = image.plan_present(wanted, current, want, allow_shrink, encryption=encryption)
            shrinks = _shrink(wanted, want["size"] if allow_shrink else None, encryption, known, current)
            return converge.merge([plan, converge.Plan(refusals=refused), shrinks])
        cluster = __salt__["rbd_image.cluster"]()
        there = functools.partial(facts.namespaces, __salt__["rbd_image.namespaces"], known)
        refused += image.missing_places(wanted, want, cluster, there)
        if refused:
            return converge.Plan(refusals=refused)
        trashed = [] if restore_from_trash is False else facts.trashed(__salt__["rbd_image.trashed"], known, wanted)
        plan = image.plan_present(wanted, None, want, allow_shrink, restore_from_trash, trashed, cluster, encryption)
        entry = image.restored(restore_from_trash, trashed)
        return converge.merge([plan, _shrink(wanted, want["size"] if allow_shrink else None, encryption, known, entry and entry["facts"])])

    return converge.converge(name, __opts__["test"], look, _act, known, "{} is as declared.".format(name))


def _shrink(wanted, size, encryption, known, found):
    """Return a plan of why the image with the facts ``found`` may not shrink; nothing is known of one that a dry run only plans."""
    if not found or not found["id"] or size is None or size >= found["size"]:
        return converge.Plan()
    name, image_id = str(wanted), None
    now = __salt__["rbd_image.info"]([name], users=True)[name]
    if now and now["id"] == found["id"]:
        there = facts.images(lambda names, **more: {names[0]: now}, known, [wanted])[wanted]
    else:  # in the trash, or under another name, until an earlier state or this one is carried out
        there, image_id = found, found["id"]
    content = __salt__["rbd_filesystem.info"](name, check=False, image_id=image_id, encryption=encryption)
    verdict = shrink.judge(client.get(settings.load(__opts__, __pillar__)), wanted, there)
    refused = shrink.refusals(wanted, size, content, there, known.get(("device", name), 0) is None, verdict)
    return converge.Plan(refusals=refused, notes=owner.locked_out(verdict))


def absent(name, trash=True, delay=None):
    """
    Make the image be gone: into the trash, or at once with ``trash: False``.

    delay
        How long the trash keeps it at least: seconds, or text such as ``12h`` or ``7d`` (s, m, h, d, w). Until then nobody removes it
        from there by mistake: ``rbd_image.purged`` leaves it alone, and Ceph itself refuses. What lies in the trash already keeps its time.

    Refused, with the whole list, while clones of either format hang on it, while anybody uses it (watchers and locks, by
    address), and without the trash while it has snapshots. An image that another one took the place of since it was looked at
    stays (ImageReplaced). With ``trash: False`` the comment names what lies in the trash under that name: it stays there.

    .. code-block:: yaml

        the old volume, for good:
          rbd_image.absent:
            - name: rbd/old
            - trash: False

        another one, to be had back for a week:
          rbd_image.absent:
            - name: rbd/older
            - delay: 7d
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse_image(name, chosen.pool, chosen.namespace)
        image.flag(trash, "trash")
        kept = image.check_delay(delay, trash)
        current = facts.images(__salt__["rbd_image.info"], known, [wanted], children=True, users=True)[wanted]
        if current is None and not trash:
            return converge.Plan(notes=image.left_in_trash(wanted, __salt__["rbd_image.trash_list"](wanted.pool, wanted.namespace)))
        return image.plan_absent(wanted, current, trash, kept)

    return converge.converge(name, __opts__["test"], look, _act, known, "{} is absent.".format(name))


def renamed(name, old_name):
    """
    Make the image ``old_name`` be called ``name``. Where it has that name already, nothing is changed.

    name
        The new ``pool[/namespace]/image``.
    old_name
        The old one, in the same pool and namespace.

    Its lines in ``/etc/fstab`` and its unit for the boot get the new name too, on each host where the state is applied. Clones, snapshots
    and locks know an image by its id, so they go on. Refused where both names exist, or none of them; and while anybody uses the image,
    this host's own device included, since a device keeps the old name: declare ``rbd_device.unmapped`` before.

    .. code-block:: yaml

        the volume has another name:
          rbd_image.renamed:
            - name: rbd/customers
            - old_name: rbd/db
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        new = spec.parse_image(name, chosen.pool, chosen.namespace)
        old = spec.parse_image(old_name, chosen.pool, chosen.namespace)
        rename.check(old, new)
        found = facts.images(__salt__["rbd_image.info"], known, [old, new], users=True)
        trashed = [] if found[old] or found[new] else facts.trashed(__salt__["rbd_image.trashed"], known, old)
        here = rename.look(client.get(chosen), old, new, found[old] or found[new], known)
        return rename.plan(old, new, found[old], found[new], here, trashed)

    return converge.converge(name, __opts__["test"], look, _act, known, "The image is called {}.".format(name))


def purged(name, images=None, early=None, skip_blocked=False):
    """
    Make the trash of a pool or namespace hold nothing past its time. The data is gone then.

    name
        ``pool`` or ``pool/namespace``.
    images
        Only what lay in the trash under these names; all of it where none are given.
    early
        List of ids that go although the trash is to keep them still; ``rbd_image.trash_list`` shows them.
    skip_blocked
        True: what cannot go stays, and the comment names it. False: then nothing goes, and the state fails.

    In the way are, by name: snapshots, clones (also those in the trash, unless they go along), users, locks, groups. What rbd-mirror or a
    migration has put there is theirs, and is left alone. The dry run lists exactly what goes.

    .. code-block:: yaml

        what nobody wanted back:
          rbd_image.purged:
            - name: rbd
            - skip_blocked: True
    """
    known = converge.known(globals())

    def look():
        place = spec.parse_place(name)
        want = purge.desired(images, early, skip_blocked)
        entries = __salt__["rbd_image.trash_list"](place.pool, place.namespace, facts=True)
        return purge.plan(place, facts.trash(entries, known, place), want, time.time())

    return converge.converge(name, __opts__["test"], look, _act, known, "The trash of {} holds nothing past its time.".format(name))


def _act(function, arguments):
    __salt__[function](**arguments)
