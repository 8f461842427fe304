"""
Kubernetes manifests for the volumes of the pillar: for the CSI driver rbd.csi.ceph.com, from ``kubernetes:``, ``ceph:`` and ``rbd:``.

The key of the driver's Ceph user is read from the keyring on this host and goes into the Secret's file alone. No function returns or
logs it.
"""

import json
import os

from saltplatform import (
    kubernetes_check,
    kubernetes_files,
    kubernetes_library,
    kubernetes_objects,
    kubernetes_pillar,
    kubernetes_shown,
    kubernetes_text,
)
from saltrbd import client, keyring, settings, snapshot, volumes
from saltrbd.errors import ImageNotFound, InvalidArgument, InvalidPillar, NamespaceNotFound, PoolNotFound, Refused

__virtualname__ = "kubernetes_manifests"


def __virtual__():
    missing = kubernetes_library.missing()
    return (False, missing) if missing else __virtualname__


def build():
    """
    Return the objects that the pillar declares, in the order in which they are to be applied; values of the Secret and of environments
    are not shown.

    Raises InvalidPillar with every mistake, AuthenticationFailed where this host has no key of the Ceph user.

    CLI Example:

    .. code-block:: bash

        salt '*' kubernetes_manifests.build
    """
    return [kubernetes_shown.redacted(item) for item in _objects()[0]]


def validate(folder=None, version=""):
    """
    Return one sentence for each mistake: of what the pillar declares, or of the files (yaml, yml, json) in a folder, which are taken for
    all that is applied. An empty list where there is none.

    version
        Of Kubernetes, such as 1.30, for a folder's files; without it the newest that is known. For the pillar's objects it is
        ``kubernetes:version``.

    They are checked by the schemas of Kubernetes' API in that version, and by what no schema says: names, labels, quantities, references
    between the objects, what the driver asks of a static volume.

    CLI Example:

    .. code-block:: bash

        salt '*' kubernetes_manifests.validate
        salt '*' kubernetes_manifests.validate /etc/kubernetes/rbd version='"1.30"'
    """
    if folder is None:
        try:
            _objects()
        except InvalidPillar as error:
            return [str(error)]
        return []
    version = kubernetes_library.check_version(str(version))
    objects, found = [], []
    for name in _readable(kubernetes_files.check_folder(folder)):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                objects += kubernetes_text.objects(file.read())
        except (InvalidArgument, OSError) as error:
            found.append("{}: {}".format(os.path.join(folder, name), getattr(error, "strerror", None) or error))
    return found + kubernetes_check.mistakes(objects, version)


def diff(folder=None):
    """
    Return what :py:func:`kubernetes_manifests.write` would change, as ``{path: {field: {"old", "new"}}}``; nothing is written.

    folder
        Where the files are; ``kubernetes:folder`` where it is not given.

    Raises InvalidPillar, AuthenticationFailed, and Refused with every reason.

    CLI Example:

    .. code-block:: bash

        salt '*' kubernetes_manifests.diff
    """
    folder, files, steps = _planned(folder)
    return steps.changes


def write(folder=None):
    """
    Write the manifests, one file for each object, and remove those of ours that are not declared any more; return what was changed.

    The folder is for root alone (0700), as is each file with a secret (0600). Arguments and errors are those of
    :py:func:`kubernetes_manifests.diff`.

    CLI Example:

    .. code-block:: bash

        salt '*' kubernetes_manifests.write
    """
    folder, files, steps = _planned(folder)
    kubernetes_files.carry_out(folder, steps, files)
    return steps.changes


def diff_absent(folder=None):
    """
    Return what :py:func:`kubernetes_manifests.remove` would remove. Raises Refused where a file was changed since it was written.

    CLI Example:

    .. code-block:: bash

        salt '*' kubernetes_manifests.diff_absent
    """
    return _planned_absent(folder)[1].changes


def remove(folder=None):
    """
    Remove the manifests that Salt wrote, and the folder where nothing else is in it. What Kubernetes has of them stays there.

    CLI Example:

    .. code-block:: bash

        salt '*' kubernetes_manifests.remove
    """
    folder, steps = _planned_absent(folder)
    kubernetes_files.carry_out(folder, steps, {})
    return steps.changes


def _section():
    section = settings.plain(__pillar__.get("kubernetes"))
    if section is None:
        raise InvalidPillar("The pillar of this node has no kubernetes:, so no manifests are declared.")
    return section


def _folder(folder):
    if folder is None:
        section = settings.plain(__pillar__.get("kubernetes")) or {}
        folder = (section.get("folder") if isinstance(section, dict) else None) or kubernetes_pillar.FOLDER
    return kubernetes_files.check_folder(folder)


def _planned(folder):
    folder = _folder(folder)
    objects, key = _objects()
    files = kubernetes_files.wanted(objects)
    return folder, files, _refused(kubernetes_files.plan(folder, kubernetes_files.look(folder), files, key=key))


def _planned_absent(folder):
    folder = _folder(folder)
    return folder, _refused(kubernetes_files.plan(folder, kubernetes_files.look(folder), {}, gone=True))


def _refused(steps):
    if steps.refusals:
        raise Refused(" ".join(steps.refusals))
    return steps


def _objects():
    """Return (the objects with the key in the Secret, the key): for this module alone."""
    chosen, section = settings.load(__opts__, __pillar__), _section()
    unknown = settings.unknown_keys(__pillar__)
    if unknown:
        raise InvalidPillar.of([unknown])
    entries = volumes.read(settings.plain(__pillar__.get("rbd") or {}), chosen)
    ceph = kubernetes_pillar.credentials(section, chosen)
    declared = kubernetes_pillar.read(section, entries, ceph, _sizes)
    key = keyring.key(ceph)
    objects = kubernetes_objects.build(declared, key)
    mistakes = kubernetes_check.mistakes(objects, declared.version)
    for item in objects:
        if key in json.dumps(kubernetes_shown.redacted(item), default=str):
            mistakes.append(
                "{} {}: it holds the Ceph user's key, which belongs into the Secret alone.".format(item["kind"], item["metadata"]["name"])
            )
    if mistakes:
        raise InvalidPillar.of([sentence.rstrip(".") for sentence in mistakes])
    return objects, key


def _sizes(entries):
    """Return {spec: bytes} of clones as the cluster has them, or their parents' snapshots."""
    ceph = client.get(settings.load(__opts__, __pillar__))
    outcomes = ceph.batch([("image_info", entry[key].head.where()) for entry in entries for key in ("spec", "parent")])
    found = {}
    for entry, clone, parent in zip(entries, outcomes[::2], outcomes[1::2]):
        if _is_there(clone):
            found[entry["spec"]] = clone.get()["size"]
        elif _is_there(parent):
            taken = snapshot.find(parent.get(), entry["parent"].snapshot)
            found.update({entry["spec"]: taken["size"]} if taken else {})
    return found


def _is_there(outcome):
    return not isinstance(outcome.error, (ImageNotFound, NamespaceNotFound, PoolNotFound))


def _readable(folder):
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml", ".json")))
    except OSError as error:
        raise InvalidArgument("The folder {} cannot be read: {}.".format(folder, error.strerror))
