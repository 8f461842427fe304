"""Whole runs: what a dry run of many states predicts is what the real run does; and errors are one sentence."""

import json

import pytest


def sls(*states):
    """Return the text of an SLS: each state is (id, function, arguments); each requires the one before it."""
    text, before = {}, None
    for identity, function, arguments in states:
        body = [{key: value} for key, value in arguments.items()]
        if before:
            body.append({"require": [before]})
        text[identity] = {function: body}
        before = {function.split(".")[0]: identity}
    return json.dumps(text)


@pytest.fixture
def predicts(state_run):
    """Run an SLS dry and for real, and both again; returns the results of the real run."""

    def run(text, results=None):
        dry, real = state_run(text, test=True), state_run(text)
        assert [ran.id for ran in dry] == [ran.id for ran in real]
        for first, second in zip(dry, real):
            assert first.changes == second.changes, (first.comment, second.comment)
            expected = (None if second.changes else True) if second.result else False
            assert first.result is expected, (first.comment, second.comment)
            assert "Traceback" not in first.comment + second.comment
            # A state whose requisite failed has no comment of ours.
            if first.result is False and "requisite" not in first.comment:
                assert first.comment == second.comment
        assert [ran.result for ran in real] == (results or [True] * len(real)), [ran.comment for ran in real]
        if not results:
            for test in (False, True):
                for ran in state_run(text, test=test):
                    assert (ran.result, ran.changes) == (True, {}), ran.comment
        return real

    return run


def chain(spec):
    return [
        ("image", "rbd_image.present", {"name": spec, "size": "8M", "metadata": {"owner": "me"}}),
        ("snapshot", "rbd_snapshot.protected", {"name": f"{spec}@s"}),
        ("clone", "rbd_clone.present", {"name": f"{spec}-c", "parent": f"{spec}@s", "size": "16M"}),
        ("its snapshot", "rbd_snapshot.present", {"name": "t", "images": [f"{spec}-c"]}),
        ("it is protected", "rbd_snapshot.protected", {"name": f"{spec}-c@t"}),
        ("its clone", "rbd_clone.present", {"name": f"{spec}-d", "parent": f"{spec}-c@t", "clone_format": 2}),
    ]


def test_a_chain_from_nothing(spec, predicts, rbd_cli):
    real = predicts(sls(*chain(spec)))
    assert all(ran.changes for ran in real)
    assert rbd_cli.json("info", f"{spec}-d")["parent"]["image"] == f"{spec}-c".split("/")[1]
    assert rbd_cli.json("info", f"{spec}-d")["size"] == 16 << 20


def test_a_dry_run_of_a_chain_makes_nothing(spec, state_run, rbd_cli):
    assert {ran.result for ran in state_run(sls(*chain(spec)), test=True)} == {None}
    assert not [name for name in rbd_cli.json("ls", spec.split("/")[0]) if name.startswith(spec.split("/")[1])]


def dismantle(spec):
    return [
        ("the last clone goes", "rbd_image.absent", {"name": f"{spec}-d", "trash": False}),
        ("its parent is no parent", "rbd_snapshot.unprotected", {"name": f"{spec}-c@t"}),
        ("its snapshot goes", "rbd_snapshot.absent", {"name": f"{spec}-c@t"}),
        ("the clone goes", "rbd_image.absent", {"name": f"{spec}-c", "trash": False}),
        ("the first is no parent", "rbd_snapshot.unprotected", {"name": f"{spec}@s"}),
        ("the first snapshot goes", "rbd_snapshot.absent", {"name": f"{spec}@s"}),
        ("the image goes", "rbd_image.absent", {"name": spec, "trash": False}),
    ]


def test_a_chain_taken_down(spec, state_run, predicts, rbd_cli):
    assert {ran.result for ran in state_run(sls(*chain(spec)))} == {True}
    assert all(ran.changes for ran in predicts(sls(*dismantle(spec))))
    assert not [name for name in rbd_cli.json("ls", spec.split("/")[0]) if name.startswith(spec.split("/")[1])]


def test_a_chain_that_is_made_and_taken_down_in_one_run(spec, state_run):
    """A dry run sees both halves; nothing of it is on the cluster."""
    states = chain(spec) + dismantle(spec)
    dry = state_run(sls(*states), test=True)
    assert [ran.result for ran in dry] == [None] * len(states), [ran.comment for ran in dry]
    real = state_run(sls(*states))
    assert [ran.changes for ran in real] == [ran.changes for ran in dry]
    assert {ran.result for ran in real} == {True}


@pytest.mark.parametrize(
    ("states", "results", "words"),
    [
        # A clone in the trash is still a clone.
        (
            [
                ("trash the clone", "rbd_image.absent", {"name": "{spec}-c"}),
                ("trash the image", "rbd_image.absent", {"name": "{spec}"}),
            ],
            [True, False],
            "the clone {spec}-c (in the trash, id ",
        ),
        # So is one under a snapshot that goes to Ceph's trash for snapshots.
        (
            [
                ("unprotect", "rbd_snapshot.unprotected", {"name": "{spec}@s"}),
                ("drop the snapshot", "rbd_snapshot.absent", {"name": "{spec}@s", "with_clones": True}),
                ("drop the image", "rbd_image.absent", {"name": "{spec}", "trash": False}),
            ],
            [True, True, False],
            "the clone {spec}-c",
        ),
        # That one goes with its last clone.
        (
            [
                ("unprotect", "rbd_snapshot.unprotected", {"name": "{spec}@s"}),
                ("drop the snapshot", "rbd_snapshot.absent", {"name": "{spec}@s", "with_clones": True}),
                ("drop the clone", "rbd_image.absent", {"name": "{spec}-c", "trash": False}),
                ("drop the image", "rbd_image.absent", {"name": "{spec}", "trash": False}),
            ],
            [True, True, True, True],
            None,
        ),
        # An image that moves to the trash is not made again in silence.
        (
            [
                ("trash the clone", "rbd_image.absent", {"name": "{spec}-c"}),
                ("make one of its name", "rbd_image.present", {"name": "{spec}-c", "size": "8M"}),
            ],
            [True, False],
            "an image of that name lies in the trash",
        ),
        # It can be brought back, and is the same clone again.
        (
            [
                ("trash the clone", "rbd_image.absent", {"name": "{spec}-c"}),
                ("bring it back", "rbd_image.present", {"name": "{spec}-c", "restore_from_trash": True, "size": "16M"}),
                ("drop the snapshot", "rbd_snapshot.absent", {"name": "{spec}@s"}),
            ],
            [True, True, False],
            "these clones hang on it: {spec}-c",
        ),
        # What an earlier state changes does not hide what hangs on an image, or who made it.
        (
            [
                ("grow the image", "rbd_image.present", {"name": "{spec}", "size": "32M", "metadata": {"a": "b"}}),
                ("unprotect", "rbd_snapshot.unprotected", {"name": "{spec}@s"}),
                ("another one", "rbd_snapshot.present", {"name": "{spec}@u"}),
                ("grow it again", "rbd_image.present", {"name": "{spec}", "size": "64M", "metadata": {"a": None}}),
                ("drop the image", "rbd_image.absent", {"name": "{spec}"}),
            ],
            [True, True, True, True, False],
            "the clone {spec}-c",
        ),
        # A new snapshot is as large as the image will be by then, and so is its clone.
        (
            [
                ("grow the image", "rbd_image.present", {"name": "{spec}", "size": "32M"}),
                ("snapshot", "rbd_snapshot.protected", {"name": "{spec}@u"}),
                ("too small a clone", "rbd_clone.present", {"name": "{spec}-small", "parent": "{spec}@u", "size": "16M"}),
            ],
            [True, True, False],
            "its parent {spec}@u has 32M, and a clone cannot begin with less than that; 16M is declared",
        ),
        # Format 1 and an unprotected parent, over facts that only this dry run knows.
        (
            [
                ("snapshot", "rbd_snapshot.present", {"name": "{spec}@u"}),
                ("clone", "rbd_clone.present", {"name": "{spec}-1", "parent": "{spec}@u"}),
            ],
            [True, False],
            "a clone of format 1 needs a protected parent",
        ),
        (
            [
                ("clone", "rbd_clone.present", {"name": "{spec}-1", "parent": "{spec}@s", "clone_format": 1}),
                ("unprotect", "rbd_snapshot.unprotected", {"name": "{spec}@s"}),
            ],
            [True, False],
            "these clones of format 1 hang on it: {spec}-1.",
        ),
        # A parent that goes, or that nobody makes.
        (
            [
                ("drop the clone", "rbd_image.absent", {"name": "{spec}-c", "trash": False}),
                ("unprotect", "rbd_snapshot.unprotected", {"name": "{spec}@s"}),
                ("drop the snapshot", "rbd_snapshot.absent", {"name": "{spec}@s"}),
                ("clone", "rbd_clone.present", {"name": "{spec}-1", "parent": "{spec}@s", "clone_format": 2}),
            ],
            [True, True, True, False],
            "the parent {spec}@s does not exist, and no earlier state makes it",
        ),
        (
            [
                ("image", "rbd_image.present", {"name": "{spec}-new", "size": "8M", "features": ["layering"]}),
                ("mend", "rbd_image.present", {"name": "{spec}-new", "features": ["layering", "exclusive-lock"], "size": "16M"}),
                ("too late", "rbd_image.present", {"name": "{spec}-new", "object_size": "1M"}),
            ],
            [True, True, False],
            "object_size is 4M and cannot be changed to 1M",
        ),
        (
            [
                ("image", "rbd_image.present", {"name": "{spec}-new", "size": "8M", "features": ["exclusive-lock"]}),
                ("no parent", "rbd_snapshot.protected", {"name": "{spec}-new@s"}),
            ],
            [True, False],
            "its image lacks the feature layering",
        ),
    ],
)
def test_what_earlier_states_make_counts(spec, predicts, rbd_cli, states, results, words):
    rbd_cli("create", spec, "--size", "16M")
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("snap", "protect", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}-c")
    filled = json.loads(json.dumps(states).replace("{spec}", spec))
    real = predicts(sls(*filled), results)
    if words:
        assert words.replace("{spec}", spec) in real[-1].comment


def test_nothing_of_a_dry_run_is_known_to_the_next(spec, state_run):
    image = sls(("image", "rbd_image.present", {"name": spec, "size": "8M"}))
    snapshot = sls(("snapshot", "rbd_snapshot.present", {"name": f"{spec}@s"}))
    assert state_run(image, test=True)[0].result is None
    assert state_run(snapshot, test=True)[0].result is False


def test_a_real_run_knows_nothing_of_a_dry_run(spec, state_run):
    states = [("image", "rbd_image.present", {"name": spec, "size": "8M"}), ("snapshot", "rbd_snapshot.present", {"name": f"{spec}@s"})]
    assert {ran.result for ran in state_run(sls(*states), test=True)} == {None}
    assert state_run(sls(states[1]))[0].result is False


# parallel: True


def parallel_sls(spec, count):
    text = {}
    for number in range(count):
        name = f"{spec}-{number}"
        text[f"image {number}"] = {"rbd_image.present": [{"name": name}, {"size": "8M"}, {"parallel": True}]}
        text[f"snapshot {number}"] = {
            "rbd_snapshot.protected": [{"name": f"{name}@s"}, {"parallel": True}, {"require": [{"rbd_image": f"image {number}"}]}]
        }
    text["clone"] = {"rbd_clone.present": [{"name": f"{spec}-c"}, {"parent": f"{spec}-0@s"}, {"require": [{"rbd_snapshot": "snapshot 0"}]}]}
    return json.dumps(text)


def test_parallel_states(spec, state_run, rbd_cli):
    """Each runs in a forked child: with a worker of its own, and with facts that its parent process does not see."""
    text = parallel_sls(spec, 10)
    dry, real = state_run(text, test=True), state_run(text)
    assert {ran.result for ran in dry} == {None}, [ran.comment for ran in dry if ran.result is not None]
    assert {ran.result for ran in real} == {True}, [ran.comment for ran in real if not ran.result]
    assert {ran.id: ran.changes for ran in dry} == {ran.id: ran.changes for ran in real}
    assert len(dry) == 21
    for test in (True, False):
        assert {(ran.result, str(ran.changes)) for ran in state_run(text, test=test)} == {(True, "{}")}
    assert rbd_cli.json("snap", "ls", f"{spec}-9")[0]["protected"] == "true"


# What a dry run believes of an image that is not there yet is what it will be.


@pytest.mark.parametrize(
    ("declared", "cloned"),
    [
        ({}, {}),
        ({"features": ["layering"], "metadata": {"a": "x", "b": "y"}, "config": {"rbd_cache": False}}, {"metadata": {"a": None, "c": "z"}}),
        ({"object_size": "1M", "stripe_unit": "64K", "stripe_count": 2}, {}),
        ({"object_size": "1M"}, {"object_size": "64K"}),
        ({}, {"size": "16M", "features": ["layering", "exclusive-lock"], "stripe_unit": "1M", "stripe_count": 2}),
        ({"features": ["layering", "exclusive-lock", "journaling"]}, {"clone_format": 2}),
    ],
)
def test_planned_facts_are_the_later_ones(spec, state_run, modules, declared, cloned):
    # In parallel, a dry run's facts are part of the results.
    states = [
        ("image", "rbd_image.present", {"name": spec, "size": "8M", "parallel": True, **declared}),
        ("snapshot", "rbd_snapshot.protected", {"name": f"{spec}@s", "parallel": True}),
        ("clone", "rbd_clone.present", {"name": f"{spec}-c", "parent": f"{spec}@s", "parallel": True, **cloned}),
    ]
    planned = {tuple(key): facts for ran in state_run(sls(*states), test=True) for key, facts in ran["planned"]}
    assert {ran.result for ran in state_run(sls(*states))} == {True}
    for name in (spec, f"{spec}-c"):
        believed, real = planned["image", name], modules.rbd_image.info(name, users=True)
        internal = {"striping", "data-pool", "operations"}
        believed["features"], real["features"] = (sorted(set(facts["features"]) - internal) for facts in (believed, real))
        for facts in (believed, real):
            if facts["parent"]:
                facts["parent"] = dict(facts["parent"], id=None)
        unknown = ("id", "snapshots")
        assert believed == {key: value for key, value in real.items() if key in believed and key not in unknown} | {
            key: believed[key] for key in unknown
        }


# Errors: one sentence, dry and for real.

EVERY_STATE = [
    ("rbd_image.present", {"name": "{pool}/x", "size": "8M"}),
    ("rbd_image.absent", {"name": "{pool}/x"}),
    ("rbd_snapshot.present", {"name": "{pool}/x@s"}),
    ("rbd_snapshot.protected", {"name": "s", "images": ["{pool}/x"]}),
    ("rbd_snapshot.unprotected", {"name": "{pool}/x@s"}),
    ("rbd_snapshot.absent", {"name": "{pool}/x@s"}),
    ("rbd_clone.present", {"name": "{pool}/c", "parent": "{pool}/x@s"}),
]


@pytest.fixture
def fails(make_loaders, pool):
    """Run one state of each module (or every one) with another pillar, dry and for real: each fails, says the words, and
    changes nothing."""

    def run(pillar, *words, states=EVERY_STATE[::3]):
        loaders = make_loaders(pillar=pillar)
        for function, arguments in states:
            filled = json.loads(json.dumps(arguments).replace("{pool}", pool))
            module, _, name = function.partition(".")
            for test in (True, False):
                ran = getattr(getattr(loaders.states, module), name)(test=test, **filled)
                assert (ran.result, ran.changes) == (False, {}), (function, ran.comment)
                assert all(word in ran.comment for word in words), (function, ran.comment)
                assert "Traceback" not in ran.comment
                assert "\n" not in ran.comment

    return run


@pytest.fixture
def ceph(cluster, pool):
    """The pillar's ceph: section for this cluster, with some keys replaced."""

    def section(**more):
        keys = ("fsid", "monitors", "conf", "user", "keyring")
        return {"ceph": {**{key: getattr(cluster, key) for key in keys}, "pool": pool, **more}}

    return section


def test_the_wrong_cluster(ceph, fails, pool, rbd_cli, cluster):
    fsid = "00000000-1111-2222-3333-444444444444"
    fails(ceph(fsid=fsid), f"has the fsid {cluster.fsid}, but ceph:fsid is {fsid}; nothing was done", states=EVERY_STATE)
    assert "x" not in rbd_cli.json("ls", pool)


def test_no_keyring(ceph, fails):
    fails(ceph(keyring="/nowhere/keyring"), "client.admin")


def test_no_such_user(ceph, fails):
    # Through the conf file, which names the messengers' protocols; with a bare address librados tries both, and waits.
    fails(ceph(user="nobody", monitors=[]), "client.nobody")


def test_a_key_that_is_no_longer_good(ceph, fails, tmp_path):
    keyring = tmp_path / "keyring"
    keyring.write_text("[client.admin]\n\tkey = AQBSdFhczh1cLBAAq3ciw3x8wWTkPFMYlsmAnQ==\n")
    fails(ceph(keyring=str(keyring), monitors=[]), "client.admin")


def test_no_monitor_there(ceph, fails):
    # Nothing listens on the discard port; the connection has a time limit.
    pillar = ceph(monitors=["127.0.0.1:9"], conf="")
    pillar["rbd"] = {"timeout": 0.5}
    fails(pillar, "127.0.0.1:9")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"ceph": ["x"]}, "'ceph:' must be a mapping"),
        ({"ceph": {"pool": 5}}, "ceph:pool must be one line of text, not 5"),
        ({"rbd": {"timeout": "long"}}, "rbd:timeout must be seconds"),
        ({"rbd": {"threads": 0, "timeout": -1}}, "rbd:threads must be"),
        ({"rbd": {"python": "/nowhere/python3"}}, "No Python on this host can import rados and rbd"),
    ],
)
def test_a_pillar_that_makes_no_sense(ceph, fails, section, words):
    fails({**ceph(), **section}, words)


def test_no_such_pool(refuses, pool):
    for function, arguments in EVERY_STATE:
        filled = json.loads(json.dumps(arguments).replace("{pool}", "no-such-pool"))
        assert "the pool no-such-pool does not exist" in refuses(function, **filled)
    told = refuses("rbd_clone.present", name=f"{pool}/c", parent="no-such-pool/a@s")
    assert "the pool no-such-pool does not exist" in told


@pytest.fixture(scope="module")
def make_user(ceph_cli, tmp_path_factory):
    """Make a Ceph user with these capabilities and return the path of its keyring; removed at the end."""
    made = []

    def make(name, *capabilities):
        answer = ceph_cli("auth", "get-or-create", f"client.{name}", *capabilities)
        made.append(name)
        path = tmp_path_factory.mktemp("keyring") / f"{name}.keyring"
        path.write_text(f"[client.{name}]\n\tkey = {answer[0]['key']}\n")
        return str(path)

    yield make
    for name in made:
        ceph_cli("auth", "rm", f"client.{name}")


def test_a_user_who_may_only_read(ceph, pool, make_user, make_loaders, modules, rbd_cli):
    """It sees everything that is as declared; a dry run cannot know that it may not write, and the real run says it."""
    keyring = make_user("reader", "mon", "profile rbd-read-only", "osd", f"profile rbd-read-only pool={pool}")
    rbd_cli("create", f"{pool}/readable", "--size", "8M")
    rbd_cli("snap", "create", f"{pool}/readable@s")
    loaders = make_loaders(pillar=ceph(user="reader", keyring=keyring))
    assert loaders.states.rbd_image.present("readable", size="8M").result is True
    assert loaders.states.rbd_snapshot.present("readable@s").result is True
    assert loaders.states.rbd_clone.present("c", parent="readable@s", clone_format=2, test=True).result is None
    for function, arguments in (
        ("rbd_image.present", {"name": "new", "size": "8M"}),
        ("rbd_image.present", {"name": "readable", "size": "16M"}),
        ("rbd_image.present", {"name": "readable", "metadata": {"a": "b"}}),
        ("rbd_snapshot.present", {"name": "readable@t"}),
        ("rbd_snapshot.protected", {"name": "readable@s"}),
        ("rbd_clone.present", {"name": "c", "parent": "readable@s", "clone_format": 2}),
    ):
        module, _, name = function.partition(".")
        state = getattr(getattr(loaders.states, module), name)
        assert state(test=True, **arguments).result is None, function
        ran = state(**arguments)
        assert (ran.result, ran.changes) == (False, {}), (function, ran.comment)
        assert f"{pool}/" in ran.comment
        assert "Give client.reader the capabilities mon 'profile rbd' and osd 'profile rbd pool=POOL'" in ran.comment, ran.comment
    for state, name in ((loaders.states.rbd_image.absent, "readable"), (loaders.states.rbd_snapshot.absent, "readable@s")):
        # Without these capabilities it cannot see what hangs on the image, so the dry run refuses as well.
        for test in (True, False):
            ran = state(name, test=test)
            assert (ran.result, ran.changes) == (False, {})
            assert "Give client.reader the capabilities" in ran.comment
    facts = modules.rbd_image.info("readable")
    assert (facts["size"], facts["metadata"], [item["name"] for item in facts["snapshots"]]) == (8 << 20, {}, ["s"])
    assert sorted(rbd_cli.json("ls", pool)).count("readable") == 1


def test_a_user_of_another_pool(ceph, pool, make_user, fails):
    keyring = make_user("stranger", "mon", "profile rbd", "osd", "profile rbd pool=somewhere-else")
    fails(ceph(user="stranger", keyring=keyring), pool, "Give client.stranger the capabilities")
