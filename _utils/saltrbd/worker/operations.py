"""All operations by name. Each is ``operation(session, report, **args)`` and returns what JSON can carry."""

import blank
import cluster
import clones
import images
import snapshots
import trash

ALL = {}
for _module in (cluster, images, snapshots, clones, trash, blank):
    ALL.update(_module.OPERATIONS)
