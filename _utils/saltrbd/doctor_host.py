"""What this host brings: Python with the bindings, kernel modules, tools, rights; and mappings that are of no use any more."""

import glob
import os
import time

from saltrbd import boot, device_find, errors, kernel, process
from saltrbd.doctor_finding import FAULT, OK, UNKNOWN, WARNING, Finding
from saltrbd.run import PACKAGES, run, which

# Seconds for one interpreter to import the bindings.
_IMPORT = 8
# Seconds in which a mapping that is being made gets its device.
_MOMENT = 3.0
_SAY = "import rados, rbd; print('librados', rados.Rados().version(), 'librbd', '.'.join(map(str, rbd.RBD().version())))"
_SYSFS = {"rbd": "/sys/bus/rbd", "nbd": "/sys/module/nbd"}
_TOOLS = {"ext4": ("mkfs.ext4", "e2fsck", "resize2fs", "tune2fs"), "xfs": ("mkfs.xfs", "xfs_growfs", "xfs_admin", "xfs_repair")}
_MOUNTING = ("blkid", "findmnt", "mount", "umount", "blockdev")
_DRIVERS = {"krbd": ("rbd",), "nbd": ("rbd-nbd",), "fuse": ("qemu-storage-daemon", "losetup")}
# qemu's part that opens RBD images is a file of its own.
_QEMU_RBD = ("/usr/lib/*/qemu/block-rbd.so", "/usr/lib64/qemu*/block-rbd.so", "/usr/lib/qemu/block-rbd.so")


def bindings(settings):
    """Whether a Python of this host can import rados and rbd; as the worker's start tries it."""
    tried = []
    for python in process.interpreters(settings):
        try:
            result = run([python, "-E", "-s", "-c", _SAY], _IMPORT, ok=None)
        except errors.CommandTimeout:
            tried.append("{}: no answer within {} s".format(python, _IMPORT))
            continue
        except (errors.RbdError, OSError) as error:
            tried.append("{}: {}".format(python, getattr(error, "strerror", None) or "it cannot be run"))
            continue
        if result.code == 0 and result.out.startswith("librados"):
            return Finding("python", OK, "{} has the bindings: {}.".format(python, result.out.strip()))
        words = result.err.strip().splitlines()
        tried.append("{}: {}".format(python, words[-1] if words else "it is no Python 3.6 or newer"))
    text = (
        "No Python can import rados and rbd ({}). Install python3-rados and python3-rbd, or name an interpreter that has "
        "them as rbd:python."
    )
    return Finding("python", FAULT, text.format("; ".join(tried)))


def mounted(entries):
    """Return the volumes that are mounted on this host."""
    return [entry for entry in entries if entry["mount"]]


def kernel_modules(settings, entries):
    """The modules rbd and nbd, the features that the kernel maps, and the driver that is taken for each that the pillar wants."""
    drivers = sorted({entry["driver"] or settings.driver for entry in mounted(entries)} or {settings.driver})
    chosen = {driver: device_find.choose_driver(driver) for driver in drivers}
    other = all(driver for driver, _ in chosen.values())
    findings = [judge_module(name, kernel.lacks_module(name, _SYSFS[name]), os.path.isdir(_SYSFS[name]), other) for name in _SYSFS]
    findings += [judge_driver(driver, *chosen[driver], needed=bool(mounted(entries))) for driver in drivers]
    if any(driver == "krbd" for driver, _ in chosen.values()):
        findings.append(judge_features(entries, kernel.supported_features()))
    return findings


def judge_module(name, lacking, loaded, other):
    """A module that is not there is nothing wrong where ``other`` drivers map what is wanted."""
    if lacking:
        text = lacking[0].upper() + lacking[1:]
        if other:
            return Finding("kernel " + name, OK, text + "; it is not needed, another driver maps.")
        return Finding("kernel " + name, WARNING, text + "; install the kernel's extra modules, or use another driver.")
    return Finding("kernel " + name, OK, "The module {}.".format("is loaded" if loaded else "can be loaded"))


def judge_driver(wanted, driver, lacking, needed):
    """Whether what the pillar names as driver can map here."""
    name = "driver " + wanted
    if driver:
        return Finding(name, OK, "Images are mapped by {}.".format(driver))
    text = lacking[0].upper() + lacking[1:]
    return Finding(name, FAULT if needed else WARNING, "{} Install what one of them needs.".format(text.rstrip(".") + "."))


def judge_features(entries, supported):
    """Features that the pillar declares and the kernel's rbd does not map."""
    wrong = {}
    for entry in mounted(entries):
        lost = [name for name in entry["image"].get("features") or () if name not in supported]
        if lost and entry["driver"] in (None, "auto", "krbd"):
            wrong[str(entry["spec"])] = lost
    if wrong:
        told = "; ".join("{}: {}".format(spec, ", ".join(lost)) for spec, lost in sorted(wrong.items()))
        return Finding(
            "kernel features",
            FAULT,
            "The kernel's rbd cannot map images with these features ({}). Take them away, or map by nbd.".format(told),
        )
    return Finding("kernel features", OK, "The kernel's rbd maps {}.".format(", ".join(supported)))


def needed_tools(settings, entries):
    """Return the tools that the pillar's volumes need here; without a volume those of the defaults."""
    used = mounted(entries)
    found = {"rbd"}
    for entry in used or [{"fs_type": settings.fs_type, "driver": None}]:
        found |= set(_MOUNTING) | set(_TOOLS.get(entry["fs_type"], ()))
        driver = device_find.choose_driver(entry["driver"] or settings.driver)[0] or entry["driver"] or settings.driver
        found |= set(_DRIVERS.get(driver, ()))
        if entry.get("encryption") and driver == "krbd":
            found.add("cryptsetup")
    return sorted(found)


def tools(settings, entries):
    """Whether the tools are there."""
    needed = needed_tools(settings, entries)
    lacking = [tool for tool in needed if which(tool) is None]
    plugin = "qemu-storage-daemon" not in needed or "qemu-storage-daemon" in lacking or any(glob.glob(path) for path in _QEMU_RBD)
    return [judge_tools(needed, lacking, plugin, bool(mounted(entries)))]


def judge_tools(needed, lacking, plugin, used):
    """A tool that a declared volume needs is a fault, else a warning."""
    bad = FAULT if used else WARNING
    if lacking:
        packages = sorted({PACKAGES.get(tool, tool) for tool in lacking})
        return Finding("tools", bad, "Not installed: {}. Debian's packages: {}.".format(", ".join(lacking), ", ".join(packages)))
    if not plugin:
        return Finding("tools", bad, "qemu-storage-daemon cannot open RBD images; install qemu-block-extra.")
    return Finding("tools", OK, "All that is needed is there: {}.".format(", ".join(needed)))


def host():
    """Rights and boot."""
    findings = []
    if os.geteuid() != 0:
        findings.append(Finding("root", FAULT, "This runs as user {}; mapping and mounting need root.".format(os.geteuid())))
    try:
        possible = boot.possible()
    except OSError:  # who is not root does not see systemd's network
        possible = False
    if possible:
        findings.append(Finding("boot", OK, "systemd is process 1, so that volumes are mapped at boot."))
    else:
        text = "systemd is not process 1 here, so that volumes come back after a boot with the next highstate only."
        findings.append(Finding("boot", WARNING, text))
    return findings


def mappings(settings):
    """Devices of this host that are of no use any more: of the declared cluster, or of any where none is declared.

    One that is being made just now has no device for a moment, so what seems dead is looked at twice.
    """
    try:
        found = _mapped(settings)
        if any(one.fault for one in found):
            time.sleep(_MOMENT)
            before = {(one.spec, one.pid, one.fault) for one in found}
            found = [one for one in _mapped(settings) if not one.fault or (one.spec, one.pid, one.fault) in before]
    except errors.RbdError as error:
        return [Finding("mappings", UNKNOWN, str(error))]
    return judge_mappings(found)


def _mapped(settings):
    return [one for one in device_find.on_host() if not settings.fsid or one.fsid in (settings.fsid, "")]


def judge_mappings(found):
    """One finding for each dead mapping, or one for all."""
    dead = {}
    for one in found:
        if one.fault:
            text = "{}: {}. Unmount it, and run rbd_device.unmap {}.".format(one.device or "No device", one.fault, one.spec)
            dead.setdefault(one.spec, Finding("mapping " + str(one.spec), FAULT, text))
    return list(dead.values()) or [
        Finding("mappings", OK, "{} mapped here{}.".format(len(found) or "Nothing is", " and served" if found else ""))
    ]
