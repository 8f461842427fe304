"""What the kernel of this host can map: modules, device nodes, features of images."""

import os

from saltrbd import errors
from saltrbd.run import run, which

# What Linux supports since 5.3, for a host whose module is not loaded yet and so cannot be asked.
_SINCE_5_3 = ("layering", "striping", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "data-pool", "operations")
_BITS = {
    1: "layering",
    2: "striping",
    4: "exclusive-lock",
    8: "object-map",
    16: "fast-diff",
    32: "deep-flatten",
    64: "journaling",
    128: "data-pool",
    256: "operations",
    512: "migrating",
    1024: "non-primary",
}
# The kernel follows so many parents (RBD_MAX_PARENT_CHAIN_LEN).
MAX_PARENTS = 16
# Features that can be taken away from an image; the rest is for its whole life.
_DISABLED = ("exclusive-lock", "object-map", "fast-diff", "deep-flatten", "journaling")


def lacks_module(name, sysfs):
    """Return what is missing for a kernel module, or None when it is there or could be loaded (nothing is loaded here)."""
    if not os.path.isdir(sysfs) and not _loadable(name):
        return "the kernel has no module {}".format(name)
    if not _shows_devices():
        return "/dev is not a devtmpfs, so that new devices of the kernel do not show (a container)"
    return None


def load_module(name, sysfs):
    """Load a kernel module if it is not there."""
    if not os.path.isdir(sysfs):
        run(["modprobe", name], 30)


def _loadable(name):
    return which("modprobe") is not None and run(["modprobe", "--dry-run", "--quiet", name], 30, ok=None).code == 0


def _shows_devices():
    try:
        with open("/proc/self/mountinfo") as file:
            return any(line.split(" ")[4] == "/dev" and " - devtmpfs " in line for line in file)
    except OSError:
        return False


def supported_features(path="/sys/bus/rbd/supported_features"):
    """Return the names of the image features that the kernel's rbd maps."""
    try:
        with open(path) as file:
            bits = int(file.read(), 16)
    except OSError:
        return sorted(_SINCE_5_3)
    return sorted(name for bit, name in _BITS.items() if bits & bit)


def features_refusal(spec, features, supported):
    """Return why the kernel cannot map an image with these features, with the command that helps, or None."""
    wrong = [name for name in features if name not in supported]
    if not wrong:
        return None
    text = "The kernel's rbd on this host cannot map {}, because of its features {}".format(spec, ", ".join(wrong))
    if all(name in _DISABLED for name in wrong):
        return text + ". Run 'rbd feature disable {} {}', or map it with the driver nbd or fuse.".format(spec.head, " ".join(wrong))
    return text + "; they cannot be disabled. Map it with the driver nbd or fuse."


def parents_refusal(spec, parents, supported):
    """Return why the kernel cannot map a clone of these parents, or None; ``parents`` are [(spec, features)], the next one first."""
    if len(parents) > MAX_PARENTS:
        return "The kernel's rbd cannot map {}, which has more than {} parents. Run 'rbd flatten {}' on it or on one of them.".format(
            spec, MAX_PARENTS, spec.head
        )
    for parent, features in parents:
        refusal = features_refusal(parent, features, supported)
        if refusal:
            return "{} is a clone. {}".format(spec, refusal)
    return None


def node(path):
    """Return ``path`` if it is a device node; raises :class:`NotSupported` where /dev does not show it."""
    if not os.path.exists(path):
        raise errors.NotSupported("The kernel made {}, but /dev of this host does not show it; use the driver fuse.".format(path))
    return path
