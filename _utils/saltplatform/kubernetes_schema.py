"""What may stand in the pillar's ``kubernetes:``, as JSON schemas; what only several keys together tell is said by
``kubernetes_pillar``."""


def _text(title, pattern):
    """A text that matches as a whole; "must be TITLE, not VALUE" is said of another one."""
    return {"title": title, "type": "string", "pattern": "^(?:{})\\Z".format(pattern)}


# Linux' own: a user and a group by number.
_OWNER = _text("UID or UID:GID in digits, in quotes", "[0-9]{1,10}(:[0-9]{1,10})?")
_MODE = _text("an octal mode such as '0750', in quotes", "[0-7]{3,4}")
_TEXT = _text("one line of text", "[^\\x00-\\x1f\\x7f]+")
_WORDS = {"title": "a list of words", "type": "array", "items": _text("a word", "[^\\s,]+")}
_NO_DOTS = {"not": {"pattern": "(^|/)[.]{1,2}(/|$)"}}
_PATH = dict(_text("an absolute path in its plain form, of letters, digits and ._-", "(/[A-Za-z0-9._-]+)+"), **_NO_DOTS)
_FOLDER = dict(_text("a path below the volume, of letters, digits and ._-", "[A-Za-z0-9._][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*"), **_NO_DOTS)
_FS_TYPE = {"title": "ext4 or xfs", "enum": ["ext4", "xfs"]}
_MOUNTER = {"title": "rbd or rbd-nbd", "enum": ["rbd", "rbd-nbd"]}
_BYTES = {"type": ["integer", "string"]}
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteOncePod", "ReadOnlyMany", "ReadWriteMany")
_ACCESS_MODES = {
    "title": "a list of access modes, each once",
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {"title": "one of " + ", ".join(ACCESS_MODES), "enum": list(ACCESS_MODES)},
}
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}


def _mapping(properties, required=()):
    return {"type": ["object", "null"], "properties": properties, "required": list(required), "additionalProperties": False}


def _named(value):
    return {"type": ["object", "null"], "additionalProperties": value}


VOLUME = _mapping(
    {
        "name": _TEXT,
        "claim": _TEXT,
        "mode": {"title": "Filesystem or Block", "enum": ["Filesystem", "Block"]},
        "fs_type": _FS_TYPE,
        "access_modes": _ACCESS_MODES,
        "mount_options": _WORDS,
        "mounter": _MOUNTER,
        "labels": _LABELS,
    }
)
STORAGE_CLASS = _mapping(
    {
        "pool": _TEXT,
        "namespace": {"type": "string"},
        "data_pool": _TEXT,
        "features": {"type": ["array", "string"]},
        "fs_type": _FS_TYPE,
        "mounter": _MOUNTER,
        "object_size": _BYTES,
        "stripe_unit": _BYTES,
        "stripe_count": {"type": "integer", "minimum": 1},
        "mount_options": _WORDS,
        "name_prefix": _TEXT,
        "reclaim_policy": {"title": "Delete or Retain", "enum": ["Delete", "Retain"]},
        "expansion": {"type": "boolean"},
        "binding": {"title": "Immediate or WaitForFirstConsumer", "enum": ["Immediate", "WaitForFirstConsumer"]},
        "default": {"type": "boolean"},
    }
)
SNAPSHOT_CLASS = _mapping(
    {
        "namespace": {"type": "string"},
        "deletion_policy": {"title": "Delete or Retain", "enum": ["Delete", "Retain"]},
        "name_prefix": _TEXT,
        "default": {"type": "boolean"},
    }
)
POD_VOLUME = dict(
    _mapping(
        {
            "volume": _TEXT,
            "path": _PATH,
            "read_only": {"type": "boolean"},
            "owner": _OWNER,
            "mode": _MODE,
            "folders": {"type": "array", "items": _FOLDER},
        },
        ("volume", "path"),
    ),
    type="object",
)
# What a container may have says Kubernetes' own schema.
_CONTAINERS = {"type": "array", "items": {"type": "object", "required": ["name"]}}
POD = dict(
    _mapping(
        {
            "volumes": {"type": "array", "minItems": 1, "items": POD_VOLUME},
            "wait": {"type": "integer", "minimum": 1, "maximum": 86400},
            "init": _CONTAINERS,
            "containers": dict(_CONTAINERS, minItems=1),
            "labels": _LABELS,
            "spec": {"type": "object", "propertyNames": {"not": {"enum": ["containers", "initContainers"]}}},
        },
        ("volumes", "containers"),
    ),
    type="object",
)
SECTION = dict(
    _mapping(
        {
            "folder": _PATH,
            "namespace": _TEXT,
            "driver_namespace": _TEXT,
            "version": _text("a version such as '1.30', in quotes", "[0-9]+[.][0-9]+"),
            "user": _text("a Ceph user's name such as k8s", "(?!client[.]\\Z)[!-~]+"),
            "keyring": _PATH,
            "secret": _TEXT,
            "config_map": {"title": "a name, or false", "anyOf": [_TEXT, {"const": False}]},
            "cluster_ids": _named(_text("a text of 1 to 36 characters", "[!-~]{1,36}")),
            "pools": {"type": "array", "items": _TEXT},
            "tools_image": _TEXT,
            "storage_classes": _named(STORAGE_CLASS),
            "snapshot_classes": _named(SNAPSHOT_CLASS),
            "volumes": _named(VOLUME),
            "pods": _named(POD),
        }
    ),
    type="object",
)
