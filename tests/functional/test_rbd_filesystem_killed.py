"""mkfs that is killed, and what its mark is worth."""

import glob
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import uuid

import pytest
from salt.exceptions import CommandExecutionError
from saltrbd import mkfs
from state_checks import both, refused, unchanged

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"
ROUNDS = 20
MB = 1 << 20


def tool(*argv):
    return subprocess.run([shutil.which(argv[0], path=TOOLS), *argv[1:]], check=True, timeout=60, capture_output=True, text=True).stdout


@pytest.fixture
def mapped(states, modules, rbd_cli, spec):
    """Create an image and map it; returns (spec, device)."""

    def make(size="320M"):
        rbd_cli("create", spec, "--size", size)
        assert states.rbd_device.mapped(spec).result is True
        return spec, modules.rbd_device.list()[spec]["device"]

    return make


def mark(modules, spec):
    return mkfs.mark_of(modules.rbd_image.info(spec))


def set_mark(modules, spec, **given):
    told = {"image": modules.rbd_image.info(spec)["id"], "fs_type": "ext4", "uuid": str(uuid.uuid4()), "time": 1, **given}
    modules.rbd_image.set_metadata(spec, put={mkfs.KEY: json.dumps(told)})
    return told["uuid"]


def _mkfs_of(device):
    """The pid of the mkfs that this process has started on a device."""
    for path in glob.glob("/proc/self/task/*/children"):
        try:
            with open(path) as file:
                pids = file.read().split()
        except OSError:
            continue  # the thread has ended
        for pid in pids:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    argv = file.read().split(b"\0")
            except OSError:
                continue
            if argv[0].startswith(b"mkfs.") and os.fsencode(device) in argv:
                return int(pid)
    return None


def kill_mkfs(device, delay, killed, over):
    """Kill the mkfs on a device ``delay`` seconds after it has begun."""
    while not over.is_set():
        pid = _mkfs_of(device)
        if pid:
            time.sleep(delay)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return  # it was quicker
            killed.append(pid)
            return


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_mkfs_killed_at_any_moment(fs_type, states, modules, mapped, tmp_path):
    spec, device = mapped()
    chosen, hits, delay = random.Random(20), 0, 0.02
    for _ in range(ROUNDS * 4):
        killed, over = [], threading.Event()
        killer = threading.Thread(target=kill_mkfs, args=(device, chosen.uniform(0, delay), killed, over))
        killer.start()
        first = states.rbd_filesystem.formatted(spec, fs_type=fs_type)
        over.set()
        killer.join()
        if first.result is False:
            hits += 1
            assert killed and "by signal 9" in first.comment and first.changes == {}, (killed, first.comment, first.changes)
            assert mark(modules, spec) is not None
            again = states.rbd_filesystem.formatted(spec, fs_type=fs_type)
            assert again.result is True, again.comment
            assert again.changes[spec]["filesystem"]["new"] == fs_type
        assert mark(modules, spec) is None
        assert modules.rbd_filesystem.check(spec) == {"state": "clean", "text": ""}
        tool("blkdiscard", device)
        # The kills shall land everywhere in a mkfs, whose length depends on the machine.
        delay = delay * 1.5 if killed and first.result is False else delay / 1.3
        if hits == ROUNDS:
            break
    assert hits == ROUNDS
    both(states.rbd_filesystem.formatted, spec, fs_type=fs_type)
    both(states.rbd_filesystem.mounted, str(tmp_path / "m"), image=spec, persist=False)


def test_a_whole_filesystem_with_a_mark_is_kept(states, modules, mapped):
    """Killed between the end of mkfs and the removal of the mark."""
    spec, device = mapped("64M")
    tool("mkfs.ext4", "-q", "-U", set_mark(modules, spec), device)
    before = tool("dumpe2fs", "-h", device)
    result = both(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    assert result.changes == {spec: {"filesystem": {"old": "ext4, not yet checked", "new": "ext4"}}}
    assert mark(modules, spec) is None and tool("dumpe2fs", "-h", device) == before


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_what_was_mounted_since_is_never_made_again(fs_type, states, modules, mapped, tmp_path):
    """Somebody has mounted what a killed mkfs left and put files there. The mark is worth nothing then."""
    spec, device = mapped()
    identity = set_mark(modules, spec, fs_type=fs_type)
    tool(*(["mkfs.ext4", "-q", "-U", identity] if fs_type == "ext4" else ["mkfs.xfs", "-q", "-m", "uuid=" + identity]), device)
    tool("mount", device, str(tmp_path))
    (tmp_path / "file").write_text("his file")
    os.sync()
    mounted = both(states.rbd_filesystem.formatted, spec, fs_type=fs_type)
    assert mounted.changes == {spec: {"filesystem": {"old": f"{fs_type}, not yet checked", "new": fs_type}}}
    tool("umount", str(tmp_path))
    set_mark(modules, spec, fs_type=fs_type, uuid=identity)
    with open(device, "r+b") as file:  # and it is damaged as well
        file.seek(4096 if fs_type == "ext4" else 4096 * 3)
        file.write(b"\xff" * 8192)
    assert "does not pass its check" in refused(states.rbd_filesystem.formatted, spec, fs_type=fs_type)


def test_a_mark_does_not_cover_what_somebody_else_made(states, modules, mapped):
    spec, device = mapped("128M")
    set_mark(modules, spec)
    tool("mkfs.btrfs", "-q", device)
    assert "carries btrfs, not ext4" in refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_data_long_after_a_killed_mkfs_is_somebodys(states, modules, mapped, digest):
    """Written to the device without a filesystem, an hour after a mkfs was killed."""
    spec, device = mapped("64M")
    set_mark(modules, spec, time=int(time.time()) - 3600)
    with open(device, "r+b") as file:
        file.seek(20 * MB)
        file.write(b"his data")
    tool("blockdev", "--flushbufs", device)
    before = digest(spec)
    said = refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    assert "librbd knows of data in it" in said and said.endswith("too long ago, or before a snapshot, to be sure of it.")
    with pytest.raises(CommandExecutionError, match="librbd knows of data"):
        modules.rbd_filesystem.format(spec, "ext4")
    assert states.rbd_device.unmapped(spec).result is True
    assert "librbd knows of data" in modules.rbd_filesystem.info(spec)["not_blank"]
    assert digest(spec) == before
    set_mark(modules, spec, time=int(time.time()))  # right after it, it is what that mkfs has left
    assert states.rbd_device.mapped(spec).result is True
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_data_that_a_rollback_brought_back_is_somebodys(states, modules, mapped, rbd_cli, digest):
    spec, device = mapped("64M")
    with open(device, "r+b") as file:
        file.write(bytes(MB) + b"his data")
    tool("blockdev", "--flushbufs", device)
    rbd_cli("snap", "create", spec + "@s")
    tool("blkdiscard", device)
    assert states.rbd_device.unmapped(spec).result is True
    set_mark(modules, spec, time=int(time.time()))  # a mkfs was killed then
    rbd_cli("snap", "rollback", "--no-progress", spec + "@s")
    assert states.rbd_device.mapped(spec).result is True
    before = digest(spec)
    assert "librbd knows of data in it" in refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    assert digest(spec) == before


def test_a_clone_has_its_parents_mark_and_it_means_nothing(states, modules, mapped, rbd_cli):
    spec, device = mapped("64M")
    set_mark(modules, spec)
    with open(device, "r+b") as file:
        file.write(b"data")
    tool("blockdev", "--flushbufs", device)
    rbd_cli("snap", "create", spec + "@s")
    rbd_cli("snap", "protect", spec + "@s")
    clone = spec + "c"
    rbd_cli("clone", spec + "@s", clone)
    rbd_cli("flatten", "--no-progress", clone)
    assert mkfs.KEY in modules.rbd_image.info(clone)["metadata"]
    assert states.rbd_device.mapped(clone).result is True
    assert "librbd knows of data" in refused(states.rbd_filesystem.formatted, clone, fs_type="ext4")


def test_a_half_made_filesystem_is_not_mounted(states, modules, mapped, tmp_path):
    spec, device = mapped("64M")
    set_mark(modules, spec)
    said = refused(states.rbd_filesystem.mounted, str(tmp_path / "m"), image=spec, persist=False)
    assert "its mkfs was killed; declare rbd_filesystem.formatted" in said


def test_mkfs_that_fails_says_why_and_leaves_no_filesystem(states, modules, mapped):
    spec, _ = mapped("64M")
    ran = states.rbd_filesystem.formatted(spec, fs_type="ext4", mkfs_options=["-m", 99])
    assert ran.result is False and ran.changes == {}
    assert "invalid reserved blocks percent" in ran.comment
    assert "xfs wants 300M or more" in refused(states.rbd_filesystem.formatted, spec, fs_type="xfs")
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    unchanged(states.rbd_filesystem.formatted, spec, fs_type="ext4")
