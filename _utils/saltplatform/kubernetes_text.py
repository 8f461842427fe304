"""An object as the text of a file, and back. The first line says who wrote the file, and whether it is still as it was written."""

import hashlib
import re

import yaml
from saltrbd.errors import InvalidArgument

# The order in which ``kubectl apply -f FOLDER`` takes the files: what is named by others comes before them.
_ORDER = {
    "Secret": 10,
    "ConfigMap": 10,
    "StorageClass": 20,
    "VolumeSnapshotClass": 20,
    "PersistentVolume": 30,
    "PersistentVolumeClaim": 40,
    "Pod": 50,
}
_FIRST = "# Written by Salt (kubernetes_manifests) as {}, sha256 {}. Without this line the file is yours.\n"
_FIRST_LINE = re.compile(r"# Written by Salt \(kubernetes_manifests\) as (\S+), sha256 ([0-9a-f]{64})\.")
# What every version of YAML reads as text without quotes; words that some take for true, false or nothing are not among it.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null")
FILE_NAME = re.compile(r"[0-9]{2}-[a-z]+-[a-z0-9.-]+\.yaml")


class _Dumper(yaml.SafeDumper):
    """Quotes each text that another reader could take for a number, a date or a boolean: PyYAML itself leaves ``1e3`` bare."""

    def ignore_aliases(self, data):
        return True


def _represent(dumper, value):
    if _PLAIN.fullmatch(value) and not _WORDS.fullmatch(value):
        style = None
    else:
        # A reader of YAML may take U+0085 and its like in a block for the end of a line.
        style = "|" if "\n" in value and all(line.isprintable() for line in value.split("\n")) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent)


def file_name(item):
    """Return the name of an object's file: ``30-persistentvolume-db.yaml``."""
    return "{}-{}-{}.yaml".format(_ORDER[item["kind"]], item["kind"].lower(), item["metadata"]["name"])


def text(name, item):
    """Return the whole text of an object's file of that name."""
    body = yaml.dump(item, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True, width=200)
    return _FIRST.format(name, _digest(name, body)) + body


def _digest(name, body):
    return hashlib.sha256("{}\n{}".format(name, body).encode("utf-8", "surrogatepass")).hexdigest()


def written_as(name, content):
    """Return whether a file of that name was written by Salt: "written", "edited" since, or "" where it is somebody else's, a copy for
    instance."""
    first, _, body = content.partition("\n")
    match = _FIRST_LINE.match(first)
    if not match or match.group(1) != name:
        return ""
    return "written" if match.group(2) == _digest(name, body) else "edited"


def objects(content):
    """Return the objects of a file's text, of YAML or JSON; raises :class:`InvalidArgument`, which does not show it."""
    try:
        return [item for item in yaml.safe_load_all(content) if item is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidArgument("It is no YAML{}.".format(" (line {})".format(mark.line + 1) if mark else "")) from None
