"""Errors of states: one sentence, dry and for real."""

import json

import pytest

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
        assert f"Give client.reader the capabilities mon 'profile rbd' and osd 'profile rbd pool={pool}'" in ran.comment, ran.comment
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
