"""What stands on a device, over a faked /sys; and which of an image's mounts is frozen."""

import pytest
from saltrbd import freeze, layers, proc
from saltrbd import spec as specs

SPEC = specs.parse("rbd/a")
# name: (number, holders, partitions)
STACKS = {
    "bare": {"rbd0": ("252:0", [], [])},
    "luks": {"rbd0": ("252:0", ["dm-0"], []), "dm-0": ("253:0", [], [])},
    "lvm over luks": {
        "rbd0": ("252:0", ["dm-0"], []),
        "dm-0": ("253:0", ["dm-1", "dm-2"], []),
        "dm-1": ("253:1", [], []),
        "dm-2": ("253:2", [], []),
    },
    "partition with luks": {
        "rbd0": ("252:0", [], ["rbd0p1"]),
        "rbd0p1": ("252:1", ["dm-0"], []),
        "dm-0": ("253:0", [], []),
    },
    "over two images": {"rbd0": ("252:0", ["dm-0"], []), "rbd1": ("252:16", ["dm-0"], []), "dm-0": ("253:0", [], [])},
}


@pytest.fixture
def fake(tmp_path):
    def make(stack):
        (tmp_path / "dev/block").mkdir(parents=True)
        (tmp_path / "class/block").mkdir(parents=True)
        for name, (number, holders, partitions) in stack.items():
            folder = tmp_path / "devices" / name
            (folder / "holders").mkdir(parents=True)
            (folder / "slaves").mkdir()
            (folder / "dev").write_text(number + "\n")
            for holder in holders:
                (folder / "holders" / holder).touch()
            for partition in partitions:
                (folder / partition).mkdir()
                (folder / partition / "partition").write_text("1\n")
            (tmp_path / "class/block" / name).symlink_to(folder)
            (tmp_path / "dev/block" / number).symlink_to(folder)
        for name, (_, holders, _) in stack.items():
            for holder in holders:
                (tmp_path / "devices" / holder / "slaves" / name).touch()
        return str(tmp_path)

    return make


@pytest.mark.parametrize(
    ("name", "numbers", "shared"),
    [
        ("bare", ["252:0"], []),
        ("luks", ["252:0", "253:0"], []),
        ("lvm over luks", ["252:0", "253:0", "253:1", "253:2"], []),
        ("partition with luks", ["252:0", "252:1", "253:0"], []),
        ("over two images", ["252:0"], ["dm-0"]),
    ],
)
def test_above(name, numbers, shared, fake):
    assert layers.above("252:0", fake(STACKS[name])) == (numbers, shared)


def test_a_device_that_sys_does_not_know(tmp_path):
    assert layers.above("252:0", str(tmp_path)) == (["252:0"], [])


def mount(point, device="252:0", root="/", fs_type="ext4", options="rw", pid="self"):
    return proc.Mount(point, device, "/dev/rbd0", fs_type, options, pid, root, options)


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([], "no filesystem of it is mounted on this host"),
        ([mount("/a")], ("/a", "252:0")),
        ([mount("/l", "253:0")], ("/l", "253:0")),
        ([mount("/a"), mount("/b", root="/folder")], ("/a", "252:0")),
        ([mount("/b", root="/folder")], ("/b", "252:0")),
        ([mount("/c", pid=7), mount("/b", root="/folder")], ("/b", "252:0")),
        ([mount("/c", pid=7)], ("/proc/7/root/c", "252:0")),
        ([mount("/hidden"), mount("/b", root="/folder")], ("/b", "252:0")),
        ([mount("/hidden")], ("/hidden", "252:0")),
        ([mount("/a", options="ro")], "mounted read-only on /a"),
        ([mount("/a", fs_type="btrfs")], "its filesystem on /a is btrfs, not one of ext4, xfs"),
        ([mount("/a", "253:1"), mount("/b", "253:2")], "several filesystems stand on it (/a, /b)"),
        ([mount("/a", "8:1")], "its filesystem on /a holds /etc/salt, which must not stand still"),
    ],
)
def test_chosen(mounts, expected, monkeypatch):
    monkeypatch.setattr(freeze, "_is_seen", lambda one: one.point != "/hidden")
    found = freeze.chosen(SPEC, "/dev/rbd0", mounts, {"8:1": "/etc/salt"})
    if isinstance(expected, str):
        assert expected in found
        return
    assert (found.mount_point, found.number) == expected
