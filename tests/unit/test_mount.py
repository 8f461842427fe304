"""Plans for mounts as tables, option drift, lines in fstab."""

import os

import pytest
from saltrbd import boot, errors, filesystem, fstab, mount, proc
from saltrbd import spec as specs

SPEC = specs.parse("rbd/a")
LINK = "/run/rbd-volumes/FSID/rbd/a"
REQUIRES = "x-systemd.requires=" + boot.unit(LINK)
ENTRY = fstab.Entry(LINK, "/mnt/a", "ext4", "_netdev,nofail," + REQUIRES)
MOUNTED = {"device": "252:0", "source": "/dev/rbd0", "fs_type": "ext4", "options": "rw,relatime", "super_options": "rw"}
PARENT = {"pool": "rbd", "namespace": "", "image": "p", "snapshot": "s", "id": "9", "overlap": 1}
GB = 1 << 30


def facts(fs_type="ext4", **given):
    found = filesystem.nothing(GB)
    found.update(image="rbd/a", image_id="1", device="/dev/rbd0", device_number="252:0", fs_type=fs_type, signature=fs_type)
    found.update({"label": "", "uuid": "u", "size": GB, **given})
    return found


def place(**given):
    found = {"real": "/mnt/a", "exists": True, "folder": True, "empty": True, "mounted": None, "can_grow": True}
    found.update(link=LINK, fstab=[], image=None, taken=None)
    found.update(given)
    return found


def here(**options):
    return {"facts": facts(mounts=["/mnt/a"], state="mounted"), "place": place(mounted=dict(MOUNTED, **options), fstab=[ENTRY])}


def plan(facts, place, spec=SPEC, point="/mnt/a", **want):
    return mount.plan_mounted(spec, facts, place, mount.desired(point, **want))


def functions(found):
    return [step[0].partition(".")[2] for step in found.steps]


NOTHING_TO_DO = [
    (here(), {}),
    (here(), {"fs_type": "ext4", "mount_options": []}),
    (here(), {"mount_options": ["defaults"]}),
    (here(options="rw,nosuid,noatime"), {"mount_options": None}),
    # A filesystem leaves a rest at the end of its device.
    (dict(here(), facts=facts(mounts=["/mnt/a"], size=GB - (4 << 20))), {}),
    (dict(here(), facts=facts(mounts=["/mnt/a"], size=GB // 2)), {"grow": False}),
    (dict(here(), place=place(mounted=MOUNTED)), {"persist": False}),
    # An earlier state of a dry run mounts it.
    ({"facts": facts(mounts=["/mnt/a"]), "place": place(taken="rbd/a", fstab=[ENTRY])}, {}),
]


@pytest.mark.parametrize(("given", "want"), NOTHING_TO_DO)
def test_nothing_to_do(given, want):
    found = plan(**given, **want)
    assert (found.steps, found.changes, found.refusals) == ([], {}, [])
    assert found.planned == {("mount", "/mnt/a"): {"image": "rbd/a", "fs_type": "ext4"}}


MOUNTS = [
    (facts(), place(), {}, ["mount", "persist"], {"mounted": "rbd/a", "options": "defaults", "fstab": " ".join(ENTRY)}),
    (facts(), place(exists=False), {"persist": False}, ["mount"], {"mounted": "rbd/a", "options": "defaults"}),
    (facts(), place(), {"mount_options": "noatime,nodev", "persist": False}, ["mount"], {"mounted": "rbd/a", "options": "noatime,nodev"}),
    (facts("xfs"), place(fstab=[ENTRY._replace(fs_type="xfs")]), {}, ["mount"], {"mounted": "rbd/a", "options": "defaults"}),
    # What is mapped read-only cannot replay its journal.
    (facts(read_only=True), place(), {"persist": False}, ["mount"], {"mounted": "rbd/a", "options": "ro,noload"}),
    (facts("xfs", read_only=True), place(), {"persist": False}, ["mount"], {"mounted": "rbd/a", "options": "ro,norecovery,nouuid"}),
    # A clone beside its parent.
    (
        facts("xfs", parent=PARENT, twin="/mnt/p"),
        place(),
        {"persist": False},
        ["new_uuid", "mount"],
        {"uuid": "a new one", "mounted": "rbd/a", "options": "defaults"},
    ),
    (facts("xfs", parent=PARENT, renewed=True), place(), {"persist": False}, ["mount"], {"mounted": "rbd/a", "options": "defaults"}),
    (facts(parent=PARENT), place(), {"persist": False}, ["mount"], {"mounted": "rbd/a", "options": "defaults"}),
    (
        facts("xfs", parent=PARENT, twin="/mnt/p"),
        place(),
        {"persist": False, "mount_options": ["nouuid"]},
        ["mount"],
        {"mounted": "rbd/a", "options": "nouuid"},
    ),
    (
        facts("xfs", parent=PARENT, twin="/mnt/p"),
        place(),
        {"persist": False, "mount_options": ["ro"]},
        ["mount"],
        {"mounted": "rbd/a", "options": "ro,nouuid"},
    ),
    # The image has grown: ext4 before its mount, xfs after it.
    (facts(size=GB // 2), place(), {"persist": False}, ["grow", "mount"], {"mounted": "rbd/a", "options": "defaults", "size": "1G"}),
    (facts("xfs", size=GB // 2), place(), {"persist": False}, ["mount", "grow"], {"mounted": "rbd/a", "options": "defaults", "size": "1G"}),
]


@pytest.mark.parametrize(("have", "there", "want", "steps", "new"), MOUNTS)
def test_it_is_mounted(have, there, want, steps, new):
    found = plan(have, there, **want)
    assert found.refusals == []
    assert functions(found) == steps
    assert {field: entry["new"] for field, entry in found.changes["/mnt/a"].items()} == new


CHANGES = [
    (here(), {"mount_options": ["noatime"]}, ["remount", "persist"], {"options", "fstab"}),
    (here(options="rw,noatime"), {"mount_options": [], "persist": True}, ["remount"], {"options"}),
    (here(), {"persist": False}, ["unpersist"], {"fstab"}),
    (dict(here(), facts=facts(mounts=["/mnt/a"], size=GB // 2)), {}, ["grow"], {"size"}),
    (dict(here(), place=place(mounted=MOUNTED, fstab=[ENTRY._replace(device=LINK + "b")])), {}, ["persist"], {"fstab"}),
    (dict(here(), place=place(mounted=MOUNTED, fstab=[ENTRY, ENTRY])), {}, ["persist"], {"fstab"}),
]


@pytest.mark.parametrize(("given", "want", "steps", "fields"), CHANGES)
def test_what_is_mounted_is_changed(given, want, steps, fields):
    found = plan(**given, **want)
    assert (functions(found), set(found.changes["/mnt/a"])) == (steps, fields)


FOREIGN = fstab.Entry("/dev/sda1", "/mnt/a", "ext4", "defaults")
REFUSED = [
    (facts(device=None), place(), {}, "declare rbd_device.mapped"),
    (facts(), place(real="/data/a"), {}, "declare its real path /data/a"),
    (facts(), place(mounted=dict(MOUNTED, device="8:1", source="/dev/sda1")), {}, "/dev/sda1 (ext4) is mounted on /mnt/a"),
    (facts(), place(folder=False), {}, "is not a folder"),
    (facts(), place(empty=False), {}, "is not empty"),
    (facts(), place(taken="rbd/b"), {}, "An earlier state of this run mounts rbd/b"),
    (facts(mounts=["/mnt/b"]), place(), {}, "is mounted on /mnt/b"),
    (facts(fs_type=None, signature=None), place(), {}, "carries no filesystem"),
    (facts(mark={"fs_type": "ext4", "uuid": "u", "time": 1}), place(), {}, "its mkfs was killed"),
    (facts("btrfs"), place(), {}, "carries btrfs"),
    (facts("xfs"), place(), {"fs_type": "ext4"}, "carries xfs, not ext4"),
    (facts(size=2 * GB), place(), {}, "was shrunk"),
    (facts("xfs", twin="/mnt/p"), place(), {}, "has the UUID of the filesystem that is mounted on /mnt/p"),
    (facts(), place(fstab=[FOREIGN]), {}, "not this package's"),
    (facts(mounts=["/mnt/a"], size=GB // 2), place(mounted=MOUNTED, can_grow=False), {}, "CAP_SYS_RESOURCE"),
    # The same device on the same path, but another mount covers it.
    (facts(mounts=["/mnt/a"]), place(mounted=dict(MOUNTED, device="0:40", source="tmpfs", fs_type="tmpfs")), {}, "tmpfs"),
]


@pytest.mark.parametrize(("have", "there", "want", "text"), REFUSED)
def test_mount_refused(have, there, want, text):
    found = plan(have, there, **want)
    assert (found.steps, found.changes, found.planned) == ([], {}, {})
    assert text in " ".join(found.refusals)


def test_every_reason_is_told():
    found = plan(facts("btrfs", mounts=["/mnt/b"]), place(empty=False, fstab=[FOREIGN]))
    assert len(found.refusals) == 4


def unmount(spec=None, persist=False, **there):
    return mount.plan_unmounted("/mnt/a", spec, place(**there), persist)


def test_unmounted():
    assert unmount().changes == {}
    assert functions(unmount(mounted=MOUNTED, image="rbd/a")) == ["umount"]
    assert functions(unmount(mounted=MOUNTED, image="rbd/a", fstab=[ENTRY])) == ["umount", "unpersist"]
    assert functions(unmount(mounted=MOUNTED, image="rbd/a", fstab=[ENTRY], persist=True)) == ["umount"]
    assert functions(unmount(fstab=[ENTRY])) == ["unpersist"]
    assert unmount(fstab=[FOREIGN]).changes == {}
    assert functions(unmount(taken="rbd/a", image="rbd/a")) == ["umount"]
    assert unmount(mounted=MOUNTED, image="rbd/a").planned == {("mount", "/mnt/a"): None}
    assert unmount(fstab=[ENTRY]).planned == {("mount", "/mnt/a"): None, ("fstab", "/mnt/a"): None}
    assert unmount(fstab=[ENTRY], persist=True).planned == {("mount", "/mnt/a"): None}


def test_a_dry_run_names_who_uses_it():
    assert unmount(mounted=MOUNTED, image="rbd/a", users=["pid 5 (sleep) uses it"]).notes == [
        "rbd/a cannot be unmounted from /mnt/a while it is so: pid 5 (sleep) uses it."
    ]
    assert unmount(mounted=MOUNTED, image="rbd/a", users=[]).notes == []
    assert unmount(users=["pid 5 (sleep) uses it"]).notes == []


def test_unmounted_refused():
    assert "no image's device" in unmount(mounted=MOUNTED).refusals[0]
    assert "rbd/a is mounted on /mnt/a, not rbd/b" in unmount(spec=specs.parse("rbd/b"), mounted=MOUNTED, image="rbd/a").refusals[0]


def test_a_dry_run_remembers_mounts():
    there = place(mounted=MOUNTED, image="rbd/a")
    assert mount.expected("/mnt/a", {}, dict(there)) == there
    gone = mount.expected("/mnt/a", {("mount", "/mnt/a"): None}, dict(there))
    assert (gone["mounted"], gone["image"], gone["taken"]) == (None, None, None)
    taken = mount.expected("/mnt/a", {("mount", "/mnt/a"): {"image": "rbd/b", "fs_type": "xfs"}}, dict(there))
    assert (taken["mounted"], taken["taken"]) == (None, "rbd/b")


def test_a_dry_run_remembers_lines_in_fstab():
    there = place(fstab=[ENTRY, FOREIGN])
    assert mount.expected("/mnt/a", {("fstab", "/mnt/a"): None}, dict(there))["fstab"] == [FOREIGN]
    written = plan(facts(), place()).planned
    assert mount.expected("/mnt/a", written, place())["fstab"] == [ENTRY]


DRIFT = [
    ("rw,relatime", "rw", (), []),
    ("rw,relatime", "rw", ("defaults", "_netdev", "nofail"), []),
    ("rw,relatime", "rw", ("noatime",), ["noatime"]),
    ("rw,noatime", "rw", (), ["relatime"]),
    ("rw", "rw", ("strictatime",), []),
    ("rw,nosuid,nodev,relatime", "rw", ("nosuid",), ["dev"]),
    ("ro,relatime", "ro", ("ro",), []),
    ("rw,relatime", "ro", (), ["rw"]),
    ("rw,relatime", "rw", ("ro",), ["ro"]),
    ("rw,relatime", "rw", ("ro", "rw"), []),
    ("rw,relatime", "rw,discard", ("discard",), []),
    ("rw,relatime", "rw,discard", (), ["nodiscard"]),
    ("rw,relatime", "rw", ("discard",), ["discard"]),
    # What the kernel does not show when it is the default tells nothing.
    ("rw,relatime", "rw", ("data=ordered", "commit=5"), []),
]


@pytest.mark.parametrize(("have", "filesystem_has", "words", "found"), DRIFT)
def test_drift(have, filesystem_has, words, found):
    assert mount.drift({"options": have, "super_options": filesystem_has}, words) == found


@pytest.mark.parametrize(
    "point", ["mnt", "/", "//mnt", "/mnt/", "/mnt/../etc", "/mnt//a", "/mnt/a b", "/mnt/\n", "", None, 5, ["/mnt"], "/./mnt"]
)
def test_what_is_no_mount_point(point):
    with pytest.raises(errors.InvalidArgument):
        mount.check_point(point)


@pytest.mark.parametrize(
    "options", [5, {"a": 1}, [5], [""], ["a b"], "a,,b", ["a,b"], ["remount"], "bind", ["loop=/dev/loop0"], ["a\n"], "a\\040b"]
)
def test_what_is_no_mount_option(options):
    with pytest.raises(errors.InvalidArgument):
        mount.check_options(options)


def test_options_as_list_or_text():
    assert mount.check_options("noatime,nodev") == mount.check_options(["noatime", "nodev"]) == ("noatime", "nodev")
    assert mount.check_options(None) == mount.check_options("") == ()


TEXT = b"# static\n\nUUID=1 / ext4 errors=remount-ro 0 1\n/dev/sdb\t/mnt/b  xfs\tdefaults 0 0\nbroken line\n"


def test_every_other_line_stays_byte_for_byte():
    with_line = fstab.with_entry(TEXT, "/mnt/a", ENTRY)
    assert with_line == TEXT + LINK.encode() + f" /mnt/a ext4 _netdev,nofail,{REQUIRES} 0 0\n".encode()
    assert fstab.with_entry(with_line, "/mnt/a", ENTRY) == with_line
    assert fstab.with_entry(with_line, "/mnt/a", None) == TEXT
    assert fstab.with_entry(TEXT, "/mnt/b", None) == TEXT  # not ours
    between = LINK.encode() + b"\t/mnt/a/ ext4 old 0 0 # by hand\n" + TEXT
    assert fstab.with_entry(between, "/mnt/a", ENTRY) == fstab.render(ENTRY) + TEXT
    assert fstab.with_entry(b"x y z t", "/mnt/a", ENTRY) == b"x y z t\n" + fstab.render(ENTRY)
    assert fstab.with_entry(b"", "/mnt/a", ENTRY) == fstab.render(ENTRY)
    assert fstab.with_entry(with_line + fstab.render(ENTRY), "/mnt/a", ENTRY) == with_line


@pytest.mark.parametrize("name", ["/mnt/a b", "/mnt/tab\t", "/mnt/back\\slash", "/mnt/ä", "/mnt/#1"])
def test_a_line_reads_as_it_was_written(name):
    entry = ENTRY._replace(point=name)
    assert fstab.parse(fstab.render(entry)) == entry
    assert proc.unescape(fstab.render(entry).split()[1]) == name


def test_boot_options_come_on_top():
    assert fstab.entry_of(LINK, "/mnt/a", "ext4", ("noatime", "nofail")).options == "noatime,nofail,_netdev," + REQUIRES
    assert fstab.entry_of(LINK, "/mnt/a", "ext4", ("defaults",)) == ENTRY


def test_fstab_is_replaced_whole(tmp_path):
    path, folder = tmp_path / "fstab", str(tmp_path)
    path.write_bytes(TEXT)
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.stat().st_ino
    assert fstab.update("/mnt/a", ENTRY, str(link))
    assert link.is_symlink() and path.stat().st_ino != before and path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == fstab.with_entry(TEXT, "/mnt/a", ENTRY)
    assert not fstab.update("/mnt/a", ENTRY, str(path))
    with pytest.raises(errors.Refused, match="not this package's"):
        fstab.update("/mnt/b", ENTRY._replace(point="/mnt/b"), str(path))
    assert not fstab.update("/mnt/b", None, str(path))
    assert fstab.update("/mnt/a", None, str(path))
    assert path.read_bytes() == TEXT
    assert sorted(os.listdir(folder)) == ["fstab", "link"]


def test_a_missing_fstab_is_made(tmp_path):
    path = tmp_path / "fstab"
    assert not fstab.update("/mnt/a", None, str(path))
    assert not path.exists()
    assert fstab.update("/mnt/a", ENTRY, str(path))
    assert path.read_bytes() == fstab.render(ENTRY) and path.stat().st_mode & 0o777 == 0o644
