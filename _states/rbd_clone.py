"""
Ceph RBD clones as desired state: an image with one declared parent.

.. code-block:: yaml

    a copy to test with:
      rbd_clone.present:
        - name: rbd/rbd0002
        - parent: rbd/rbd0001@snap1

A clone is removed like any image, by ``rbd_image.absent``.
"""

import functools

from saltrbd import clone, converge, facts, image, limits, lineage, settings, spec

__virtualname__ = "rbd_clone"


def __virtual__():
    if "rbd_clone.create" not in __salt__:
        return False, "The execution module rbd_clone is not loaded: sync it with saltutil.sync_all."
    return __virtualname__


def present(
    name,
    parent,
    size=None,
    features=None,
    object_size=None,
    stripe_unit=None,
    stripe_count=None,
    data_pool=None,
    clone_format="auto",
    metadata=None,
    config=None,
    restore_from_trash=None,
):
    """
    Make the image exist as a clone of ``parent``.

    parent
        ``pool[/namespace]/image@snapshot``. Another parent than declared is an error, never passed over.
    size
        Bytes, or text such as ``10G``; the parent's size where it is not declared. A clone grows, and never shrinks here.
    clone_format
        1, 2 or auto: 2 where the cluster's require_min_compat_client is mimic or newer, else 1. Format 1 needs a
        protected parent, which the dry run tells too. A clone that exists in another declared format is an error.
    features, object_size, stripe_unit, stripe_count, data_pool, metadata, config
        As for ``rbd_image.present``. What is not declared, a clone takes over from its parent; its metadata and config too.
    restore_from_trash
        When the clone is absent and an image of its name lies in the trash: None refuses, True brings it back (it must be a clone of
        ``parent``), False makes a new one, an id brings that one back.

    A clone that would stand on more than ``rbd:max_depth`` parents (8) is refused, one that stands on ``rbd:warn_depth`` (4) or more is
    told; they are counted through pools, namespaces and the trash. The kernel maps an image that stands on at most 16.
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse_image(name, chosen.pool, chosen.namespace)
        source = spec.parse_snapshot(parent, chosen.pool, chosen.namespace)
        want = image.desired(size, features, object_size, stripe_unit, stripe_count, data_pool, metadata, config)
        number = clone.check_format(clone_format)
        image.check_restore(restore_from_trash)
        found = facts.images(__salt__["rbd_image.info"], known, sorted({wanted, source.head}))
        current, above = found[wanted], found[source.head]
        refused = image.unknown_config(wanted, current, want, __salt__["rbd_image.config_keys"])
        if current is not None:
            plan = clone.plan_present(wanted, current, source, above, want, number, None)
            return converge.merge([plan, converge.Plan(refusals=refused)])
        cluster = __salt__["rbd_image.cluster"]()
        there = functools.partial(facts.namespaces, __salt__["rbd_image.namespaces"], known)
        refused += image.missing_places(wanted, want, cluster, there)
        if refused:
            return converge.Plan(refusals=refused)
        trashed = [] if restore_from_trash is False else facts.trashed(__salt__["rbd_image.trashed"], known, wanted)
        plan = clone.plan_present(wanted, None, source, above, want, number, cluster, restore_from_trash, trashed)
        if plan.refusals or plan.steps[0][0] != "rbd_clone.create":
            return plan
        depth = lineage.above(__salt__["rbd_clone.parents"], known, source)
        return converge.merge([plan, limits.depth(wanted, depth, chosen)])

    return converge.converge(name, __opts__["test"], look, _act, known, "{} is a clone of {}.".format(name, parent))


def flattened(name):
    """
    Make the image stand alone: what its parent gives it is copied into it, and the parent is let go.

    It may be in use, but for a mapping by krbd that is exclusive, which is refused. Copying takes its time: the limit is
    ``rbd:progress_timeout`` seconds (300) without progress, and the minion's log tells each tenth at the level info. Its snapshots
    go on standing on the parent where it lacks the feature deep-flatten. An image without a parent is flattened. Declare it as
    ``rbd_image.present`` from then on: ``rbd_clone.present`` refuses a clone that has lost its parent.

    .. code-block:: yaml

        the copy stands alone:
          rbd_clone.flattened:
            - name: rbd/rbd0002
    """
    known = converge.known(globals())

    def look():
        chosen = settings.load(__opts__, __pillar__)
        wanted = spec.parse_image(name, chosen.pool, chosen.namespace)
        return clone.plan_flattened(wanted, facts.images(__salt__["rbd_image.info"], known, [wanted], users=True)[wanted])

    return converge.converge(name, __opts__["test"], look, _act, known, "{} has no parent.".format(name))


def _act(function, arguments):
    __salt__[function](**arguments)
