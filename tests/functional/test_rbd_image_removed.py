"""An image that goes is the one that was looked at, whatever takes its name meanwhile; and what a removal that fails midway leaves."""

import subprocess

import pytest
from image_checks import changed, trashed
from saltrbd import errors
from saltrbd import spec as specs
from saltrbd.client import Client
from worker_watch import until

from labkit import commands

OPERATIONS = {True: "trash_move", False: "image_remove"}


def identity_of(rbd_cli, name):
    return rbd_cli.json("info", name)["id"]


@pytest.fixture
def swapped_before(monkeypatch, rbd_cli):
    """Another image takes the name just before these operations: ``swapped_before(spec, "trash_move")``."""

    def arrange(name, operation):
        call = Client.call

        def swap(self, op, *args, **more):
            if op == operation:
                rbd_cli("rename", name, f"{name}-old")
                rbd_cli("create", name, "--size", "16M")
            return call(self, op, *args, **more)

        monkeypatch.setattr(Client, "call", swap)

    return arrange


@pytest.mark.parametrize("trash", [True, False])
def test_one_that_took_the_name_since_stays(trash, spec, states, rbd_cli, swapped_before):
    rbd_cli("create", spec, "--size", "8M")
    looked_at = identity_of(rbd_cli, spec)
    swapped_before(spec, OPERATIONS[trash])
    ran = states.rbd_image.absent(spec, trash=trash)
    assert (ran.result, ran.changes) == (False, {}), ran.comment
    assert f"another one by now (id {identity_of(rbd_cli, spec)}, and {looked_at} was checked)" in ran.comment
    assert (identity_of(rbd_cli, f"{spec}-old"), trashed(rbd_cli, spec)) == (looked_at, [])


@pytest.mark.parametrize("function", ["remove", "trash"])
def test_the_id_that_is_meant(function, spec, modules, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity = identity_of(rbd_cli, spec)
    with pytest.raises(errors.ImageReplaced, match=f"{spec} is not removed: .* another one by now .id {identity}, and 1f00 was meant"):
        modules[f"rbd_image.{function}"](spec, image_id="1f00")
    assert identity_of(rbd_cli, spec) == identity
    assert modules[f"rbd_image.{function}"](spec, image_id=identity) is True
    with pytest.raises(errors.ImageNotFound):
        modules[f"rbd_image.{function}"](spec, image_id=identity)


# Carries out a removal as the worker does. A fake stands in librbd's place for one call, for what happens in a moment that no
# client can meet: another image takes the name between the comparison and the move, or the data cannot be removed.
WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import rbd, trash
from session import Session, describe
conf, keyring, pool, image, image_id, fault = sys.argv[2:]
session = Session({"conf": conf, "keyring": keyring, "mon_host": "", "user": "admin", "timeout": 30}, lambda **told: None)

class Faulty(rbd.RBD):
    moved = False

    def trash_move(self, context, name, delay=0):
        if fault == "swap":
            self.rename(context, name, name + "-old")
            self.create(context, name, 1 << 20, old_format=False)
        if fault == "trashed":
            super().trash_move(context, name)
            self.create(context, name, 1 << 20, old_format=False)
        return super().trash_move(context, name, delay)

    def trash_list(self, context):
        if fault == "trashed before" and not self.moved:
            Faulty.moved = True
            super().trash_move(context, image)
            self.create(context, image, 1 << 20, old_format=False)
        return super().trash_list(context)

    def trash_remove(self, context, *args):
        if fault == "purged":
            super().trash_remove(context, image_id, True)
        if fault == "full":
            raise rbd.NoSpace("no space", errno=28)
        return super().trash_remove(context, *args)

    def trash_restore(self, context, *args):
        if fault == "taken":
            self.create(context, image, 1 << 20, old_format=False)
        return super().trash_restore(context, *args)

class Library:
    RBD, Error, ImageNotFound = Faulty, rbd.Error, rbd.ImageNotFound

trash.rbd = Library
try:
    trash.image_remove(session, lambda done: None, pool, "", image, image_id)
except Exception as error:
    print(*describe(error)[:2])
"""


@pytest.fixture
def worker_removes(spec, cluster, repo, rbd_cli):
    """Remove the image with a fault; return (its id, what the worker says)."""

    def run(fault):
        pool, _, name = spec.partition("/")
        identity = identity_of(rbd_cli, spec)
        words = [str(repo / "_utils/saltrbd/worker"), cluster.conf, cluster.keyring, pool, name, identity, fault]
        argv = ["/usr/bin/python3", "-c", WORKER, *words]
        return identity, subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    return run


def test_one_that_takes_the_name_in_the_last_moment_comes_back(spec, worker_removes, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity, said = worker_removes("swap")
    other = identity_of(rbd_cli, spec)
    assert said == f"ImageReplaced the image of that name is another one by now (id {other}, and {identity} was checked)"
    assert rbd_cli.json("info", spec)["size"] == 1 << 20
    assert (identity_of(rbd_cli, f"{spec}-old"), trashed(rbd_cli, spec)) == (identity, [])


@pytest.mark.parametrize("fault", ["trashed", "trashed before"])
def test_another_who_moves_it_to_the_trash_meanwhile(fault, spec, worker_removes, rbd_cli):
    """And makes a new one of that name, which stays or is told."""
    rbd_cli("create", spec, "--size", "8M")
    identity, said = worker_removes(fault)
    if fault == "trashed before":
        assert said == f"ImageReplaced somebody else has just moved the image (id {identity}) to the trash"
        assert rbd_cli.json("info", spec)["size"] == 1 << 20 and trashed(rbd_cli, spec) == [identity]
        return
    assert said.startswith("ImageReplaced others (ids ") and identity in said
    there = trashed(rbd_cli, spec)
    assert len(there) == 2 and all(one in said for one in there)  # both are whole


def test_one_that_somebody_purges_is_gone(spec, worker_removes, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    assert worker_removes("purged")[1] == ""
    assert trashed(rbd_cli, spec) == []


def test_data_that_cannot_be_removed(spec, worker_removes, states, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity, said = worker_removes("full")
    assert said.startswith("NoSpace ")
    assert f"the image lies in the trash (id {identity}), and a part of its data may be gone; 'rbd trash rm' by that id" in said
    assert trashed(rbd_cli, spec) == [identity]
    ran = states.rbd_image.absent(spec, trash=False)  # the next run does not pass it over in silence
    pool = spec.partition("/")[0]
    assert ran.result is True
    assert f"In the trash lies still an image of that name (id {identity}); 'rbd trash rm {pool}/ID' ends a removal" in ran.comment


def test_one_that_is_in_use_by_then_stays(spec, ceph, held, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    held(spec)
    identity = identity_of(rbd_cli, spec)
    with pytest.raises(errors.Busy, match=f"Removing the image {spec} failed"):
        ceph.call("image_remove", specs.parse(spec), image_id=identity)
    assert (identity_of(rbd_cli, spec), trashed(rbd_cli, spec)) == (identity, [])


def test_one_that_is_in_use_and_cannot_come_back(spec, worker_removes, held, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    held(spec)
    identity, said = worker_removes("taken")
    assert said.startswith("Busy ") and f"the image lies in the trash (id {identity}), since it could not be brought back (" in said
    assert trashed(rbd_cli, spec) == [identity]


@pytest.mark.parametrize("features", ["layering", "layering,exclusive-lock,journaling", "layering,exclusive-lock,object-map,fast-diff"])
def test_removed_whatever_its_features(features, spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", features)
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "16K", spec)
    assert converges("rbd_image.absent", spec, trash=False).changes == changed(spec, image=("present", None))
    assert trashed(rbd_cli, spec) == []


@pytest.fixture
def at_work(cluster):
    """The rbd command at work on something large, until it is killed: ``at_work("flatten", spec)`` returns the process."""
    running = []

    def start(*words):
        where = ["--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring]
        running.append(subprocess.Popen(["rbd", *where, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait(timeout=30)


def test_while_it_is_flattened(spec, at_work, refuses, rbd_cli):
    """A flatten under way is a user of the clone, and the clone stands in its parent's way: nothing is taken for gone."""
    rbd_cli("create", spec, "--size", "512G", "--image-feature", "layering")
    rbd_cli("snap", "create", "--no-progress", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}c", "--image-feature", "layering")
    process = at_work("flatten", "--no-progress", f"{spec}c")
    until(lambda: rbd_cli.json("status", f"{spec}c")["watchers"], 20, "the flatten has begun")
    for trash in (True, False):
        assert f"{spec}c is not removed. In the way are: the user " in refuses("rbd_image.absent", f"{spec}c", trash=trash)
        assert f"the clone {spec}c" in refuses("rbd_image.absent", spec, trash=trash)
    assert process.poll() is None, "it is fast here: take a larger image"
    assert rbd_cli.json("info", f"{spec}c")["parent"]["image"] == spec.partition("/")[2]


def test_while_it_is_purged(spec, cluster, at_work, refuses, unchanged, rbd_cli):
    """A removal from the trash under way: the name is free, and the trash is not taken for empty."""
    pool, _, name = spec.partition("/")
    rbd_cli("create", spec, "--size", "512G", "--image-feature", "layering")
    identity = identity_of(rbd_cli, spec)
    rbd_cli("trash", "mv", spec)
    process = at_work("trash", "rm", "--no-progress", f"{pool}/{identity}")
    where = ["--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "--pool", pool]
    watchers = ["rados", *where, "listwatchers", f"rbd_header.{identity}"]
    until(lambda: "watcher=" in commands.run(watchers, timeout=20)[1], 20, "the removal has begun")
    unchanged("rbd_image.absent", spec)
    told = refuses("rbd_image.purged", pool, images=[name])
    assert f"(id {identity})" in told and "the user " in told
    assert process.poll() is None, "it is fast here: take a larger image"
    process.kill()
    process.wait(timeout=30)
    assert trashed(rbd_cli, spec) == [identity]
