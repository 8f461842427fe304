"""All operations by name. Each is ``operation(session, report, **args)`` and returns what JSON can carry."""

import blank
import clones
import cluster
import encryption
import images
import locks
import snapshots
import trash

ALL = {}
for _module in (cluster, images, locks, snapshots, clones, trash, blank, encryption):
    ALL.update(_module.OPERATIONS)
