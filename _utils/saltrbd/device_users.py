"""Who uses a block device on this host: mounts in any mount namespace, swap, devices on top of it, open files."""

import glob
import os
import time

from saltrbd import proc

# Seconds within which one who only probes every device (udev, LVM, Salt's own grains) has closed it again.
PASSING = 2.0


def users(mapping, gone=()):
    """Return sentences, empty when nobody uses the device of a mapping; partitions of it count too.

    ``gone`` are mount points that do not count, because a dry run would have unmounted them.
    """
    if not mapping.device:
        return []
    numbers = _numbers(mapping.device)
    if any(point in gone for point, _ in _mounted(numbers)):
        return _mounts(numbers, gone)  # what is open is open through the mount
    found = _mounts(numbers) + _swap(numbers) + _holders(numbers)
    return found or _lasting_opens(numbers, mapping.pid)  # a mount or a holder is an open as well, and says more


def mount_points(device):
    """Return [(mount point, pid of a process in that mount namespace or "self")] of a device."""
    return _mounted(_numbers(device))


def _numbers(device):
    """Return {"major:minor": "/dev/NAME"} of the device and its partitions."""
    name = os.path.basename(device)
    found = {}
    for entry in ["/sys/block/{}/dev".format(name)] + glob.glob("/sys/block/{0}/{0}*/dev".format(glob.escape(name))):
        try:
            with open(entry) as file:
                found[file.read().strip()] = "/dev/" + entry.split("/")[-2]
        except OSError:
            pass
    return found


def _mounted(numbers):
    devices = set(numbers.values())
    found = []
    for mount in proc.all_mounts():
        # btrfs shows a number of its own, but names the device.
        if mount.device in numbers or mount.source in devices:
            found.append((mount.point, mount.pid))
    return found


def _mounts(numbers, gone=()):
    seen, found = set(), []
    for point, pid in _mounted(numbers):
        if point in seen or point in gone:
            continue
        seen.add(point)
        found.append(
            "it is mounted on {}".format(point)
            if pid == "self"
            else "it is mounted on {} in another mount namespace (that of pid {}, {})".format(point, pid, proc.name_of(pid) or "gone")
        )
    return found


def _swap(numbers):
    devices = set(numbers.values())
    with open("/proc/swaps") as file:
        used = [line.split()[0] for line in file.read().splitlines()[1:]]
    return ["{} is swap space".format(path) for path in used if path in devices]


def _holders(numbers):
    found = []
    for path in numbers.values():
        for folder in glob.glob("/sys/class/block/{}/holders/*".format(glob.escape(os.path.basename(path)))):
            found.append("{} is built on it".format("/dev/" + os.path.basename(folder)))
    return found


def _lasting_opens(numbers, server):
    until = time.monotonic() + PASSING
    while True:
        found = _opens(numbers, server)
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


def _opens(numbers, server):
    """``server`` is the daemon of the device: rbd-nbd has its own device open."""
    found = []
    for pid in proc.pids():
        if pid not in (os.getpid(), server) and _has_open(pid, numbers):
            found.append("pid {} ({}) has it open".format(pid, proc.name_of(pid) or "gone"))
    return found


def _has_open(pid, numbers):
    folder = "/proc/{}/fd".format(pid)
    try:
        entries = os.listdir(folder)
    except OSError:
        return False
    for entry in entries:
        path = os.path.join(folder, entry)
        try:
            # Only what names a device is looked at: asking for a file of a dead server could hang.
            if not os.readlink(path).startswith("/dev/"):
                continue
            number = os.stat(path).st_rdev
        except OSError:
            continue
        if "{}:{}".format(os.major(number), os.minor(number)) in numbers:
            return True
    return False
