"""An image and its mapping, for tests of pure functions."""

from saltrbd import spec as specs
from saltrbd.mapping import Mapping

SPEC = specs.parse("rbd/a")
SNAP = specs.parse("rbd/a@s")
IMAGE = {"id": "abc", "features": ["layering"], "snapshots": [{"name": "s", "type": "user", "id": 4}], "parent": None, "size": 8}
GOOD = Mapping(SPEC, "/dev/loop3", "fuse", False, 9, "F", "abc")
