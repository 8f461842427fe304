"""Filesystems and their mounts: no-op, create, change, remove, each refusal; clones beside their parents; growth."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from saltrbd import boot, errors, filesystem
from saltrbd.run import run
from state_checks import both, refused, unchanged

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"


def tool(*argv, check=True):
    return subprocess.run([shutil.which(argv[0], path=TOOLS), *argv[1:]], check=check, timeout=60, capture_output=True, text=True).stdout


@pytest.fixture
def volume(states, modules, rbd_cli, spec):
    """An image with a filesystem, mapped: ``volume("xfs", "320M")``; returns (spec, device)."""

    def make(fs_type="ext4", size="64M", name=spec):
        rbd_cli("create", name, "--size", size)
        assert states.rbd_device.mapped(name).result is True
        result = states.rbd_filesystem.formatted(name, fs_type=fs_type)
        assert result.result is True, result.comment
        return name, modules.rbd_device.list()[name]["device"]

    return make


@pytest.fixture
def point(tmp_path):
    """A mount point that does not exist yet."""
    return str(tmp_path / "new" / "point")


def mount_line(point):
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1] == point:
            return line.split()
    return None


@pytest.mark.parametrize(("fs_type", "size"), [("ext4", "64M"), ("xfs", "320M")])
def test_made_mounted_changed_and_taken_away(fs_type, size, states, modules, rbd_cli, spec, point):
    rbd_cli("create", spec, "--size", size)
    assert "declare rbd_device.mapped before its filesystem" in refused(states.rbd_filesystem.formatted, spec, fs_type=fs_type)
    assert "declare rbd_device.mapped before its mount" in refused(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    assert states.rbd_device.mapped(spec).result is True
    assert "carries no filesystem" in refused(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    result = both(states.rbd_filesystem.formatted, spec, fs_type=fs_type, label="one")
    assert result.changes[spec] == {"filesystem": {"old": None, "new": fs_type}, "label": {"old": None, "new": "one"}}
    result = both(states.rbd_filesystem.mounted, point, image=spec, persist=False, mount_options=["noatime"])
    assert result.changes[point] == {"mounted": {"old": None, "new": spec}, "options": {"old": None, "new": "noatime"}}
    assert mount_line(point)[2] == fs_type and "noatime" in mount_line(point)[3]
    assert Path(point).stat().st_mode & 0o777 == 0o755
    assert modules.rbd_filesystem.list()[point]["image"] == spec
    # While it is mounted.
    assert states.rbd_filesystem.formatted(spec, fs_type=fs_type, label="one").changes == {}
    result = both(states.rbd_filesystem.formatted, spec, fs_type=fs_type, label="two")
    assert result.changes[spec] == {"label": {"old": "one", "new": "two"}}
    result = both(states.rbd_filesystem.mounted, point, image=spec, persist=False, mount_options="nosuid,nodev")
    assert set(result.changes[point]) == {"options"}
    assert {"nosuid", "nodev", "relatime"} <= set(mount_line(point)[3].split(","))
    unchanged(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    other = "xfs" if fs_type == "ext4" else "ext4"
    said = refused(states.rbd_filesystem.formatted, spec, fs_type=other)
    assert f"carries {fs_type} and is mounted on {point}, not {other}" in said
    assert f"carries {fs_type}, not {other}" in refused(states.rbd_filesystem.mounted, point, image=spec, fs_type=other, persist=False)
    result = both(states.rbd_filesystem.unmounted, point)
    assert result.changes == {point: {"mounted": {"old": spec, "new": None}}}
    result = both(states.rbd_filesystem.formatted, spec, fs_type=fs_type, label="")
    assert result.changes[spec] == {"label": {"old": "two", "new": ""}}
    assert modules.rbd_filesystem.check(spec)["state"] == "clean"


def test_a_whole_run_is_foreseen(state_run, spec, point, tmp_path):
    """Image, device, filesystem, mount, snapshot, clone: the dry run on nothing predicts what the run does."""
    text = f"""
volume:
  rbd_image.present: [{{name: {spec}}}, {{size: 64M}}]
device:
  rbd_device.mapped: [{{name: {spec}}}]
filesystem:
  rbd_filesystem.formatted: [{{name: {spec}}}, {{fs_type: ext4}}]
mount:
  rbd_filesystem.mounted: [{{name: {point}}}, {{image: {spec}}}, {{persist: False}}]
snapshot:
  rbd_snapshot.protected: [{{name: {spec}@s}}, {{consistency: filesystem}}]
clone:
  rbd_clone.present: [{{name: {spec}c}}, {{parent: {spec}@s}}, {{size: 96M}}]
device of the clone:
  rbd_device.mapped: [{{name: {spec}c}}]
filesystem of the clone:
  rbd_filesystem.formatted: [{{name: {spec}c}}, {{fs_type: ext4}}]
mount of the clone:
  rbd_filesystem.mounted: [{{name: {tmp_path}/clone}}, {{image: {spec}c}}, {{persist: False}}]
device of the snapshot:
  rbd_device.mapped: [{{name: {spec}@s}}]
mount of the snapshot:
  rbd_filesystem.mounted: [{{name: {tmp_path}/snapshot}}, {{image: {spec}@s}}, {{persist: False}}]
"""
    dry = state_run(text, test=True)
    foreseen = [result.result for result in dry]
    assert False not in foreseen, [result.comment for result in dry if result.result is False]
    real = state_run(text)
    assert {result.result for result in real} == {True}, [result.comment for result in real if not result.result]
    assert [result.changes for result in dry] == [result.changes for result in real]
    assert real[8].changes[f"{tmp_path}/clone"]["size"] == {"old": "64M", "new": "96M"}
    for test in (True, False):
        assert [result.changes for result in state_run(text, test=test)] == [{}] * 11
    away = f"""
no mount:
  rbd_filesystem.unmounted: [{{name: {tmp_path}/snapshot}}]
no device:
  rbd_device.unmapped: [{{name: {spec}@s}}]
"""
    dry, real = state_run(away, test=True), state_run(away)
    assert [result.changes for result in dry] == [result.changes for result in real]
    assert {result.result for result in real} == {True}, [result.comment for result in real]


def snapshot_of(rbd_cli, spec):
    """A clone of what is there now, as after a crash: rbd-nbd would let the filesystem stand still first."""
    rbd_cli("snap", "create", "--skip-quiesce", spec + "@s")
    rbd_cli("snap", "protect", spec + "@s")
    rbd_cli("clone", spec + "@s", spec + "c")
    return spec + "c"


@pytest.mark.parametrize(("fs_type", "size"), [("ext4", "64M"), ("xfs", "320M")])
def test_a_clone_of_a_mounted_filesystem_beside_its_parent(fs_type, size, states, modules, volume, rbd_cli, point, tmp_path):
    spec, _ = volume(fs_type, size)
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    Path(point, "edit").write_text("edit1\n")
    os.sync()
    clone, there = snapshot_of(rbd_cli, spec), str(tmp_path / "clone")
    assert states.rbd_device.mapped(clone).result is True
    unchanged(states.rbd_filesystem.formatted, clone, fs_type=fs_type)
    assert filesystem.REPLAY in states.rbd_filesystem.formatted(clone, fs_type=fs_type).comment
    result = both(states.rbd_filesystem.mounted, there, image=clone, persist=False)
    assert ("uuid" in result.changes[there]) == (fs_type == "xfs")
    assert Path(there, "edit").read_text() == "edit1\n"
    uuids = {modules.rbd_filesystem.info(name)["uuid"] for name in (spec, clone)}
    assert len(uuids) == (2 if fs_type == "xfs" else 1)
    both(states.rbd_filesystem.unmounted, there)
    again = both(states.rbd_filesystem.mounted, there, image=clone, persist=False)
    assert "uuid" not in again.changes[there]
    # The snapshot itself, which cannot replay its journal.
    assert states.rbd_device.mapped(spec + "@s").result is True
    third = str(tmp_path / "snapshot")
    result = both(states.rbd_filesystem.mounted, third, image=spec + "@s", persist=False)
    words = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}[fs_type]
    assert result.changes[third]["options"]["new"] == words and mount_line(third)[3].startswith("ro")


def test_a_clone_of_a_clone_gets_a_uuid_too(states, modules, volume, rbd_cli, tmp_path):
    spec, _ = volume("xfs", "320M")
    clone = snapshot_of(rbd_cli, spec)
    assert states.rbd_device.mapped(clone).result is True
    both(states.rbd_filesystem.mounted, str(tmp_path / "c"), image=clone, persist=False)
    grandchild = snapshot_of(rbd_cli, clone)
    assert states.rbd_device.mapped(grandchild).result is True
    result = both(states.rbd_filesystem.mounted, str(tmp_path / "g"), image=grandchild, persist=False)
    assert "uuid" in result.changes[str(tmp_path / "g")]


def test_an_xfs_that_keeps_its_parents_uuid(states, volume, modules, rbd_cli, point, tmp_path):
    spec, _ = volume("xfs", "320M")
    clone, there = snapshot_of(rbd_cli, spec), str(tmp_path / "clone")
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    assert states.rbd_device.mapped(clone).result is True
    both(states.rbd_filesystem.mounted, there, image=clone, persist=False, mount_options=["nouuid"])
    assert modules.rbd_filesystem.info(clone)["uuid"] == modules.rbd_filesystem.info(spec)["uuid"]
    both(states.rbd_filesystem.unmounted, there)
    # Without its parent the kernel would mount it under the same UUID, and what it is shows no more.
    assert states.rbd_device.unmapped(clone).result is True
    rbd_cli("flatten", "--no-progress", clone)
    assert states.rbd_device.mapped(clone).result is True
    said = refused(states.rbd_filesystem.mounted, there, image=clone, persist=False)
    assert f"has the UUID of the filesystem that is mounted on {point}" in said and "xfs_admin -U generate" in said


def test_a_mount_point_is_never_hidden_or_taken(states, volume, spec, tmp_path, modules):
    volume()
    full, link, inside = tmp_path / "full", tmp_path / "link", tmp_path / "real"
    (full / "folder").mkdir(parents=True)
    assert "is not empty: a mount would hide" in refused(states.rbd_filesystem.mounted, str(full), image=spec, persist=False)
    inside.mkdir()
    link.symlink_to(inside)
    said = refused(states.rbd_filesystem.mounted, str(link / "point"), image=spec, persist=False)
    assert f"declare its real path {inside}/point" in said
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(states.rbd_filesystem.mounted, str(tmp_path / "file"), image=spec, persist=False)
    tool("mount", "-t", "tmpfs", "tmpfs", str(inside))
    try:
        assert f"tmpfs (tmpfs) is mounted on {inside}" in refused(states.rbd_filesystem.mounted, str(inside), image=spec, persist=False)
        assert "which is no image's device" in refused(states.rbd_filesystem.unmounted, str(inside))
    finally:
        tool("umount", str(inside))
    both(states.rbd_filesystem.mounted, str(inside), image=spec, persist=False)
    said = refused(states.rbd_filesystem.mounted, str(tmp_path / "elsewhere"), image=spec, persist=False)
    assert f"is mounted on {inside}; unmount it there" in said
    other = volume(name=spec + "b")[0]
    assert f"is mounted on {inside}, not {other}" in refused(states.rbd_filesystem.mounted, str(inside), image=other, persist=False)
    assert f"{spec} is mounted on {inside}, not {other}" in refused(states.rbd_filesystem.unmounted, str(inside), image=other)
    unchanged(states.rbd_filesystem.unmounted, str(tmp_path / "nothing"))
    # What another mount covers is not what the path shows.
    tool("mount", "-t", "tmpfs", "tmpfs", str(inside))
    try:
        assert "tmpfs (tmpfs) is mounted" in refused(states.rbd_filesystem.mounted, str(inside), image=spec, persist=False)
    finally:
        tool("umount", str(inside))


@pytest.mark.parametrize("name", ["relative", "/", "/mnt/../x", "/mnt/a b"])
def test_a_mount_point_that_is_none(name, states, spec, rbd_cli):
    rbd_cli("create", spec, "--size", "64M")
    assert "must be an absolute path" in refused(states.rbd_filesystem.mounted, name, image=spec)
    assert "must be an absolute path" in refused(states.rbd_filesystem.unmounted, name)


def test_arguments_are_checked_in_the_dry_run(states, spec, rbd_cli, point):
    rbd_cli("create", spec, "--size", "64M")
    assert "ext4 or xfs" in refused(states.rbd_filesystem.formatted, spec, fs_type="btrfs")
    assert "not an option" in refused(states.rbd_filesystem.formatted, spec, mkfs_options=["-F"])
    assert "longer than the 16 bytes" in refused(states.rbd_filesystem.formatted, spec, label="x" * 17)
    assert "names a snapshot" in refused(states.rbd_filesystem.formatted, spec + "@s")
    assert "does not exist" in refused(states.rbd_filesystem.formatted, spec + "x")
    assert "persist must be True or False" in refused(states.rbd_filesystem.mounted, point, image=spec, persist="yes")
    assert "not one option" in refused(states.rbd_filesystem.mounted, point, image=spec, mount_options="a,,b")
    assert "does not exist" in refused(states.rbd_filesystem.mounted, point, image=spec + "@nope")


def test_busy_names_who_uses_it(states, volume, spec, point):
    volume()
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    with subprocess.Popen(["sleep", "60"], cwd=point) as process:
        dry, ran = states.rbd_filesystem.unmounted(point, test=True), states.rbd_filesystem.unmounted(point)
        assert dry.result is None and dry.changes  # an earlier state may end it
        assert f"{spec} cannot be unmounted from {point} while it is so: pid {process.pid} (sleep) uses it." in dry.comment
        assert (ran.result, ran.changes) == (False, {}) and f"pid {process.pid} (sleep) uses it" in ran.comment
        process.kill()
    both(states.rbd_filesystem.unmounted, point)


def test_fstab(states, modules, volume, spec, point, table, cluster):
    volume()
    before = table.read_bytes()
    result = both(states.rbd_filesystem.mounted, point, image=spec, mount_options=["noatime"])
    link = f"/run/rbd-volumes/{cluster.fsid}/{spec}"
    line = f"{link} {point} ext4 noatime,_netdev,nofail,x-systemd.requires={boot.unit(link)} 0 0\n"
    assert result.changes[point]["fstab"] == {"old": None, "new": line[: -len(" 0 0\n")]}
    assert table.read_bytes() == (before if before.endswith(b"\n") or not before else before + b"\n") + line.encode()
    assert os.path.realpath(link) == modules.rbd_device.list()[spec]["device"]
    # What the boot does with it.
    tool("umount", point)
    tool("mount", point)
    assert "noatime" in mount_line(point)[3]
    unchanged(states.rbd_filesystem.mounted, point, image=spec, mount_options=["noatime"])
    # Somebody changes it.
    table.write_bytes(table.read_bytes().replace(b"noatime,_netdev", b"defaults"))
    result = both(states.rbd_filesystem.mounted, point, image=spec, mount_options=["noatime"])
    assert set(result.changes[point]) == {"fstab"} and line.encode() in table.read_bytes()
    both(states.rbd_filesystem.unmounted, point, image=spec, persist=True)
    assert line.encode() in table.read_bytes()
    result = both(states.rbd_filesystem.unmounted, point, image=spec)
    assert set(result.changes[point]) == {"fstab"}
    assert table.read_bytes() == (before if before.endswith(b"\n") or not before else before + b"\n")


def test_a_line_in_fstab_that_is_not_ours(states, volume, spec, point, table):
    volume()
    foreign = f"/dev/sdz1 {point} ext4 noauto 0 0\n".encode()
    table.write_bytes(table.read_bytes() + foreign)
    before = table.read_bytes()
    assert "not this package's (/dev/sdz1, ext4)" in refused(states.rbd_filesystem.mounted, point, image=spec)
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    both(states.rbd_filesystem.unmounted, point)
    assert table.read_bytes() == before


@pytest.mark.parametrize(("fs_type", "size", "more"), [("ext4", "64M", "128M"), ("xfs", "320M", "400M")])
def test_it_grows_with_its_image(fs_type, size, more, states, modules, volume, point, spec, driver):
    volume(fs_type, size)
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    Path(point, "edit").write_text("edit1\n")
    assert states.rbd_image.present(spec, size=more).result is True
    unchanged(states.rbd_filesystem.mounted, point, image=spec, persist=False, grow=False)
    # In the machines (krbd, nbd) it grows while it is mounted, without exception.
    if driver == "fuse" and fs_type == "ext4" and not modules.rbd_filesystem.mount_point(point)["can_grow"]:
        assert "CAP_SYS_RESOURCE" in refused(states.rbd_filesystem.mounted, point, image=spec, persist=False)
        both(states.rbd_filesystem.unmounted, point)
    result = both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    assert result.changes[point]["size"] == {"old": size, "new": more}
    told = os.statvfs(point)
    assert told.f_frsize * told.f_blocks > int(size[:-1]) * (1 << 20)
    assert Path(point, "edit").read_text() == "edit1\n"


def test_an_image_that_was_shrunk_under_its_filesystem(states, volume, spec, point, rbd_cli, modules):
    volume()
    assert states.rbd_device.unmapped(spec).result is True
    rbd_cli("resize", "--no-progress", "--allow-shrink", "--size", "32M", spec)
    assert states.rbd_device.mapped(spec).result is True
    assert "the image was shrunk under it" in refused(states.rbd_filesystem.mounted, point, image=spec, persist=False)


def test_damage_is_no_filesystem(states, volume, spec):
    _, device = volume()
    with open(device, "r+b") as file:
        file.seek(1024 + 58)  # the state in the superblock: errors were seen
        file.write(b"\x02\x00")
        file.seek(8192)
        file.write(b"\xff" * 65536)
    os.sync()
    said = refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    assert "does not pass its check" in said and "e2fsck" in said


def _lose_the_device(states, modules, spec, point, driver):
    """Take the device away under its mount, and the mount off the dead device."""
    device = modules.rbd_device.list()[spec]
    if driver == "krbd":
        tool("rbd", "device", "unmap", "-o", "force", device["device"])  # it has no daemon that could die
    else:
        os.kill(device["pid"], signal.SIGKILL)
    time.sleep(0.5)
    said = refused(states.rbd_filesystem.formatted, spec)
    if driver != "krbd":
        dead = "its daemon is dead" if driver == "fuse" else f"its rbd-nbd (pid {device['pid']}) is dead"
        assert dead in said
        assert f"it is mounted on {point}" in refused(states.rbd_device.mapped, spec)
        assert states.rbd_filesystem.unmounted(point).result is True
        return
    # The kernel tells nothing more of such a device, so whose it was is not known.
    assert "is not mapped on this host" in said
    assert "which is no image's device" in refused(states.rbd_filesystem.unmounted, point)
    tool("umount", point)


def test_after_a_crash_the_journal_is_replayed(states, modules, volume, spec, point, driver):
    """The device dies under a mount; what is left is unclean, not damaged, and the next run mounts it again."""
    volume()
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    Path(point, "edit").write_text("edit1\n")
    os.sync()
    _lose_the_device(states, modules, spec, point, driver)
    deadline = time.monotonic() + 60  # the cluster drops the dead daemon's watch after 30 s
    while states.rbd_device.mapped(spec).result is False and time.monotonic() < deadline:
        time.sleep(1)
    ran = states.rbd_filesystem.formatted(spec)
    assert (ran.result, ran.changes) == (True, {}) and filesystem.REPLAY in ran.comment
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    assert Path(point, "edit").read_text() == "edit1\n"


WRITES = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_SYNC)
for number in range(8):
    os.pwrite(file, b"x" * 4096, number << 20)
    time.sleep(0.4)
"""


def test_a_limit_counts_from_the_last_write(modules, states, spec, rbd_cli):
    rbd_cli("create", spec, "--size", "64M")
    assert states.rbd_device.mapped(spec).result is True
    path = modules.rbd_device.list()[spec]["device"]
    assert run([sys.executable, "-c", WRITES, path], 2, device=path).code == 0
    with pytest.raises(errors.CommandTimeout):
        run([sys.executable, "-c", WRITES, path], 2)
    began = time.monotonic()
    with pytest.raises(errors.CommandTimeout):
        run(["sleep", "30"], 2, device=path)
    assert 2 <= time.monotonic() - began < 20  # sleep would take 30 s


def test_info_of_what_is_not_mapped(states, modules, volume, spec):
    volume()
    assert states.rbd_device.unmapped(spec).result is True
    facts = modules.rbd_filesystem.info([spec, spec + "x"])
    assert facts[spec + "x"] is None
    assert (facts[spec]["device"], facts[spec]["fs_type"], facts[spec]["size"]) == (None, "ext4", 64 << 20)
    with pytest.raises(errors.NotMapped, match="is not mapped on this host"):
        modules.rbd_filesystem.check(spec)
