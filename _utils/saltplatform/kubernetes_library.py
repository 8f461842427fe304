"""The libraries that know Kubernetes' published API schemas (kubernetes-validate) and check by JSON schema (jsonschema, which it
brings)."""

import functools
import json
import re
from pathlib import Path

from saltrbd.errors import InvalidArgument, quoted

try:
    import jsonschema
    import kubernetes_validate
    import referencing
except ImportError:  # the execution module says so
    jsonschema = None

_API_VERSION = re.compile(r"([a-z0-9.-]+/)?[a-z0-9]+")
_NAMES = {"array": "a list", "boolean": "true or false", "integer": "a number", "null": "nothing", "object": "a mapping", "string": "text"}


def missing():
    """Return how the libraries get into Salt's Python, or an empty text where they are there."""
    if jsonschema is not None:
        return ""
    return (
        "kubernetes_manifests needs kubernetes-validate in Salt's own Python: name it in salt_environment:packages, or install it by"
        " salt-pip or by that Python's pip."
    )


def _folder():
    return Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


@functools.lru_cache(maxsize=1)
def versions():
    """Return the versions of Kubernetes whose schemas are there, such as ``1.37``, oldest first."""
    found = {path.name[1:].rpartition(".0-local-strict")[0] for path in _folder().glob("v*.0-local-strict")}
    return sorted(found - {""}, key=lambda version: [int(part) for part in version.split(".")])


def check_version(version):
    """Return the version, the newest one for an empty text; raises :class:`InvalidArgument` for one without schemas."""
    known = versions()
    if version and version not in known:
        text = "kubernetes:version is {}, and kubernetes-validate {} knows {} to {}."
        raise InvalidArgument(text.format(version, kubernetes_validate.__version__, known[0], known[-1]))
    return version or known[-1]


@functools.lru_cache(maxsize=None)
def _definitions(version):
    return _resource(version, "_definitions")


def _resource(version, name):
    text = (_folder() / "v{}.0-local-strict".format(version) / (name + ".json")).read_text(encoding="utf-8")
    return referencing.Resource.from_contents(json.loads(text))


@functools.lru_cache(maxsize=None)
def published(version, api_version, kind):
    """Return the validator of a kind of object by the published schema, strictly: no field that it does not have. None where there is
    none."""
    if not (_API_VERSION.fullmatch(api_version) and kind.isascii() and kind.isalpha()):
        return None  # these become a file's name
    group, slash, number = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], number) if part)
    try:
        resource = _resource(version, name)
    except OSError:
        return None
    registry = _definitions(version) @ (resource @ referencing.Registry())
    return jsonschema.Draft202012Validator(resource.contents, registry=registry)


def metadata_reference():
    """Return the schema that refers to the published one of an object's metadata."""
    return {"$ref": "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


def own(schema, version=""):
    """Return the validator of a schema of this package's; with a version it may refer to the published definitions."""
    registry = _definitions(version) @ referencing.Registry() if version else referencing.Registry()
    return jsonschema.Draft202012Validator(schema, registry=registry)


def defects(validator, value):
    """Return [(path as a tuple, sentence)] of all that does not fit, in the order of paths. A value is shown only where the schema has a
    title."""
    found = [(tuple(error.absolute_path), _sentence(error)) for error in validator.iter_errors(value)]
    return sorted(set(found), key=lambda item: (list(map(str, item[0])), item[1]))


def _sentence(error):
    title = error.schema.get("title") if isinstance(error.schema, dict) else None
    if title:
        return "must be {}, not {}".format(title, quoted(error.instance))
    if error.validator == "type":
        wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        return "must be {}".format(" or ".join(_NAMES.get(name, name) for name in wanted))
    if error.validator == "required":
        return "lacks {}".format(", ".join(name for name in error.validator_value if name not in error.instance))
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        unknown = sorted(quoted(key) for key in error.instance if key not in known)
        return "has unknown keys: {}".format(", ".join(unknown))
    if error.validator == "enum":
        return "must be one of {}".format(", ".join(map(str, error.validator_value)))
    return "does not fit the schema ({})".format(error.validator)
