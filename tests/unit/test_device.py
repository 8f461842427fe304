"""What maps and unmaps an image, as tables: every decision with its no-op row; and the kernel's and rbd-nbd's own shapes."""

import pytest
from device_facts import GOOD, IMAGE, SNAP, SPEC
from saltrbd import device_plan, errors, owner, settings
from saltrbd import spec as specs
from saltrbd.device_plan import Current, Desired

ME = {"host": "one", "boot": "boot-1", "pids": "pid:[1]"}
WATCHER = {"address": "192.0.2.9:0/77", "client": 77, "cookie": 1}
LOCK = {"address": "192.0.2.8:0/5", "client": "client.5", "cookie": "backup"}
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
WORKING = held(host="two", boot="boot-9", pids="pid:[1]", driver="")


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
        # encrypted or shrunk: nobody shall break that lock while it lasts
        (WORKING, [], [], "", ["being encrypted or shrunk by the host two", "Try again when that is done; if it died over that", BREAK]),
        (WORKING, [WATCHER], [], "", ["being encrypted or shrunk by the host two", "; try again when that is done."]),
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
        assert plan.planned == {("device", "rbd/a"): {"driver": driver, "read_only": want.read_only, "at_boot": None}}


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


UNIT = "rbd-volume@rbd:a:00000000.service"


@pytest.mark.parametrize(
    ("current", "users", "left", "at_boot", "fields", "refusal"),
    [
        (None, [], None, None, None, None),
        (GOOD, [], None, None, {"device": {"old": "mapped by fuse", "new": None}}, None),
        (GOOD._replace(read_only=True), [], None, None, {"device": {"old": "mapped read-only by fuse", "new": None}}, None),
        (None, [], MINE, None, {"lock": {"old": "held by this host", "new": None}}, None),
        (None, [], None, UNIT, {"at_boot": {"old": UNIT, "new": None}}, None),
        (GOOD, [], None, UNIT, {"device": {"old": "mapped by fuse", "new": None}, "at_boot": {"old": UNIT, "new": None}}, None),
        (
            GOOD,
            ["it is mounted on /mnt", "/dev/dm-0 is built on it"],
            None,
            UNIT,
            None,
            "rbd/a at /dev/loop3 cannot be unmapped: it is mounted on /mnt and /dev/dm-0 is built on it.",
        ),
    ],
)
def test_plan_unmapped(current, users, left, at_boot, fields, refusal):
    plan = device_plan.plan_unmapped(SPEC, current, users, left, at_boot)
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
        {"driver": "krbd", "options": {5: "x"}},
        {"driver": "krbd", "options": {True: "x", "notrim": None}},
        {"driver": "nbd", "options": {False: "x"}},
        {"driver": "krbd", "options": {"queue_depth": "1,ro"}},
        {"driver": "krbd", "options": {"queue_depth": "1\n"}},
        {"driver": "krbd", "options": {"queue_depth": 10**5000}},
        {"driver": "krbd", "options": {"secret": "AQ=="}},
        {"driver": "krbd", "options": {"queue_depth": "a" * 99 + ",secret=x"}},
        {"driver": "krbd", "options": ["a" * 99 + ",ro"]},
        {"driver": "krbd", "options": {"queue_depth": "'1'"}},
        {"driver": "krbd", "options": {"queue_depth": ""}},
        {"driver": "krbd", "options": {"queue_depth": "1" * 257}},
        {"driver": "nbd", "options": {"io-timeout": "1" * 257}},
        {"driver": "nbd", "options": {"io-timeout": "a" * 99 + " --device=/dev/nbd3"}},
        {"driver": "nbd", "options": {"io-timeout": "--device"}},
        {"driver": "nbd", "options": ["io-timeout=1,2"]},
        {"driver": "nbd", "options": ["a" * 99 + ",x=1"]},
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


@pytest.mark.parametrize("driver", ["krbd", "nbd"])
@pytest.mark.parametrize("options", [{"key": "AQ=="}, ["key=AQ=="], {"secret": "AQ, ==" * 40}])
def test_a_refused_value_is_not_shown(driver, options):
    with pytest.raises(errors.InvalidArgument) as caught:
        device_plan.desired(loaded(), SPEC, driver=driver, options=options)
    assert "AQ" not in str(caught.value)


def test_the_longest_value_is_taken():
    assert device_plan.desired(loaded(), SPEC, driver="nbd", options={"io-timeout": "1" * 256}).options == [("io-timeout", "1" * 256)]
