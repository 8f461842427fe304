"""Namespaces as desired state: on the real cluster, dry and for real."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def place(pool):
    """A namespace that does not exist yet."""
    return f"{pool}/n{os.urandom(4).hex()}"


def listed(rbd_cli, place):
    return place.split("/")[1] in [item["name"] for item in rbd_cli.json("namespace", "ls", place.split("/")[0])]


def changed(place, old, new):
    return {place: {"namespace": {"old": old, "new": new}}}


def test_present_and_absent(place, converges, unchanged, rbd_cli):
    unchanged("rbd_namespace.absent", place)
    assert converges("rbd_namespace.present", place).changes == changed(place, None, "present")
    assert listed(rbd_cli, place)
    unchanged("rbd_namespace.present", place.split("/")[1])
    rbd_cli("create", f"{place}/i", "--size", "8M")
    unchanged("rbd_namespace.present", place)
    rbd_cli("rm", "--no-progress", f"{place}/i")
    assert converges("rbd_namespace.absent", place).changes == changed(place, "present", None)
    assert not listed(rbd_cli, place)


def test_absent_is_refused_while_anything_is_in_it(place, converges, refuses, modules, rbd_cli):
    """librbd of 16.2 removes a namespace with a group in it."""
    pool, name = place.split("/")
    rbd_cli("namespace", "create", place)
    for image in ("a", "b", "old"):
        rbd_cli("create", f"{place}/{image}", "--size", "8M")
    identity = rbd_cli.json("info", f"{place}/old")["id"]
    rbd_cli("trash", "mv", f"{place}/old")
    rbd_cli("group", "create", f"{place}/g")
    words = [f"the image {place}/a", f"the image {place}/b", f"{place}/old (id {identity}) in the trash", "the group g of images"]
    told = refuses("rbd_namespace.absent", place)
    assert told == f"The namespace {place} is not removed. In it are: " + "; ".join(words) + "."
    with pytest.raises(Exception, match="In it are"):
        modules.rbd_namespace.remove(place)
    for image in ("a", "b"):
        rbd_cli("rm", "--no-progress", f"{place}/{image}")
    assert words[0] not in refuses("rbd_namespace.absent", place)
    rbd_cli("trash", "rm", "--no-progress", "--pool", pool, "--namespace", name, identity)
    assert refuses("rbd_namespace.absent", place).endswith("In it are: the group g of images.")
    assert modules.rbd_namespace.info(place) == {"images": [], "trash": [], "groups": ["g"]}
    rbd_cli("group", "rm", f"{place}/g")
    converges("rbd_namespace.absent", place)
    assert modules.rbd_namespace.info(place) is None


ALL_AT_ONCE = """
tenant:
  rbd_namespace.present:
    - name: {place}
its volume:
  rbd_image.present:
    - name: {place}/a
    - size: 8M
its snapshot:
  rbd_snapshot.present:
    - name: {place}/a@s
its clone:
  rbd_clone.present:
    - name: {place}/c
    - parent: {place}/a@s
    - clone_format: 2
"""

ALL_AWAY = """
its clone:
  rbd_image.absent:
    - name: {place}/c
the clone for good:
  rbd_image.purged:
    - name: {place}
    - images: [c]
its volume:
  rbd_image.absent:
    - name: {place}/a
all for good:
  rbd_image.purged:
    - name: {place}
tenant:
  rbd_namespace.absent:
    - name: {place}
"""


def test_states_that_follow_each_other_are_predicted(place, state_run, rbd_cli):
    for text in (ALL_AT_ONCE, ALL_AWAY):
        text = text.format(place=place)
        if text.startswith("\nits clone"):
            rbd_cli("snap", "rm", "--no-progress", f"{place}/a@s")
            stays = state_run(text.replace("its clone:\n  rbd_image.absent:\n    - name: " + place + "/c\n", ""), test=True)
            assert [ran.result for ran in stays] == [True, False, True, False]
        dry, real = state_run(text, test=True), state_run(text)
        assert [ran.comment for ran in real if ran.result is not True] == []
        assert [ran.result for ran in dry] == [None] * len(real)
        assert [ran.changes for ran in dry] == [ran.changes for ran in real]
    assert not listed(rbd_cli, place)


def test_the_pillar(repo, place, make_loaders, rbd_cli):
    pool, namespace = place.split("/")
    loaders = make_loaders({"rbd": {"namespaces": [place], "volumes": {"a": {"size": "8M", "pool": pool, "namespace": namespace}}}})
    (Path(loaders.opts["file_roots"]["base"][0]) / "rbd").symlink_to(repo / "salt/rbd")
    runs = [list(loaders.modules.state.apply("rbd", test=test)) for test in (True, False, False, True)]
    assert [ran.comment for run in runs for ran in run if ran.result is False] == []
    assert [[ran.id for ran in run] for run in runs] == [[f"rbd namespace {place}", f"rbd image {place}/a"]] * 4
    assert [[bool(ran.changes) for ran in run] for run in runs] == [[True, True], [True, True], [False, False], [False, False]]
    assert rbd_cli.json("ls", place) == ["a"]


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize(
    ("name", "words"), [("no-such-pool/n", "the pool no-such-pool does not exist"), ("a/b/c", "holds '/'"), ("a/b@c", "holds '/'")]
)
def test_bad_names(refuses, state, name, words):
    assert words in refuses(f"rbd_namespace.{state}", name)
