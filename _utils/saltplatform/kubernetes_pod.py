"""A Pod whose init containers wait for its volumes and prepare them, one after the other; each must succeed before the next one starts."""

from saltplatform import kubernetes_names as names

# Seconds that the first init container waits for all volumes, where the pillar does not say.
WAIT = 60

# Kubernetes starts no container before the driver has mounted the volumes. What it cannot see is a mount that is gone, or a folder of the
# host in
# its place: nothing is prepared, and nothing written, before each path is a mount point or a block device of its own.
_WAIT = """\
left=$1
shift
there() {
    [ -b "$1" ] && return 0
    while read -r _ point _; do
        [ "$point" = "$1" ] && return 0
    done </proc/mounts
    return 1
}
for path in "$@"; do
    until there "$path"; do
        left=$((left - 1))
        if [ "$left" -lt 0 ]; then
            echo "No volume is at $path." >&2
            exit 1
        fi
        sleep 1
    done
done
"""

# What is as declared stays as it is, so that it may run at every start of the Pod.
_PREPARE = """\
set -e
path=$1 owner=$2 mode=$3
shift 3
for folder in "$@"; do
    mkdir -p "$path/$folder"
    [ -z "$owner" ] || chown "$owner" "$path/$folder"
done
[ -z "$mode" ] || chmod "$mode" "$path"
[ -z "$owner" ] || chown "$owner" "$path"
"""


def pod(declared, given, labels):
    """Return the Pod that ``given`` (an item of :class:`saltplatform.kubernetes_pillar.Declared`'s ``pods``) declares."""
    mounts = [_mount(item) for item in given["volumes"]]
    init = [_wait(declared, given, mounts)]
    for number, (item, mount) in enumerate(zip(given["volumes"], mounts), 1):
        if {"owner", "mode", "folders"} & set(item):
            init.append(_prepare(declared, "prepare-{}".format(number), item, mount))
    init += [_with(container, mounts) for container in given.get("init", ())]
    volumes = [_volume(item) for item in given["volumes"]]
    extra = given.get("spec") or {}
    spec = dict(extra, volumes=volumes + list(extra.get("volumes") or ()), initContainers=init)
    spec["containers"] = [_with(container, mounts) for container in given["containers"]]
    metadata = {"name": given["name"], "namespace": declared.namespace, "labels": dict(given.get("labels") or {}, **labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def volume_name(volume):
    """Return the name by which a Pod's containers mount a volume: that of its claim, where it is one."""
    return names.label(volume.claim)


def _volume(item):
    claim = {"claimName": item["volume"].claim}
    if item.get("read_only"):
        claim["readOnly"] = True
    return {"name": volume_name(item["volume"]), "persistentVolumeClaim": claim}


def _mount(item):
    """Return (field of a container, what it gets there)."""
    name = volume_name(item["volume"])
    if item["volume"].block:
        return "volumeDevices", {"name": name, "devicePath": item["path"]}
    mount = {"name": name, "mountPath": item["path"]}
    return "volumeMounts", dict(mount, readOnly=True) if item.get("read_only") else mount


def _with(container, mounts):
    """Return the container with all volumes of the Pod, but for a field that it has itself."""
    found = dict(container)
    for field, mount in mounts:
        if field not in container:
            found.setdefault(field, []).append(mount)
    return found


def _wait(declared, given, mounts):
    paths = [item["path"] for item in given["volumes"]]
    command = ["sh", "-c", _WAIT, "wait", str(given.get("wait", WAIT)), *paths]
    return _with({"name": "wait", "image": declared.tools_image, "command": command}, mounts)


def _prepare(declared, name, item, mount):
    command = ["sh", "-c", _PREPARE, name, item["path"], item.get("owner", ""), item.get("mode", ""), *item.get("folders", ())]
    # Owner and mode are for root to change; nothing else of it is needed.
    security = {"runAsUser": 0, "allowPrivilegeEscalation": False}
    return _with({"name": name, "image": declared.tools_image, "command": command, "securityContext": security}, [mount])
