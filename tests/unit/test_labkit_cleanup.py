"""What the lab recognises as a cluster's own, and what it leaves alone."""

import os

import pytest

from labkit import cleanup, processes

FSID = "11111111-2222-3333-4444-555555555555"
KNOWN = {"fsid": FSID, "conf": "/somewhere/ceph.conf", "monitors": ["127.0.0.1:1"]}
OTHER = "99999999-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("argv", "exports"),
    [
        (["--export", "type=fuse,id=e,node-name=r,mountpoint=/run/a b,writable=on"], ["/run/a b"]),
        (["--export", "type=fuse,mountpoint=/run/x"], ["/run/x"]),
        (["--export", '{"type": "fuse", "mountpoint": "/run/y", "writable": true}'], ["/run/y"]),
        (["--export", "type=nbd,id=e"], []),
        (["--blockdev", "driver=rbd,notamountpoint=/x"], []),
    ],
)
def test_exports_are_read_from_the_daemons_arguments(argv, exports):
    assert cleanup._exports(argv) == exports


@pytest.mark.parametrize(
    ("argv", "ours"),
    [
        (["qemu-storage-daemon", "--blockdev", "driver=rbd,conf=/somewhere/ceph.conf"], True),
        (["/usr/bin/qemu-storage-daemon", "--blockdev", '{"mon": "127.0.0.1:1"}'], True),
        (["qemu-storage-daemon", "--export", f"mountpoint=/run/rbd-volumes/.fuse/{FSID}.1/export"], True),
        (["rbd-nbd", "map", "rbd/a", "--conf", "/somewhere/ceph.conf"], True),
        (["rbd-nbd", "map", "rbd/a", "--conf", "/etc/ceph/ceph.conf"], False),
        (["less", "/somewhere/ceph.conf"], False),
    ],
)
def test_a_daemon_is_ours_by_program_and_cluster(argv, ours):
    assert cleanup._serves(KNOWN)(argv) is ours


def test_only_this_clusters_lines_leave_fstab(tmp_path, monkeypatch):
    fstab = tmp_path / "fstab"
    monkeypatch.setattr(cleanup, "FSTAB", fstab)
    kept = [
        "# a comment\n",
        "\n",
        f"/run/rbd-volumes/{OTHER}/rbd/a /mnt/a ext4 _netdev,nofail 0 0\n",
        f"UUID={FSID} /mnt/b ext4 defaults 0 0\n",
        "tmpfs /tmp tmpfs size=1G 0 0",
    ]
    ours = f"/run/rbd-volumes/{FSID}/rbd/rbd0001 /mnt/test0001 ext4 _netdev,nofail 0 0\n"
    fstab.write_text("".join([kept[0], ours, *kept[1:]]))
    fstab.chmod(0o640)
    cleanup.remove_fstab_lines(KNOWN)
    assert fstab.read_text() == "".join(kept)
    assert fstab.stat().st_mode & 0o777 == 0o640
    cleanup.remove_fstab_lines(KNOWN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["fstab"]


def test_no_fstab_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cleanup, "FSTAB", tmp_path / "none")
    cleanup.remove_fstab_lines(KNOWN)
    assert not list(tmp_path.iterdir())


def test_links_of_other_clusters_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(cleanup, "RUN", tmp_path)
    for fsid in (FSID, OTHER):
        for folder, name in ((tmp_path / fsid / "rbd", "a"), (tmp_path / ".fuse" / f"{fsid}.1", "mapping.json")):
            folder.mkdir(parents=True)
            (folder / name).symlink_to("/dev/null")
    cleanup.remove_links(KNOWN)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == [".fuse", f".fuse/{OTHER}.1", f".fuse/{OTHER}.1/mapping.json", OTHER, f"{OTHER}/rbd", f"{OTHER}/rbd/a"]


def test_nothing_is_found_of_a_cluster_that_is_not_here():
    assert not any(cleanup.leftovers(KNOWN))
    assert cleanup.describe(cleanup.leftovers(KNOWN)) == []


def test_what_is_found_reads_well():
    found = cleanup.Leftovers(
        [cleanup.Mount("/mnt/b", "7:1", "/dev/loop1", "xfs"), cleanup.Mount("/mnt/a", "7:0", "/dev/loop0", "ext4")],
        ["loop0", "loop1"],
        [],
        [os.getpid(), 2**22 + 1],
    )
    name = os.path.basename(processes.arguments(os.getpid())[0])
    assert cleanup.describe(found) == [
        "/mnt/a (ext4) on /dev/loop0",
        "/mnt/b (xfs) on /dev/loop1",
        "devices: loop0, loop1",
        f"daemons: {name} {os.getpid()}, {2**22 + 1} (ended)",
    ]


def test_only_this_clusters_units_go(tmp_path, monkeypatch):
    monkeypatch.setattr(cleanup, "BOOT", tmp_path / "records")
    monkeypatch.setattr(cleanup, "UNITS", tmp_path / "units")
    monkeypatch.setattr(cleanup, "PROGRAM", tmp_path / "program")
    wants = tmp_path / "units/multi-user.target.wants"
    for folder in (tmp_path / "records", tmp_path / "program/saltrbd", wants):
        folder.mkdir(parents=True)
    (tmp_path / "units/rbd-volume@.service").write_text("[Unit]\n")
    for name, fsid in (("rbd:a:1", FSID), ("rbd:b:2", OTHER)):
        (tmp_path / f"records/{name}.json").write_text(f'{{"settings": {{"fsid": "{fsid}"}}}}')
        (wants / f"rbd-volume@{name}.service").symlink_to("../rbd-volume@.service")
    cleanup.remove_units(KNOWN)
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["rbd:b:2.json"]
    assert [path.name for path in wants.iterdir()] == ["rbd-volume@rbd:b:2.service"]
    cleanup.remove_units({"fsid": OTHER})
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["units", "units/multi-user.target.wants"]


def test_what_lies_on_a_device_is_taken_off_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cleanup, "BLOCKS", tmp_path)
    for below, above in (("rbd0", "dm-1"), ("dm-1", "dm-2"), ("rbd1", None)):
        holders = tmp_path / below / "holders"
        holders.mkdir(parents=True)
        if above:
            (holders / above).touch()
    assert cleanup._with_layers(["rbd0", "rbd1"]) == ["dm-2", "dm-1", "rbd0", "rbd1"]
