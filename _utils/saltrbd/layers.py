"""What stands on a block device: partitions and the device-mapper's layers (LUKS, LVM), as the kernel lists them in /sys."""

import os


def above(number, sys="/sys"):
    """Return (["major:minor", ...] of the device and of all that stands on it alone, [names of layers that stand on other devices too]).

    A layer over several devices (an LVM volume that is striped, a mirror) is one filesystem on several images.
    """
    found, shared, names = [number], [], {number: _name_of(number, sys)}
    for one in found:  # grows
        for name in _on_top(names[one], sys):
            other = attribute(os.path.join(sys, "class/block", name, "dev"))
            if not other or other in names:
                continue
            names[other] = name
            if set(_entries(os.path.join(sys, "class/block", name, "slaves"))) - set(names.values()):
                shared.append(name)
                continue
            found.append(other)
    return found, sorted(set(shared))


def _name_of(number, sys):
    try:
        return os.path.basename(os.path.realpath(os.path.join(sys, "dev/block", number)))
    except OSError:
        return ""


def _on_top(name, sys):
    folder = os.path.join(sys, "class/block", name)
    partitions = [entry for entry in _entries(folder) if os.path.exists(os.path.join(folder, entry, "partition"))]
    return partitions + _entries(os.path.join(folder, "holders"))


def _entries(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def attribute(path):
    """Return what a file of /sys says, empty for one that is not there."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
