"""Whole runs: what a dry run of many states predicts is what the real run does."""

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
