"""All operations by name. Each is ``operation(session, report, **args)`` and returns what JSON can carry."""

import blank
import clones
import cluster
import doctor
import encryption
import features
import health
import images
import locks
import rollback
import snapshots
import trash
import users

ALL = {}
for _module in (cluster, images, features, users, locks, snapshots, rollback, clones, trash, blank, encryption, doctor, health):
    ALL.update(_module.OPERATIONS)
