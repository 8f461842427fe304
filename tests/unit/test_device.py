"""What maps and unmaps an image, as tables: every decision with its no-op row; and the kernel's and rbd-nbd's own shapes."""

import os

import pytest
from saltrbd import device_find, device_fuse, device_krbd, device_nbd, device_plan, errors, kernel, mapping, owner, settings
from saltrbd import spec as specs
from saltrbd.device_plan import Current, Desired
from saltrbd.mapping import Mapping

SPEC = specs.parse("rbd/a")
SNAP = specs.parse("rbd/a@s")
ME = {"host": "one", "boot": "boot-1", "pids": "pid:[1]"}
WATCHER = {"address": "192.0.2.9:0/77", "client": 77, "cookie": 1}
LOCK = {"address": "192.0.2.8:0/5", "client": "client.5", "cookie": "backup"}
IMAGE = {"id": "abc", "features": ["layering"], "snapshots": [{"name": "s", "type": "user", "id": 4}], "parent": None, "size": 8}
GOOD = Mapping(SPEC, "/dev/loop3", "fuse", False, 9, "F", "abc")
WANT = Desired("auto", False, True, [])
KERNEL = ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "striping", "data-pool", "operations"]


def held(**facts):
    return owner.Holder("rbd_header.abc", "client.4", "cookie-1", "192.0.2.7:0/4", facts)


BREAK = "lock break rbd_header.abc saltrbd client.4 --lock-cookie cookie-1'"
MINE = held(**ME, address="192.0.2.1:0/3")
BEFORE = held(**{**ME, "boot": "boot-0"}, address="192.0.2.1:0/3")
CONTAINER = held(**{**ME, "pids": "pid:[2]"}, address="192.0.2.1:0/3")
OTHER = held(host="two", boot="boot-9", pids="pid:[1]", address="192.0.2.2:0/3")
NAMELESS = held()
UNNOTED = held(host="two", boot="boot-9", pids="pid:[1]")


@pytest.mark.parametrize(
    ("holder", "watchers", "locks", "served", "expected"),
    [
        # free: nobody, or what is left is this host's own and dead
        (None, [], [], "", {}),
        (None, [WATCHER], [], "daemon", {}),
        (MINE, [], [], "", {"holder": MINE}),
        (MINE, [WATCHER], [], "daemon", {"holder": MINE}),
        (BEFORE, [], [], "", {"holder": BEFORE, "blocklist": "192.0.2.1:0/3"}),
        # ours: nothing to do
        (MINE, [WATCHER], [], "device", {"ours": True, "holder": MINE}),
        # another host's, whose daemon is gone: only after it is locked out
        (OTHER, [], [], "", {"holder": OTHER, "blocklist": "192.0.2.2:0/3"}),
        (CONTAINER, [], [], "", {"holder": CONTAINER, "blocklist": "192.0.2.1:0/3"}),
        # refused, with who
        (None, [WATCHER], [], "", ["192.0.2.9:0/77 (client.77)"]),
        (None, [], [LOCK], "", ["advisory lock", "192.0.2.8:0/5", "backup"]),
        (None, [WATCHER], [], "device", ["not exclusively"]),
        (MINE, [WATCHER], [], "", ["192.0.2.9:0/77", "which is dead", "30 s"]),
        (BEFORE, [WATCHER], [], "", ["192.0.2.9:0/77", "before its last boot", "30 s"]),
        (CONTAINER, [WATCHER], [], "", ["the host one", "192.0.2.1:0/3"]),
        (OTHER, [WATCHER], [], "", ["the host two", "address 192.0.2.2:0/3"]),
        (OTHER, [WATCHER], [], "device", ["the host two", "address 192.0.2.2:0/3"]),
        (UNNOTED, [], [], "", ["the host two", "192.0.2.7:0/4", "'rados -p rbd " + BREAK]),
        (UNNOTED, [WATCHER], [], "", ["the host two", "192.0.2.7:0/4"]),
        (NAMELESS, [], [], "", ["an unnamed host", "lock break"]),
    ],
)
def test_judge(holder, watchers, locks, served, expected):
    verdict = owner.judge(SPEC, holder, {"watchers": watchers, "locks": locks}, served, ME)
    if isinstance(expected, dict):
        assert verdict == owner.Verdict(**expected)
        return
    assert verdict.refusal.startswith("rbd/a ")
    for part in expected:
        assert part in verdict.refusal
    assert (verdict.ours, verdict.blocklist, verdict.holder) == (False, None, None)


def planned(spec, current, want):
    return device_plan.plan(spec, current, want, KERNEL)


@pytest.mark.parametrize(
    ("current", "want", "fields"),
    [
        # no-op
        (Current(IMAGE, GOOD, owner.Verdict(ours=True, holder=MINE)), WANT, {}),
        (Current(IMAGE, GOOD), Desired("fuse", False, False, []), {}),
        (Current(IMAGE, GOOD, None, None, "no driver can map it"), Desired("auto", False, False, []), {}),
        (Current(IMAGE, GOOD._replace(read_only=True)), Desired("fuse", True, True, []), {}),
        # create
        (Current(IMAGE, None, owner.Verdict(), "fuse"), WANT, {"device": {"old": None, "new": "mapped by fuse"}}),
        (Current(IMAGE, None, None, "krbd"), Desired("krbd", True, True, []), {"device": {"old": None, "new": "mapped read-only by krbd"}}),
        # a dead one again
        (
            Current(IMAGE, GOOD._replace(pid=None, fault="its daemon is dead"), owner.Verdict(holder=MINE), "fuse"),
            WANT,
            {"device": {"old": "mapped by fuse, but its daemon is dead", "new": "mapped by fuse"}},
        ),
        (
            Current(IMAGE, GOOD._replace(device=None, fault="it has no loop device"), owner.Verdict(holder=MINE), "fuse"),
            WANT,
            {"device": {"old": "mapped by fuse, but it has no loop device", "new": "mapped by fuse"}},
        ),
        # mended
        (
            Current(IMAGE, GOOD, owner.Verdict(ours=True, holder=MINE), mend=("link",)),
            WANT,
            {"link": {"old": None, "new": "/run/rbd-volumes/F/rbd/a"}},
        ),
        (
            Current(IMAGE, GOOD, owner.Verdict(ours=True, holder=held(**ME)), mend=("lock",)),
            WANT,
            {"lock": {"old": "without the writer's address", "new": "complete"}},
        ),
    ],
)
def test_plan(current, want, fields):
    plan = planned(SPEC, current, want)
    assert plan.refusals == []
    assert plan.changes == ({"rbd/a": fields} if fields else {})
    assert [function for function, _ in plan.steps] == (["rbd_device.map"] if fields else [])
    if fields:
        driver = (current.mapping if current.mend else current).driver
        assert plan.planned == {("device", "rbd/a"): {"driver": driver, "read_only": want.read_only}}


def test_what_is_locked_out_is_said():
    plan = planned(SPEC, Current(IMAGE, None, owner.Verdict(holder=OTHER, blocklist="192.0.2.2:0/3"), "fuse"), WANT)
    assert plan.notes == ["The daemon at 192.0.2.2:0/3 of the host two, which is gone, is locked out of the cluster."]


STALE = GOOD._replace(fault="the image of that name is another one by now (id def)", image_id="old")
JOURNAL = {**IMAGE, "features": ["exclusive-lock", "journaling", "layering"]}


@pytest.mark.parametrize(
    ("spec", "current", "want", "kinds", "says"),
    [
        (SPEC, Current(None), WANT, [errors.ImageNotFound], "rbd/a does not exist"),
        (specs.parse("rbd/a@no"), Current(IMAGE, None, None, "fuse"), WANT, [errors.SnapshotNotFound], "rbd/a@no does not exist"),
        (SPEC, Current(IMAGE, STALE, None, "fuse"), WANT, [errors.StaleMapping], "another one by now (id def); unmap it"),
        (
            SPEC,
            Current(IMAGE, GOOD._replace(pid=None, fault="its daemon is dead"), None, "fuse", None, ("it is mounted on /mnt",)),
            WANT,
            [errors.Busy],
            "its daemon is dead; unmap it and map it again; but it is mounted on /mnt.",
        ),
        (SPEC, Current(IMAGE, None, owner.Verdict("X is in use."), "fuse"), WANT, [errors.Busy], "X is in use."),
        (SPEC, Current(IMAGE, None, None, None, "no driver"), WANT, [errors.NotSupported], "rbd/a: no driver"),
        (
            SPEC,
            Current(IMAGE, None, owner.Verdict("X is in use."), None, "no driver"),
            WANT,
            [errors.NotSupported, errors.Busy],
            "rbd/a: no driver X is in use.",
        ),
        (SPEC, Current(IMAGE, GOOD), Desired("krbd", False, False, []), [errors.Refused], "by fuse, not by krbd as declared"),
        (SPEC, Current(IMAGE, GOOD), Desired("nbd", True, False, []), [errors.Refused], "by fuse, not by nbd and writable, not read-only"),
        (SPEC, Current(JOURNAL, None, None, "krbd"), WANT, [errors.NotSupported], "Run 'rbd feature disable rbd/a journaling'"),
        (
            SPEC,
            Current({**IMAGE, "features": ["layering", "migrating"]}, None, None, "krbd"),
            WANT,
            [errors.NotSupported],
            "features migrating; they cannot be disabled. Map it with the driver nbd or fuse.",
        ),
        (
            SPEC,
            Current(IMAGE, None, None, "krbd", parents=((specs.parse("p/x"), ["journaling"]),)),
            WANT,
            [errors.NotSupported],
            "rbd/a is a clone. The kernel's rbd on this host cannot map p/x, because of its features journaling.",
        ),
        (
            SPEC,
            Current(IMAGE, None, None, "krbd", parents=((specs.parse("p/x"), []),) * 17),
            WANT,
            [errors.NotSupported],
            "more than 16 parents. Run 'rbd flatten rbd/a'",
        ),
        # what librbd opens is no matter
        (SPEC, Current(JOURNAL, None, None, "fuse"), WANT, [], ""),
        (SPEC, Current(JOURNAL, None, None, "nbd"), WANT, [], ""),
        (SPEC, Current(IMAGE, None, None, "krbd", parents=((specs.parse("p/x"), ["layering"]),) * 16), WANT, [], ""),
        (SNAP, Current(IMAGE, None, None, "fuse"), WANT, [], ""),
    ],
)
def test_obstacles(spec, current, want, kinds, says):
    found = device_plan.obstacles(spec, current, want, KERNEL)
    assert [type(error) for error in found] == kinds
    assert says in " ".join(str(error) for error in found)
    plan = planned(spec, current, want)
    assert plan.refusals == [str(error) for error in found]
    if found:
        assert (plan.steps, plan.changes) == ([], {})


@pytest.mark.parametrize(
    ("current", "users", "left", "fields", "refusal"),
    [
        (None, [], None, None, None),
        (GOOD, [], None, {"device": {"old": "mapped by fuse", "new": None}}, None),
        (GOOD._replace(read_only=True), [], None, {"device": {"old": "mapped read-only by fuse", "new": None}}, None),
        (None, [], MINE, {"lock": {"old": "held by this host", "new": None}}, None),
        (
            GOOD,
            ["it is mounted on /mnt", "/dev/dm-0 is built on it"],
            None,
            None,
            "rbd/a at /dev/loop3 cannot be unmapped: it is mounted on /mnt and /dev/dm-0 is built on it.",
        ),
    ],
)
def test_plan_unmapped(current, users, left, fields, refusal):
    plan = device_plan.plan_unmapped(SPEC, current, users, left)
    assert plan.refusals == ([refusal] if refusal else [])
    assert plan.changes == ({"rbd/a": fields} if fields else {})
    assert plan.steps == ([("rbd_device.unmap", {"name": "rbd/a"})] if fields else [])


DEEP = [("queue_depth", "256"), ("notrim", None)]


def loaded(**rbd):
    return settings.load({"id": "one"}, {"rbd": rbd})


@pytest.mark.parametrize(
    ("spec", "arguments", "expected"),
    [
        (SPEC, {}, Desired("auto", False, True, [])),
        (SNAP, {}, Desired("auto", True, True, [])),
        (SPEC, {"driver": "nbd", "exclusive": False}, Desired("nbd", False, False, [])),
        (SPEC, {"driver": "krbd", "options": {"queue_depth": 256, "notrim": True}}, Desired("krbd", False, True, DEEP)),
        (SPEC, {"driver": "krbd", "options": ["queue_depth=256", "notrim"]}, Desired("krbd", False, True, DEEP)),
        (SPEC, {"driver": "fuse", "options": {"detect-zeroes": False}}, Desired("fuse", False, True, [("detect-zeroes", "off")])),
    ],
)
def test_desired(spec, arguments, expected):
    assert device_plan.desired(loaded(), spec, **arguments) == expected


def test_the_settings_name_the_driver():
    assert device_plan.desired(loaded(driver="nbd"), SPEC).driver == "nbd"
    with pytest.raises(errors.InvalidArgument):
        device_plan.desired(loaded(driver="floppy"), SPEC)


@pytest.mark.parametrize(
    "arguments",
    [
        {"driver": "iscsi"},
        {"driver": ["krbd"]},
        {"read_only": "no"},
        {"exclusive": None},
        {"options": {"queue_depth": 1}},
        {"driver": "krbd", "options": "notrim"},
        {"driver": "krbd", "options": [1]},
        {"driver": "krbd", "options": {"a": {"b": 1}}},
        {"driver": "krbd", "options": {"a,secret": "x"}},
        {"driver": "krbd", "options": {"queue_depth": "1,ro"}},
        {"driver": "krbd", "options": {"queue_depth": "1\n"}},
        {"driver": "krbd", "options": {"queue_depth": 10**5000}},
        {"driver": "krbd", "options": {"secret": "AQ=="}},
        {"driver": "krbd", "options": ["ro"]},
        {"driver": "nbd", "options": {"device": "/dev/nbd3"}},
        {"driver": "nbd", "options": ["read_only"]},
        {"driver": "nbd", "options": ["-d"]},
        {"driver": "fuse", "options": {"discard": "maybe"}},
        {"driver": "fuse", "options": {"conf": "/etc/other"}},
    ],
)
def test_desired_refuses(arguments):
    with pytest.raises(errors.InvalidArgument):
        device_plan.desired(loaded(), SPEC, **arguments)


PATHS = [
    ("rbd/a", "/run/rbd-volumes/F/rbd/a"),
    ("rbd/a@s", "/run/rbd-volumes/F/rbd/a@s"),
    ("rbd/k8s/a@s", "/run/rbd-volumes/F/rbd/k8s@/a@s"),
    ("rbd/..", "/run/rbd-volumes/F/rbd/%2E."),
    ("rbd/.", "/run/rbd-volumes/F/rbd/%2E"),
    ("rbd/%2E", "/run/rbd-volumes/F/rbd/%252E"),
    ("../x", "/run/rbd-volumes/F/%2E./x"),
    ("rbd/a\\b", "/run/rbd-volumes/F/rbd/a%5Cb"),
]


@pytest.mark.parametrize(("spec", "path"), PATHS)
def test_link_path(spec, path):
    assert mapping.link_path("F", specs.parse(spec)) == path


def test_links_of_different_images_differ():
    long = "n" * 255
    names = [spec for spec, _ in PATHS] + [f"rbd/{long}", f"rbd/{long}@{long}", f"rbd/{long}@{long[:-1]}m", f"rbd/{'ü' * 127}@{'ü' * 127}"]
    paths = {mapping.link_path("F", specs.parse(name)) for name in names}
    assert len(paths) == len(names)
    assert all(len(os.fsencode(part)) <= 255 for path in paths for part in path.split("/"))


def test_a_faulty_mapping_gets_no_link():
    with pytest.raises(errors.StaleMapping, match="rbd/a is mapped, but its daemon is dead"):
        mapping.ensure_link(GOOD._replace(fault="its daemon is dead"))


@pytest.mark.parametrize(
    ("local", "spec", "image", "expected"),
    [
        (GOOD, SPEC, IMAGE, GOOD),
        (GOOD, SPEC, {**IMAGE, "id": "def"}, "another one by now (id def)"),
        (GOOD, SPEC, None, "removed, renamed or moved to the trash"),
        (GOOD, specs.parse("rbd/b"), IMAGE, GOOD._replace(spec=specs.parse("rbd/b"))),
        (GOOD, specs.parse("rbd/b"), {**IMAGE, "id": "def"}, None),
        (GOOD, SNAP, IMAGE, None),
        (GOOD._replace(spec=SNAP, snapshot_id=4), SNAP, IMAGE, GOOD._replace(spec=SNAP, snapshot_id=4)),
        (GOOD._replace(spec=SNAP, snapshot_id=4), SPEC, IMAGE, None),
        (GOOD._replace(spec=SNAP, snapshot_id=3), SNAP, IMAGE, "the snapshot was removed since"),
        (GOOD._replace(spec=SNAP, snapshot_id=None), SNAP, IMAGE, GOOD._replace(spec=SNAP)),
        (GOOD._replace(image_id="", fault="it was started by hand"), SPEC, IMAGE, "started by hand"),
    ],
)
def test_a_mapping_is_recognised_by_the_image_id(local, spec, image, expected):
    found = device_find._match([local], spec, image)
    if isinstance(expected, str):
        assert expected in found.fault
        return
    assert found == expected


def sysfs(tmp_path, **devices):
    """A tree as the kernel's rbd shows it."""
    for number, attributes in devices.items():
        folder = tmp_path / "devices" / number.lstrip("n")
        folder.mkdir(parents=True)
        for name, text in attributes.items():
            (folder / name).write_text(text + "\n")
    return str(tmp_path)


HEAD = {"pool": "rbd", "pool_ns": "", "name": "a", "image_id": "abc", "current_snap": "-", "cluster_fsid": "F"}
HEAD["snap_id"] = "18446744073709551614"


def test_krbd_is_read_from_sysfs(tmp_path):
    root = sysfs(
        tmp_path,
        n0={**HEAD, "client_addr": "192.0.2.1:0/22", "client_id": "client4123"},
        n10={**HEAD, "pool_ns": "k8s", "current_snap": "s", "snap_id": "4"},
        n2={"pool": "rbd"},  # just being removed
    )
    assert device_krbd.mapped_list(root) == [
        Mapping(SPEC, "/dev/rbd0", "krbd", False, None, "F", "abc"),
        Mapping(specs.parse("rbd/k8s/a@s"), "/dev/rbd10", "krbd", True, None, "F", "abc", 4),
    ]


def test_krbd_without_the_module(tmp_path):
    assert device_krbd.mapped_list(str(tmp_path)) == []


# As rbd-nbd of Ceph 16.2 and 17.2 write it.
NBD = {"id": 77, "pool": "rbd", "namespace": "", "image": "a", "snap": "-", "device": "/dev/nbd0", "cookie": "x"}


@pytest.mark.parametrize(
    ("entry", "environ", "expected"),
    [
        (NBD, {"SALT_RBD_IMAGE": "F.abc"}, Mapping(SPEC, "/dev/nbd0", "nbd", False, 77, "F", "abc")),
        ({**NBD, "snap": ""}, {"SALT_RBD_IMAGE": "F.abc"}, Mapping(SPEC, "/dev/nbd0", "nbd", False, 77, "F", "abc")),
        (
            {**NBD, "snap": "@s", "namespace": "k"},
            {"SALT_RBD_IMAGE": "F.abc.4"},
            Mapping(specs.parse("rbd/k/a@s"), "/dev/nbd0", "nbd", False, 77, "F", "abc", 4),
        ),
        (NBD, {}, "started by hand"),
    ],
)
def test_nbd_is_read_from_its_list(entry, environ, expected):
    found = device_nbd.mapping_of(entry, environ)
    if isinstance(expected, str):
        assert expected in found.fault
        return
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0x3d", ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]), ("0x40", ["journaling"]), ("0x0", [])],
)
def test_supported_features(tmp_path, text, expected):
    path = tmp_path / "supported_features"
    path.write_text(text + "\n")
    assert kernel.supported_features(str(path)) == expected


def test_supported_features_without_the_module(tmp_path):
    assert "journaling" not in kernel.supported_features(str(tmp_path / "none"))
    assert "fast-diff" in kernel.supported_features(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "argv",
    [
        ["qemu-storage-daemon"],
        ["qemu-storage-daemon", "--blockdev", "driver=rbd,node-name=r,pool=rbd,image=a", "--export", "type=fuse,id=e,mountpoint=/mnt/f"],
        ["qemu-storage-daemon", "--blockdev", "{broken", "--export", "{}"],
        ["qemu-storage-daemon", "--blockdev", "{}", "--export", '{"mountpoint": "/srv/export"}'],
        ["qemu-storage-daemon", "--export", '{"mountpoint": "/run/rbd-volumes/.fuse/F.abc.0.t/export"}'],
    ],
)
def test_daemons_of_others_are_left_alone(argv):
    assert device_fuse._served(argv) == (None, None)
