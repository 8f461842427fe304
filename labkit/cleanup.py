"""What a lab's cluster left on this host: mounts, loop devices, mapped devices, daemons, fstab lines; found and removed.

Everything is recognised by the cluster (its fsid, or its configuration file or monitor in a command line), so
another cluster's mappings on the same host are never touched. It works as well when the cluster is dead.
"""

import os
import re
import shutil
from collections import namedtuple
from pathlib import Path

from labkit import cluster, processes
from labkit.commands import LabError, run

# Where saltrbd keeps the links that fstab names and the files that images are exported as; each path has the fsid in it.
RUN = Path("/run/rbd-volumes")
FSTAB = Path("/etc/fstab")
BLOCKS = Path("/sys/block")
# Where saltrbd keeps what the units map at boot, what they run, and the units.
BOOT, PROGRAM, UNITS = Path("/etc/rbd-volumes"), Path("/usr/local/lib/rbd-volumes"), Path("/etc/systemd/system")

# An exported image's file in the arguments of qemu-storage-daemon: as a list of options or as JSON.
_EXPORT = re.compile(r'(?:^|,)mountpoint=([^,]+)|"mountpoint":\s*"([^"]+)"')

Mount = namedtuple("Mount", "point device source fs_type")
Leftovers = namedtuple("Leftovers", "mounts devices exports daemons")


def leftovers(known):
    """Return what this host holds of the cluster with these facts, without changing anything.

    ``mounts``: :class:`Mount`, the last one first; ``devices``: names such as dm-0, loop0, rbd1, nbd2, each before the one
    that it lies on; ``exports``: files that are images; ``daemons``: pids of qemu-storage-daemon and rbd-nbd.
    """
    daemons = processes.find(_serves(known))
    mounts = _mounts()
    exports = {path for pid in daemons for path in _exports(processes.arguments(pid))}
    # A killed daemon leaves its file behind, mounted and dead.
    exports |= {mount.point for mount in mounts if mount.fs_type.startswith("fuse") and _is_ours(mount.point, known)}
    devices = _with_layers(_loops(exports, known) + _mapped_by_kernel(known) + _mapped_by_nbd(daemons))
    numbers = {_device_number(name) for name in devices}
    held = [mount for mount in mounts if mount.device in numbers]
    return Leftovers(held, devices, sorted(exports), daemons)


def clear(folder):
    """Take off this host what the cluster in ``folder`` left on it, then end the cluster and remove its folder.

    Works as well when the cluster is half dead, or was never there. Returns one sentence for each thing that stayed.
    """
    known = cluster.facts(folder)
    problems = []
    if known is not None:
        processes.resume(cluster.daemons(folder).values())
        alive = cluster.healthy(folder)
        if not alive and _mapped_by_kernel(known):
            problems += _let_kernel_requests_fail(folder)
        problems += release(known, alive)
    cluster.stop(folder)
    return problems


def _let_kernel_requests_fail(folder):
    try:
        cluster.forget_pools(folder)
    except LabError as problem:
        return [f"The kernel's mappings cannot be ended without a monitor, and it did not start: {problem}"]
    return []


def release(known, alive):
    """Unmount, detach and unmap all of it; return one sentence for each thing that stayed.

    ``alive`` says that the cluster answers. The daemons of a dead one are ended first: then what waits for them gets
    an error.
    """
    found = leftovers(known)
    stuck = [] if alive else _end_daemons(found.daemons, known, patience=1)
    said = {mount.point: _unmount(mount.point) for mount in found.mounts}
    said.update((name, _detach(name, alive)) for name in found.devices)
    stuck = stuck or _end_daemons(found.daemons, known, patience=10)
    for path in found.exports:
        _attempt(["fusermount3", "-uz", path])
    remove_links(known)
    remove_fstab_lines(known)
    remove_units(known)
    left = leftovers(known)
    problems = [f"The process {pid} did not end even after SIGKILL; the kernel holds it." for pid in stuck]
    problems += [f"{mount.point} is still mounted: {said.get(mount.point)}" for mount in left.mounts]
    problems += [f"/dev/{name} is still attached: {said.get(name)}" for name in left.devices]
    return problems


def remove_fstab_lines(known):
    """Take out the lines of fstab whose device is a link of this cluster's volumes."""
    try:
        lines = FSTAB.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if not _is_ours((line.split() or [""])[0], known)]
    if kept != lines:
        # A second file and a rename: fstab is never half written.
        new = FSTAB.with_name("fstab.lab-new")
        new.write_text("".join(kept))
        new.chmod(FSTAB.stat().st_mode & 0o777)
        new.replace(FSTAB)


def remove_units(known):
    """Take away the systemd units that would map this cluster's volumes at boot, and the template with the last record."""
    records = [path for path in BOOT.glob("*.json") if known["fsid"] in path.read_text()]
    for path in records:
        name = f"rbd-volume@{path.stem}.service"
        (UNITS / "multi-user.target.wants" / name).unlink(missing_ok=True)
        path.unlink()  # without it the unit has nothing to unmap, and ends at once
        _attempt(["systemctl", "stop", name])
        _attempt(["systemctl", "reset-failed", name])
    if not records:
        return
    if not any(BOOT.iterdir()):
        BOOT.rmdir()
        shutil.rmtree(PROGRAM, ignore_errors=True)
        (UNITS / "rbd-volume@.service").unlink(missing_ok=True)
    _attempt(["systemctl", "daemon-reload"])


def remove_links(known):
    """Remove the links and files of this cluster's volumes under /run."""
    for path in sorted(RUN.rglob("*"), reverse=True):
        if _is_ours(path, known):
            try:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            except OSError:
                # Still a mount point: leftovers() names it.
                continue


def _is_ours(path, known):
    """Tell whether a path is that of one of this cluster's volumes: under /run/rbd-volumes, with its fsid in it."""
    return str(path).startswith(f"{RUN}/") and known["fsid"] in str(path)


def _serves(known):
    marks = [known["fsid"], known["conf"], *known["monitors"]]

    def wanted(argv):
        program = os.path.basename(argv[0])
        return program in ("qemu-storage-daemon", "rbd-nbd") and any(mark in part for mark in marks for part in argv)

    return wanted


def _exports(argv):
    return [plain or quoted for part in argv for plain, quoted in _EXPORT.findall(part)]


def _mounts():
    """Return all mounts of this mount namespace, the last one first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, (fs_type, source) = before.split(), after.split()[:2]
        found.append(Mount(_unescape(fields[4]), fields[2], _unescape(source), fs_type))
    return found[::-1]


def _unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _device_number(name):
    try:
        return (BLOCKS / name / "dev").read_text().strip()
    except OSError:
        return ""


def _loops(exports, known):
    found = []
    for entry in BLOCKS.glob("loop*/loop/backing_file"):
        backing = entry.read_text().rstrip("\n").removesuffix(" (deleted)")
        if backing in exports or _is_ours(backing, known):
            found.append(entry.parent.parent.name)
    return found


def _mapped_by_kernel(known):
    found = []
    for device in Path("/sys/bus/rbd/devices").glob("*"):
        if (device / "cluster_fsid").read_text().strip() == known["fsid"]:
            found.append(f"rbd{device.name}")
    return found


def _mapped_by_nbd(daemons):
    found = []
    for entry in BLOCKS.glob("nbd*/pid"):
        if int(entry.read_text()) in daemons:
            found.append(entry.parent.name)
    return found


def _with_layers(names):
    """Put before each device what lies on it, an opened LUKS for instance."""
    found = []
    for name in names:
        found += [*_with_layers(sorted(path.name for path in BLOCKS.glob(f"{name}/holders/*"))), name]
    return list(dict.fromkeys(found))


def _end_daemons(pids, known, patience):
    return processes.end(pids, _serves(known), patience)


def _unmount(point):
    # A frozen filesystem would outlive its own unmounting.
    _attempt(["fsfreeze", "--unfreeze", point])
    if _attempt(["umount", point], timeout=30) is None:
        return None
    return _attempt(["umount", "--lazy", point])


def _detach(name, alive):
    device = f"/dev/{name}"
    if name.startswith("dm-"):
        return _attempt(["cryptsetup", "close", (BLOCKS / name / "dm/name").read_text().strip()])
    if name.startswith("loop"):
        return _attempt(["losetup", "--detach", device])
    if name.startswith("nbd"):
        return _attempt(["rbd-nbd", "unmap", device])
    return _attempt(["rbd", "device", "unmap", *([] if alive else ["-o", "force"]), device])


def _attempt(argv, timeout=20):
    """Run a program that may fail; return None where it succeeded, else what it said."""
    try:
        code, out, err = run(argv, timeout=timeout, check=False)
    except LabError as problem:
        return str(problem)
    return None if code == 0 else (err or out).strip()


def describe(found):
    """Return what ``leftovers`` found as lines for people: mounts first, then what is behind them."""
    lines = [f"{mount.point} ({mount.fs_type}) on {mount.source}" for mount in reversed(found.mounts)]
    behind = (
        ("devices", found.devices),
        ("exported images", found.exports),
        ("daemons", [_name(pid) for pid in found.daemons]),
    )
    return lines + [f"{what}: {', '.join(some)}" for what, some in behind if some]


def _name(pid):
    argv = processes.arguments(pid)
    return f"{os.path.basename(argv[0])} {pid}" if argv else f"{pid} (ended)"
