"""What the worker can do: for each operation its words for messages, whether it writes, and whether it is long work."""

from collections import namedtuple

Call = namedtuple("Call", "doing writes long")

# A question or a small change has rbd:timeout seconds in all (where a killed maker of an image left something, from the last sign of
# life on: looking at that, and taking it away, tell their progress); long work has rbd:progress_timeout without progress. Removals,
# flattening, walks over an image and shrinks (in steps) tell their progress. A rebuild of an object map and a rollback have no
# progress that Python sees: the worker tells before it how long it may take for that size, and before a snapshot how long librbd waits
# for the quiesce hooks of those who have the image open. Removing a snapshot has none either, and needs none: the OSDs trim its data
# afterwards.
CALLS = {
    "cluster_info": Call("asking for the cluster's settings", False, False),
    "namespace_list": Call("listing the namespaces of", False, False),
    "namespace_info": Call("reading the namespace", False, False),
    "namespace_create": Call("creating the namespace", True, False),
    "namespace_remove": Call("removing the namespace", True, False),
    "doctor_clock": Call("asking for the cluster's clock", False, False),
    "doctor_rights": Call("asking what the user may do at the monitors", False, False),
    "doctor_health": Call("asking for the cluster's health", False, False),
    "doctor_pool": Call("asking what the user may do in the pool", False, False),
    "health_checks": Call("asking for the cluster's health", False, False),
    "health_pools": Call("asking how full the cluster's pools are", False, False),
    "health_pool": Call("reading from the pool", False, False),
    "blocklist_list": Call("listing the clients that are locked out of the cluster", False, False),
    "blocklist_add": Call("locking a client out of the cluster", True, False),
    "blocklist_remove": Call("letting a client into the cluster again", True, False),
    "image_list": Call("listing the images of", False, False),
    "image_info": Call("reading the image", False, False),
    "image_users": Call("asking who uses the image", False, False),
    "image_usage": Call("measuring the space that the image uses", False, True),
    "image_space": Call("measuring the space that the image and its snapshots take", False, True),
    "image_blank": Call("proving that the image is blank", False, True),
    "image_read": Call("reading from the image", False, False),
    # Making the key of a passphrase is slow on purpose: a second or two, and far more on a busy host.
    "image_unlock": Call("opening the LUKS header of the image", False, True),
    "image_encrypt": Call("encrypting the image", True, True),
    "image_create": Call("creating the image", True, False),
    "image_resize": Call("resizing the image", True, True),
    "image_features": Call("changing the features of the image", True, False),
    "image_metadata": Call("changing the metadata of the image", True, False),
    "config_keys": Call("asking for Ceph's options of images in the pool", False, False),
    "image_config": Call("changing the configuration of the image", True, False),
    "image_rebuild_object_map": Call("rebuilding the object map of the image", True, True),
    "image_rename": Call("renaming the image", True, False),
    "image_remove": Call("removing the image", True, True),
    "image_lock": Call("locking the image for this host", True, False),
    "image_lock_break": Call("giving back the lock on the image", True, False),
    "image_lock_holder": Call("asking who has locked the image", False, False),
    "trash_list": Call("listing the trash of", False, False),
    "trash_move": Call("moving the image to the trash", True, False),
    "trash_restore": Call("restoring the image from the trash", True, False),
    "trash_remove": Call("removing from the trash the image", True, True),
    "snapshot_create": Call("creating the snapshot", True, False),
    "snapshot_name": Call("naming the snapshot", True, False),
    "snapshot_undo": Call("taking back the snapshot", True, True),
    "snapshot_remove": Call("removing the snapshot", True, True),
    "snapshot_protect": Call("protecting the snapshot", True, False),
    "snapshot_unprotect": Call("unprotecting the snapshot", True, False),
    "snapshot_compare": Call("comparing the image with its snapshot", False, True),
    "snapshot_rollback": Call("rolling the image back to", True, True),
    "clone_create": Call("cloning to the image", True, False),
    "clone_flatten": Call("flattening the image", True, True),
    "clone_parents": Call("reading the parents of the image", False, False),
}
