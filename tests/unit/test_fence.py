"""Dead clients that are locked out of the cluster: addresses, who is meant, and what is planned."""

import json

import pytest
from saltrbd import errors, fence, owner, settings
from saltrbd import spec as specs

SEVEN, WHOLE = "192.0.2.7:0/123", "192.0.2.7:0/0"
HELD = owner.Holder("rbd_header.1", "client.9", "c", "192.0.2.9:0/1", {"host": "db1", "address": "192.0.2.9:0/9", "client": 9})
USING = {
    "watchers": [{"address": SEVEN, "client": 7, "host": "db2"}, {"address": "192.0.2.7:0/5", "client": 8, "host": "db2"}],
    "locks": [
        {"address": "192.0.2.8:0/5", "client": "client.5", "cookie": "backup", "host": None},
        {"address": "192.0.2.3:0/1", "client": "the host db4", "cookie": owner.LOCK, "host": "db4"},
    ],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SEVEN, SEVEN),
        ("192.0.2.7", WHOLE),
        ("192.0.2.7:0", WHOLE),
        ("[2001:DB8::7]:0/5", "[2001:db8::7]:0/5"),
        ("[2001:db8::7]", "[2001:db8::7]:0/0"),
        ("2001:db8::7", None),
        ("[192.0.2.7]", None),
        ("192.0.2.777", None),
        ("rbd/db", None),
        ("db1", None),
        ("", None),
        (7, None),
    ],
)
def test_address_of(text, expected):
    assert fence.address_of(text) == expected


@pytest.mark.parametrize(("name", "who"), [("rbd/db", None), (SEVEN, "db1"), ("rbd/db", ""), ("rbd/db", 7), (None, None)])
def test_what_is_no_address_and_no_user(name, who):
    with pytest.raises(errors.InvalidArgument):
        fence.check(name, who, settings.load({}, {}))


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("db1", ["192.0.2.9:0/9"]),
        ("client.9", ["192.0.2.9:0/9"]),
        ("db2", [SEVEN, "192.0.2.7:0/5"]),
        ("client.7", [SEVEN]),
        (SEVEN, [SEVEN]),
        ("client.5", ["192.0.2.8:0/5"]),
        # our own lock's line among the locks is no session to lock out, and a part of a name is no name
        ("db4", []),
        ("db", []),
        ("None", []),
        ("192.0.2.70:0/123", []),
    ],
)
def test_addresses(who, expected):
    assert fence.addresses(who, USING, HELD) == expected


@pytest.mark.parametrize(
    ("found", "entries", "changed", "refused"),
    [
        ([], [], [], ""),
        ([SEVEN], [SEVEN], [], ""),
        ([SEVEN], [WHOLE], [], ""),
        ([WHOLE], [SEVEN], [WHOLE], ""),
        ([SEVEN, "192.0.2.8:0/1"], [SEVEN], ["192.0.2.8:0/1"], ""),
        # this host's own: refused, and nothing else is done; one that is out already stays out
        (["192.0.2.1:0/5", SEVEN], [], [], "192.0.2.1:0/5 is an address of this host"),
        (["127.0.0.1:0/5"], [], [], "127.0.0.1:0/5 is an address of this host"),
        (["[2001:db8::1]:0/0"], [], [], "is an address of this host"),
        (["192.0.2.1:0/5"], ["192.0.2.1:0/5"], [], ""),
    ],
)
def test_plan(found, entries, changed, refused):
    plan = fence.plan(fence.Found(found, entries), {"192.0.2.1", "2001:db8::1"}, 60)
    assert sorted(plan.changes) == [arguments["name"] for _, arguments in plan.steps] == changed
    assert refused in " ".join(plan.refusals) and bool(plan.refusals) == bool(refused)
    assert set(plan.planned) == {("fence", address) for address in changed}


@pytest.mark.parametrize(
    ("entries", "own", "names", "kinds"),
    [
        # the lock goes after its holder's address is locked out, by whomever
        ([], set(), ["192.0.2.9:0/9", "rbd/db"], {"fence", "lock"}),
        (["192.0.2.9:0/9"], set(), ["rbd/db"], {"lock"}),
        (["192.0.2.9:0/0"], set(), ["rbd/db"], {"lock"}),
        # this host gives its lock back by unmapping
        ([], {"192.0.2.9"}, [], set()),
        (["192.0.2.9:0/9"], {"192.0.2.9"}, [], set()),
    ],
)
def test_the_lock_goes_with_its_holder(entries, own, names, kinds):
    found = fence.Found(["192.0.2.9:0/9"], entries, None, specs.parse("rbd/db"), "db1", HELD)
    plan = fence.plan(found, own, 60)
    assert [arguments["name"] for _, arguments in plan.steps] == names
    assert sorted(plan.changes) == names and {kind for kind, _ in plan.planned} == kinds
    if names:
        assert plan.changes["rbd/db"] == {"lock": {"old": "held by the host db1 at 192.0.2.9:0/9", "new": None}}
        assert plan.steps[-1] == ("rbd_device.fence", {"name": "rbd/db", "who": "db1", "seconds": 60})


class Cluster:
    """A fake: an image that nobody has open any more, and who has our lock on it."""

    def __init__(self, facts):
        self.settings = settings.load({"id": "here"}, {})
        self._facts = facts

    def call(self, operation, spec=None, **_):
        if operation == "blocklist_list":
            return {}
        if operation == "image_info":
            return {"id": "1", "watchers": [], "locks": []}
        return {"name": "client.9", "cookie": "c", "address": "192.0.2.9:0/1", "description": json.dumps(self._facts)}


@pytest.mark.parametrize(
    ("facts", "who", "known", "addresses", "held", "note"),
    [
        (HELD.facts, "db1", {}, ["192.0.2.9:0/9"], True, None),
        (HELD.facts, "db2", {}, [], False, "Nobody who is called db2 uses rbd/db."),
        # an earlier state of this dry run has taken it
        (HELD.facts, "db1", {("lock", "rbd/db"): None}, [], False, "Nobody who is called db1 uses rbd/db."),
        ({"host": "db1"}, "db1", {}, [], False, "run 'rados -p rbd lock break rbd_header.1 saltrbd client.9 --lock-cookie c'"),
    ],
)
def test_whose_lock_is_meant(facts, who, known, addresses, held, note):
    found = fence.look(Cluster(facts), "rbd/db", who, known)
    assert (found.addresses, bool(found.held)) == (addresses, held)
    assert note in found.note if note else found.note is None


@pytest.mark.parametrize(
    ("found", "entries", "changed", "refused"),
    [([], [], [], ""), ([SEVEN], [], [], ""), ([SEVEN], [SEVEN], [SEVEN], ""), ([SEVEN], [WHOLE], [], "with its whole host")],
)
def test_plan_undone(found, entries, changed, refused):
    plan = fence.plan_undone(fence.Found(found, entries))
    assert sorted(plan.changes) == changed
    assert refused in " ".join(plan.refusals) and bool(plan.refusals) == bool(refused)


def test_a_dry_run_counts_what_it_would_have_locked_out():
    known = {("fence", WHOLE): {"seconds": 1}, ("fence", "192.0.2.8:0/5"): None, ("image", "rbd/a"): None}
    watchers = [{"address": SEVEN}, {"address": "192.0.2.8:0/5"}]
    assert fence.living(watchers, known) == watchers[1:]
    assert fence.living(watchers, {}) == watchers


def test_a_dry_run_counts_the_lock_that_it_would_have_taken():
    locks = [{"cookie": "backup"}, {"cookie": owner.LOCK}]
    known = {("lock", "rbd/db"): None}
    assert fence.left(specs.parse("rbd/db"), locks, known) == locks[:1]
    assert fence.left(specs.parse("rbd/other"), locks, known) == fence.left(specs.parse("rbd/db"), locks, {}) == locks


@pytest.mark.parametrize("value", [0, -1, True, "60", None, 10**12])
def test_seconds(value):
    with pytest.raises(errors.InvalidArgument):
        fence.seconds_of(value)
