"""Filesystems that stand still: all or none, never for ever, whatever dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from freeze_checks import HOLD, TOOLS, chosen, helpers, is_frozen, kill_group, no_helper_is_left, targets, tool, wait_thawed
from saltrbd import client, device, errors, freeze, settings
from saltrbd import spec as specs

from labkit import cgroups
from labkit import cluster as lab_cluster


@pytest.mark.parametrize(("fs_type", "size"), [("ext4", "64M"), ("xfs", "320M")])
def test_held_while_the_body_runs(fs_type, size, ceph, mounted):
    spec, point = mounted(fs_type, size)
    found = targets(ceph, spec)
    assert found[spec].mount_point == point and found[spec].fs_type == fs_type
    for _ in range(2):
        Path(point, "dirty").write_bytes(os.urandom(8 << 20))
        with freeze.held(found, ceph.settings) as hold:
            began = time.monotonic()
            assert is_frozen(point)
            words = ["dd", "if=/dev/zero", f"of={point}/late", "bs=1", "count=1"]
            writer = subprocess.Popen(words, stderr=subprocess.DEVNULL)
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(timeout=0.3)
            body = time.monotonic() - began
        assert writer.wait(timeout=10) == 0
        assert hold.intact
        assert body < hold.seconds[spec] < body + 2
        assert not is_frozen(point)
    no_helper_is_left()


def test_an_error_in_the_body_thaws(ceph, mounted):
    spec, point = mounted()
    with pytest.raises(KeyError), freeze.held(targets(ceph, spec), ceph.settings):
        raise KeyError
    assert not is_frozen(point)
    no_helper_is_left()


def test_its_time_is_up(ceph, mounted, cluster, pool):
    spec, point = mounted()
    with freeze.held(targets(ceph, spec), chosen(cluster, pool, freeze_timeout=1)) as hold:
        until = time.monotonic() + 12  # long before the default limit of 15 s
        while is_frozen(point) and time.monotonic() < until:
            time.sleep(0.1)
        assert not is_frozen(point)
    assert not hold.intact
    assert 1 <= hold.seconds[spec] < 12


def test_somebody_else_thaws_it(ceph, mounted):
    spec, point = mounted()
    with freeze.held(targets(ceph, spec), ceph.settings) as hold:
        tool("fsfreeze", "--unfreeze", point)
    assert not hold.intact


def test_what_somebody_else_froze_stays_frozen(ceph, mounted):
    spec, point = mounted()
    tool("fsfreeze", "--freeze", point)
    try:
        with pytest.raises(errors.FreezeFailed, match="frozen already, by somebody else"), freeze.held(targets(ceph, spec), ceph.settings):
            pytest.fail("it was held")
        no_helper_is_left()
        assert is_frozen(point)
    finally:
        tool("fsfreeze", "--unfreeze", point)


def test_auto_leaves_what_somebody_else_froze(states, modules, mounted, spec, rbd_cli):
    """The snapshot is made all the same, and the comment says what it is and why; the others are frozen."""
    ours, theirs = mounted(name=f"{spec}0"), mounted("xfs", "320M", name=f"{spec}1")
    tool("fsfreeze", "--freeze", theirs[1])
    try:
        images = [str(ours[0]), str(theirs[0])]
        ran = states.rbd_snapshot.protected("s", images=images)
        assert ran.result is True, ran.comment
        why = f"its filesystem on {theirs[1]} could not be frozen (it is frozen already, by somebody else)"
        assert f"Filesystem-consistent: {ours[0]}@s (frozen for " in ran.comment
        assert ran.comment.endswith(f" Crash-consistent: {theirs[0]}@s. {theirs[0]}@s: {why}.")
        made = modules.rbd_snapshot.create([f"{theirs[0]}@t"])
        assert made == {f"{theirs[0]}@t": {"consistency": "crash", "seconds": None, "reason": why}}
        assert is_frozen(theirs[1])
        failed = states.rbd_snapshot.present("u", images=images, consistency="filesystem")
        assert failed.result is False and "frozen already, by somebody else" in failed.comment
        assert [item["name"] for item in rbd_cli.json("snap", "ls", images[0])] == ["s"]
        assert is_frozen(theirs[1])
    finally:
        tool("fsfreeze", "--unfreeze", theirs[1])
    assert not is_frozen(ours[1])


def test_what_another_user_has_mapped_stands_in_nobodys_way(
    ceph, cluster, pool, other_pool, mounted, spec, rbd_cli, make_user, make_loaders
):
    """A user of this pool alone, and on the same host an image of a pool that this user may not read."""
    foreign = specs.parse(f"{other_pool}/foreign")
    rbd_cli("create", str(foreign), "--size", "64M")
    device.map_image(ceph, foreign)
    ours, _ = mounted()
    user, keyring = make_user("profile rbd")
    values = {"conf": cluster.conf, "user": user, "keyring": keyring, "fsid": cluster.fsid, "pool": pool}
    loaders = make_loaders({"ceph": values})
    for name, consistency in (("a", "filesystem"), ("b", "auto")):
        snapshot = f"{ours}@{name}"
        dry, real = (loaders.states.rbd_snapshot.present(snapshot, consistency=consistency, test=test) for test in (True, False))
        assert dry.result is None and dry.changes == real.changes, (dry.comment, real.comment)
        assert real.result is True and f"Filesystem-consistent: {snapshot}" in real.comment, real.comment
    listed = loaders.modules.rbd_device.list()
    assert listed[str(ours)]["fault"] is None
    assert listed[str(foreign)]["fault"] == f"whether it is of use is not known: client.{user} may not read the image"
    theirs = client.get(settings.load({"id": "tests"}, {"ceph": values}))
    assert freeze.targets(theirs, [ours], {})[ours].device
    with pytest.raises(errors.PermissionDenied, match=f"Reading the image {foreign} failed.* osd 'profile rbd pool={other_pool}'"):
        freeze.targets(theirs, [ours, foreign], {})
    theirs.close()


def test_all_or_none(ceph, mounted, spec):
    volumes = [mounted(name=f"{spec}{number}") for number in range(3)]
    found = targets(ceph, *(name for name, _ in volumes))
    with freeze.held(found, ceph.settings) as hold:
        assert all(is_frozen(point) for _, point in volumes)
    assert hold.intact and set(hold.seconds) == {name for name, _ in volumes}
    tool("fsfreeze", "--freeze", volumes[1][1])
    try:
        with pytest.raises(errors.FreezeFailed, match="Nothing is frozen"), freeze.held(found, ceph.settings):
            pytest.fail("it was held")
        wait_thawed(volumes[0][1], 2)
        wait_thawed(volumes[2][1], 2)
    finally:
        tool("fsfreeze", "--unfreeze", volumes[1][1])
    assert not any(is_frozen(point) for _, point in volumes)


def test_whoever_asked_is_killed(mounted, holder):
    spec, point = mounted()
    process = holder(spec, 60)
    assert is_frozen(point)
    process.kill()
    wait_thawed(point, 2)
    no_helper_is_left()


@pytest.fixture
def group():
    """A control group in every hierarchy by which service managers end a service: version 2, and named ones of version 1."""
    name = f"minion-{uuid.uuid4().hex[:8]}"
    mounts = [line.partition(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [Path(before.split()[4]) / name for before, _, after in mounts if after.startswith("cgroup2 ") or ",name=" in after]
    for folder in found:
        folder.mkdir()
    yield found
    kill_group(found)
    assert cgroups.remove(name) == []


def test_the_whole_control_group_of_whoever_asked_is_killed(group, mounted, holder):
    """What systemd does by KillMode=control-group, with SIGKILL: it would get the helper and its guard at once."""
    spec, point = mounted()
    enter = 'for group in $0; do echo $$ >"$group/cgroup.procs"; done; exec "$@"'
    process = holder(spec, 60, ["sh", "-c", enter, " ".join(map(str, group))])
    try:
        inside = {int(pid) for folder in group for pid in (folder / "cgroup.procs").read_text().split()}
        assert group and process.pid in inside and len(helpers()) == 2
        assert is_frozen(point)
        kill_group(group)
        assert process.wait(timeout=5) == -signal.SIGKILL
        wait_thawed(point, 2)
        no_helper_is_left()
    finally:
        tool("fsfreeze", "--unfreeze", point, check=False)


def test_the_freezing_process_is_killed(mounted, holder):
    spec, point = mounted()
    holder(spec, 60)
    os.kill(helpers()[0], signal.SIGKILL)
    wait_thawed(point, 2)
    no_helper_is_left()


def test_the_guard_is_killed(mounted, holder):
    spec, point = mounted()
    process = holder(spec, 60)
    os.kill(helpers()[1], signal.SIGKILL)
    time.sleep(0.3)
    assert is_frozen(point)
    process.kill()
    wait_thawed(point, 2)
    no_helper_is_left()


def test_the_freezing_process_is_stopped(mounted, holder):
    spec, point = mounted()
    holder(spec, 1)
    os.kill(helpers()[0], signal.SIGSTOP)
    wait_thawed(point, 1 + 3 + 2)
    no_helper_is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signals_do_not_reach_it(number, mounted, holder):
    spec, point = mounted()
    process = holder(spec, 60)
    for pid in helpers():
        os.kill(pid, number)
    time.sleep(0.3)
    assert is_frozen(point) and len(helpers()) == 2
    process.terminate()
    wait_thawed(point, 2)
    no_helper_is_left()


def test_what_is_not_frozen_and_why(ceph, mounted, rbd_cli, spec, tmp_path):
    read_only, _ = mounted(name=spec + "r", options="ro")
    plain, point = mounted(name=spec + "p")
    rbd_cli("create", spec, "--size", "64M")
    bare = specs.parse(spec)
    found = targets(ceph, bare, read_only)
    assert found[bare] == "it is not mapped on this host"
    assert "mounted read-only" in found[read_only]
    device.map_image(ceph, bare)
    assert targets(ceph, bare)[bare] == "no filesystem of it is mounted on this host"
    for key in ("cachedir", "log_file", "sock_dir", "pidfile", "extension_modules", "conf_file"):
        reason = freeze.targets(ceph, [plain], {key: f"{point}/not/there/yet"})[plain]
        assert f"holds {point}/not/there/yet" in reason
    with open(f"{point}/log", "w"):  # Salt's output, for instance
        assert f"holds {point}/log" in targets(ceph, plain)[plain]
    assert isinstance(targets(ceph, plain)[plain], freeze.Target)
    assert "/" in freeze.own_devices(ceph.settings, {}).values()


def test_a_mount_that_is_covered_is_not_frozen(ceph, mounted):
    spec, point = mounted()
    tool("mount", "-t", "tmpfs", "tmpfs", point)
    try:
        with pytest.raises(errors.FreezeFailed, match="something else is mounted over it"), freeze.held(targets(ceph, spec), ceph.settings):
            pytest.fail("it was held")
    finally:
        tool("umount", point)
    assert not is_frozen(point)


def test_a_bind_mount_of_a_folder_is_enough(ceph, mounted, tmp_path):
    spec, point = mounted()
    folder, bound = Path(point, "folder"), tmp_path / "bound"
    folder.mkdir()
    bound.mkdir()
    tool("mount", "--bind", str(folder), str(bound))
    assert targets(ceph, spec)[spec].mount_point == point
    tool("umount", point)
    assert targets(ceph, spec)[spec].mount_point == str(bound)
    with freeze.held(targets(ceph, spec), ceph.settings) as hold:
        assert is_frozen(str(bound))
    assert hold.intact and not is_frozen(str(bound))
    tool("umount", str(bound))


def test_a_mount_in_another_namespace_is_frozen(ceph, mounted):
    """A container's, for instance: this process does not see it mounted."""
    spec, point = mounted()
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo there; exec sleep 300"]
    container = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert container.stdout.readline() == "there\n"
        tool("umount", point)
        inside = f"/proc/{container.pid}/root{point}"
        assert targets(ceph, spec)[spec].mount_point == inside
        with freeze.held(targets(ceph, spec), ceph.settings) as hold:
            assert is_frozen(inside)
        assert hold.intact and not is_frozen(inside)
    finally:
        container.kill()
        container.communicate(timeout=10)


def test_a_filesystem_on_a_layer_above_is_frozen(ceph, rbd_cli, spec, tmp_path):
    """A layer of the device-mapper, as LUKS and LVM are."""
    if not shutil.which("dmsetup", path=TOOLS) or "linear" not in tool("dmsetup", "targets", check=False).stdout:
        pytest.skip("the kernel has no device-mapper")
    rbd_cli("create", spec, "--size", "64M")
    wanted, name = specs.parse(spec), f"t{uuid.uuid4().hex[:8]}"
    path = device.map_image(ceph, wanted).device
    tool("dmsetup", "create", name, "--table", f"0 {(64 << 20) // 512} linear {path} 0")
    try:
        tool("mkfs.ext4", "-q", f"/dev/mapper/{name}")
        tool("mount", f"/dev/mapper/{name}", str(tmp_path))
        found = targets(ceph, wanted)
        assert found[wanted].mount_point == str(tmp_path) and found[wanted].device == path
        with freeze.held(found, ceph.settings) as hold:
            assert is_frozen(str(tmp_path))
        assert hold.intact and not is_frozen(str(tmp_path))
    finally:
        tool("umount", str(tmp_path), check=False)
        tool("dmsetup", "remove", name)


def test_people_freeze_and_thaw(modules, mounted):
    spec, point = mounted()
    assert modules.rbd_filesystem.freeze(str(spec), 60) == {str(spec): point}
    assert is_frozen(point)
    with pytest.raises(errors.FreezeFailed, match="frozen already"):
        modules.rbd_filesystem.freeze([str(spec)])
    assert is_frozen(point)
    assert modules.rbd_filesystem.thaw(str(spec)) == [str(spec)]
    assert not is_frozen(point)
    no_helper_is_left()
    with pytest.raises(errors.FreezeFailed, match="was not frozen by rbd_filesystem.freeze"):
        modules.rbd_filesystem.thaw(str(spec))
    with pytest.raises(errors.InvalidArgument):
        modules.rbd_filesystem.freeze(str(spec), 0)


def test_a_freeze_for_people_ends_by_itself(mounted, cluster, pool, repo, ceph):
    """Whoever asked ends at once; its freeze lasts as long as was said."""
    spec, point = mounted()
    target = targets(ceph, spec)[spec]
    text = HOLD.partition("with freeze.held")[0] + "freeze.freeze({name: target}, settings.load({}, {}), float(sys.argv[7]))\n"
    words = [str(spec), target.mount_point, target.device, target.fs_type, target.number, "2"]
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", text, str(repo / "_utils"), *words], check=True, timeout=20)
    assert is_frozen(point)
    wait_thawed(point, 4)
    assert time.monotonic() - began >= 2
    no_helper_is_left()
    assert os.listdir(freeze.MARKS) == []


@pytest.mark.parametrize("dirty", [True, False])
@pytest.mark.timeout(180)
def test_the_storage_does_not_answer(dirty, private_cluster, tmp_path):
    """An OSD is stopped: the error comes within the limit, and nothing is frozen when the OSD is back."""
    limits = chosen(private_cluster, "rbd", timeout=4, freeze_timeout=3)
    ceph = client.get(limits)
    name = specs.parse("rbd/still")
    ceph.call("image_create", name, size=64 << 20)
    mapping = device.map_image(ceph, name)
    point = str(tmp_path)
    tool("mkfs.ext4", "-q", mapping.device)
    tool("mount", mapping.device, point)
    found = targets(ceph, name)
    osd = lab_cluster.daemons(private_cluster.folder)["ceph-osd"]
    Path(point, "file").write_bytes(os.urandom(1 << 20))
    if not dirty:
        tool("sync", "-f", point)
    try:
        os.kill(osd, signal.SIGSTOP)
        # A limit of 4 s without progress to write back, 3 s to freeze, and a second or two to notice each.
        began = time.monotonic()
        with pytest.raises((errors.CommandTimeout, errors.FreezeFailed)) as caught, freeze.held(found, limits):
            pytest.fail("it was held")
        took = time.monotonic() - began
        assert took < 4 + 1 + 3 + 2 + 2
        assert "rbd/still" in str(caught.value) and "until the storage answers" in str(caught.value)
    finally:
        os.kill(osd, signal.SIGCONT)
    no_helper_is_left(30)
    assert not is_frozen(point)
    Path(point, "after").write_text("written")
    tool("umount", point)
    device.unmap(ceph, name)
    ceph.close()
