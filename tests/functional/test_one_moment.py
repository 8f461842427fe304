"""Many volumes as one moment: all stand still together, are snapshotted at once, and thaw; all or none.

``RBD_LAB_MOMENTS`` is the number of moments that the numbering writer is caught in (3 where it is not set). ``-rP`` shows how long the
volumes stood still.
"""

import os
import re
import subprocess
import sys

import pytest
from freeze_checks import is_frozen, no_helper_is_left, tool
from worker_watch import until

COUNT = 20
# Seconds that twenty volumes may stand still at Ceph's own pace: one after the other their snapshots would take twenty.
STANDSTILL = 8
MOMENTS = int(os.environ.get("RBD_LAB_MOMENTS", "3"))

pytestmark = pytest.mark.timeout(240 + 10 * MOMENTS)

# Each number is on the first volume's disk before it goes to the second's, and there before the next one begins.
WRITER = """
import os, sys
files = [os.open(path, os.O_WRONLY) for path in sys.argv[1:]]
number = 0
while True:
    number += 1
    for file in files:
        os.pwrite(file, b"%020d" % number, 0)
        os.fsync(file)
    if number == 1:
        print("writing", flush=True)
"""


@pytest.fixture
def twenty(mounted, spec):
    """Twenty mounted volumes: [(spec, mount point)]."""
    return [mounted(size="16M", name=f"{spec}-{number:02}") for number in range(COUNT)]


def snapshots(rbd_cli, volumes):
    return {str(name): [item["name"] for item in rbd_cli.json("snap", "ls", str(name))] for name, _ in volumes}


def test_twenty_volumes_stand_still_together(twenty, states, converges, rbd_cli, own_pace):
    images = [str(name) for name, _ in twenty]
    ran = converges("rbd_snapshot.present", "s", images=images, consistency="filesystem")
    seconds = {name: float(took) for name, took in re.findall(r"(\S+)@s \(frozen for ([0-9.]+) s\)", ran.comment)}
    assert sorted(seconds) == images
    print(f"stood still: {min(seconds.values()):.2f} to {max(seconds.values()):.2f} s")
    assert max(seconds.values()) < STANDSTILL
    assert snapshots(rbd_cli, twenty) == dict.fromkeys(images, ["s"])

    # One that cannot be frozen: none is, and none has a snapshot.
    _, point = twenty[13]
    tool("fsfreeze", "--freeze", point)
    try:
        failed = states.rbd_snapshot.present("t", images=images, consistency="filesystem")
    finally:
        tool("fsfreeze", "--unfreeze", point)
    assert failed.result is False and f"{images[13]} on {point}: it is frozen already, by somebody else" in failed.comment
    assert snapshots(rbd_cli, twenty) == dict.fromkeys(images, ["s"])
    no_helper_is_left()
    assert not any(is_frozen(point) for _, point in twenty)


@pytest.mark.parametrize("consistency", ["auto", "crash"])
def test_one_that_fails_leaves_none_behind(consistency, mounted, spec, modules, rbd_cli):
    """The last image cannot be protected, so the others have no snapshot of that moment either; what was there before stays."""
    names = [f"{spec}-{number}" for number in range(3)]
    mounted(name=names[0])
    rbd_cli("create", names[1], "--size", "16M")
    rbd_cli("create", names[2], "--size", "16M", "--image-feature", "exclusive-lock")
    rbd_cli("snap", "create", f"{names[0]}@before")
    with pytest.raises(Exception, match="were removed again") as caught:
        modules.rbd_snapshot.create("s", images=names, consistency=consistency, protect=True)
    assert f"{names[0]}@s, {names[1]}@s" in str(caught.value)
    left = {name: [item["name"] for item in rbd_cli.json("snap", "ls", name)] for name in names}
    assert left == {names[0]: ["before"], names[1]: [], names[2]: []}


@pytest.fixture
def numbering(mounted, spec):
    """Two volumes and a writer that numbers its writes across both; returns their specs."""
    volumes = [mounted(name=f"{spec}-{name}") for name in ("first", "second")]
    paths = [f"{point}/number" for _, point in volumes]
    for path in paths:
        with open(path, "wb") as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
    writer = subprocess.Popen([sys.executable, "-c", WRITER, *paths], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "writing\n"
        yield [str(name) for name, _ in volumes], paths[0]
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate(timeout=20)


def numbers_in(images, snapshot, rbd_cli, folder):
    """The numbers that the snapshots show, read by ext4's own tool from a copy, without a mount that would repair anything."""
    found = []
    for image in images:
        copy = folder / "copy.raw"
        rbd_cli("export", "--no-progress", f"{image}@{snapshot}", str(copy))
        found.append(int(tool("debugfs", "-R", "cat /number", str(copy)).stdout[:20]))
        copy.unlink()
    return tuple(found)


def written(path):
    """The number that the writer has come to."""
    with open(path, "rb") as file:
        return int(file.read(20))


def in_order(first, second):
    """No later number without the earlier one."""
    return first - second in (0, 1)


def test_no_later_number_without_the_earlier_one(numbering, modules, rbd_cli, tmp_path):
    (images, path), caught = numbering, []
    for number in range(MOMENTS):
        made = modules.rbd_snapshot.create(f"s{number}", images=images, consistency="filesystem")
        assert {facts["consistency"] for facts in made.values()} == {"filesystem"}
        caught.append(numbers_in(images, f"s{number}", rbd_cli, tmp_path))
    print(f"{sum(in_order(*pair) for pair in caught)} of {MOMENTS} in order: {caught}")
    assert all(in_order(*pair) for pair in caught)
    assert len({first for first, _ in caught}) == MOMENTS, "the writer went on between them"
    # One after the other, nothing frozen: what a set that is not of one moment looks like.
    for image in images:
        rbd_cli("snap", "create", "--no-progress", f"{image}@apart")
        now = written(path)
        until(lambda now=now: written(path) > now + 5, 60, "the writer goes on")
    apart = numbers_in(images, "apart", rbd_cli, tmp_path)
    assert not in_order(*apart), apart


def test_a_volume_inside_another_one(mounted, spec, modules, tmp_path):
    """Mounted on a folder of a filesystem that stands still: frozen with it, and thawed."""
    outer = mounted(name=f"{spec}-outer")
    inner = mounted("xfs", "320M", name=f"{spec}-inner", point=tmp_path / outer[1] / "inner")
    made = modules.rbd_snapshot.create("s", images=[str(inner[0]), str(outer[0])], consistency="filesystem")
    assert {facts["consistency"] for facts in made.values()} == {"filesystem"}
    no_helper_is_left()
    assert not is_frozen(inner[1]) and not is_frozen(outer[1])
    tool("umount", inner[1])


def test_the_snapshot_of_a_standstill_needs_no_recovery(mounted, spec, modules, rbd_cli, tmp_path):
    """What was written and not yet synced is in the snapshot, and its journal is empty; without the standstill neither is so."""
    name, point = mounted(name=spec)

    def state_of(snapshot):
        copy = tmp_path / "copy.raw"
        rbd_cli("export", "--no-progress", f"{name}@{snapshot}", str(copy))
        features = re.search("Filesystem features: +(.*)", tool("dumpe2fs", "-h", str(copy)).stdout)[1].split()
        content = tool("debugfs", "-R", f"cat /{snapshot}", str(copy)).stdout
        copy.unlink()
        return "needs_recovery" in features, content

    for snapshot, consistency in (("crash", "crash"), ("whole", "filesystem")):
        with open(f"{point}/{snapshot}", "w") as file:
            file.write("not synced")
        made = modules.rbd_snapshot.create(f"{name}@{snapshot}", consistency=consistency)
        assert made[f"{name}@{snapshot}"]["consistency"] == consistency
    assert state_of("crash") == (True, "")
    assert state_of("whole") == (False, "not synced")
    assert not is_frozen(point)
