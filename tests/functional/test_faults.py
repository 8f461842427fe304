"""A cluster that fails in part or as a whole: everything ends within its limit, says what is wrong, and works again afterwards.

The cluster is one of its own, because its daemons are stopped here. Stopped (SIGSTOP), not killed: connections stay, and nobody
answers, which is the worse case.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import SLACK, children, lasts, left_behind, lock_held_by_stopped_client, stopped, stopped_when, words_of_children
from saltrbd import errors, spec
from saltrbd.client import Client
from worker_watch import chosen, failed, gone, until, workers

from labkit import cluster as lab_cluster
from labkit import processes


@pytest.fixture
def sick(whole):
    """The cluster, healthy before and after each test."""
    yield whole
    assert lab_cluster.revive(whole.folder)


@pytest.fixture
def make_client(sick):
    """Clients of that cluster with settings of their own; limits are short unless a test gives others."""
    made = []

    def make(**options):
        made.append(Client(chosen(sick, **{"timeout": 3, "progress_timeout": 3, **options})))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def images(make_client):
    """Forty images in the pool rbd."""
    found = [spec.parse(f"rbd/{uuid.uuid4().hex[:8]}-{number}") for number in range(40)]
    requests = [("image_create", dict(one.where(), size=8 << 20)) for one in found]
    assert [outcome.error for outcome in make_client(timeout=60).batch(requests)] == [None] * 40
    return found


def snapshots(images, name):
    return [("snapshot_create", dict(one.at(name).where(), protect=True)) for one in images]


# One image among many


def test_one_image_hangs(make_client, images, sick):
    """The others are answered; the error names operation, monitors, what a new worker finds, and who is in the way."""
    ceph = make_client()
    with lock_held_by_stopped_client(sick, images[7]) as (holder, address):
        with lasts(3, 3 + 3):
            outcomes = ceph.batch(snapshots(images, "s"))
        assert [number for number, outcome in enumerate(outcomes) if outcome.error] == [7]
        error = outcomes[7].error
        assert type(error) is errors.CephTimeout
        said = str(error)
        assert said.startswith(f"Creating the snapshot {images[7]}@s had no answer within 3 s from the cluster at [v2:")
        assert sick.monitors[0] in said
        assert said.endswith(
            "Its outcome is unknown: a new worker finds the image without that snapshot; it is in use by "
            f"{address} (one that has died holds up writes for 30 s)."
        )
        # Questions are answered all the same, and who asks is no user of the image.
        facts = [outcome.get() for outcome in ceph.batch([("image_info", dict(one.where(), users=True)) for one in images])]
        assert [len(one["snapshots"]) for one in facts] == [1] * 7 + [0] + [1] * 32
        assert [watcher["address"] for one in facts for watcher in one["watchers"]] == [address]
        os.kill(holder.pid, signal.SIGCONT)
        until(lambda: ceph.batch(snapshots([images[7]], "t"))[0].error is None, 40, "the image is written again")


def test_a_snapshot_waits_for_those_who_may_have_a_hook(make_client, images, sick):
    """Longer than the limit, where somebody has the image open. A fake of a long quiesce hook: the client does not answer for a while."""
    ceph, asked = make_client(), dict(images[7].at("s").where(), quiesce="try")
    ceph.call("cluster_info")
    with lock_held_by_stopped_client(sick, images[7]) as (holder, _):
        goes_on = threading.Timer(6, os.kill, (holder.pid, signal.SIGCONT))
        goes_on.start()
        with lasts(6, 3 + 55):
            (outcome,) = ceph.batch([("snapshot_create", asked)])
        goes_on.join()
    assert outcome.error is None
    with lasts(0, 3):
        assert failed(ceph.batch([("snapshot_create", dict(asked, image=images[8].image))])) == []


def test_hanging_images_take_all_threads(make_client, images, sick):
    """With two threads and two images that hang, the other thirty-eight are done by new workers."""
    ceph = make_client(threads=2)
    requests = [("image_metadata", dict(one.where(), put={"a": "b"})) for one in images]
    with lock_held_by_stopped_client(sick, images[0]), lock_held_by_stopped_client(sick, images[1]), lasts(3, 3 + 3 + 3):
        outcomes = ceph.batch(requests)
    assert [number for number, outcome in enumerate(outcomes) if outcome.error] == [0, 1]


def test_a_pool_that_does_not_serve(make_client, images, sick):
    """Questions hang too where the pool's placement groups are inactive; other pools' images are answered."""
    ceph, pool = make_client(), f"inactive-{uuid.uuid4().hex[:6]}"
    lab_cluster.ceph(sick.folder, "osd", "pool", "create", pool, "1", "--size", "2")
    lab_cluster.ceph(sick.folder, "osd", "pool", "set", pool, "min_size", "2")
    requests = [("image_info", one.where()) for one in images]
    requests.insert(20, ("image_list", {"pool": pool}))
    with lasts(3, 3):
        outcomes = ceph.batch(requests)
    assert [number for number, outcome in enumerate(outcomes) if outcome.error] == [20]
    assert str(outcomes[20].error).startswith(f"Listing the images of {pool} had no answer within 3 s from the cluster at ")
    assert "unknown" not in str(outcomes[20].error), "a question has no outcome"
    with pytest.raises(errors.CephTimeout, match=f"Creating the image {pool}/x had no .* a second look was not possible either"):
        ceph.call("image_create", spec.parse(f"{pool}/x"), size=1 << 20)
    lab_cluster.ceph(sick.folder, "osd", "pool", "set", pool, "min_size", "1")
    until(lambda: ceph.batch([("image_list", {"pool": pool})])[0].error is None, 30, "the pool serves")
    lab_cluster.ceph(sick.folder, "osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")


# The cluster as a whole


def test_osd_stops(make_client, images, sick):
    """Forty writes over ten threads while no OSD answers: an error for each, within three limits."""
    ceph = make_client(threads=10)
    ceph.call("cluster_info")
    with stopped(sick, "ceph-osd"):
        with lasts(6, 3 + 3 + 3):
            outcomes = ceph.batch(snapshots(images, "s"))
        said = [str(outcome.error) for outcome in outcomes]
        assert {type(outcome.error) for outcome in outcomes} == {errors.CephTimeout}
        assert ["@s was not begun" in text for text in said] == [False] * 20 + [True] * 20
        assert "Its outcome is unknown: a second look was not possible either (" in said[0]
        assert said[39].startswith(f"Creating the snapshot {images[39]}@s was not begun: no call before it had an answer ")
        assert said[39].endswith(" Nothing was done.")
        with lasts(3, 3), pytest.raises(errors.CephTimeout):
            ceph.call("image_info", images[0])
    found = until(lambda: ceph.batch([("image_info", one.where()) for one in images]), 1, "answers")
    assert [outcome.error for outcome in found] == [None] * 40
    assert [outcome.error for outcome in ceph.batch(snapshots(images, "t"))] == [None] * 40


def test_monitor_stops(make_client, images, sick):
    """A session goes on without the monitor as far as Ceph does; a new one is refused within the limit, and names it."""
    ceph, late = make_client(), make_client()
    ceph.call("image_info", images[0])
    with stopped(sick, "ceph-mon"):
        assert ceph.call("image_info", images[0])["size"] == 8 << 20
        with lasts(3, 3 + 3), pytest.raises(errors.CephTimeout) as caught:
            ceph.call("snapshot_create", images[0].at("s"))
        said = str(caught.value)
        assert "Its outcome is unknown: a second look was not possible either (Connecting to the cluster at " in said
        assert sick.monitors[0] in said
        with lasts(3, 3), pytest.raises(errors.ClusterUnreachable) as caught:
            late.call("image_info", images[0])
        assert sick.monitors[0] in str(caught.value)
        assert str(caught.value).endswith(f"(This was for reading the image {images[0]}; nothing was done.)")
        with lasts(2, 2), pytest.raises(errors.ClusterUnreachable):
            late.call("image_info", images[0])
    until(lambda: late.batch([("image_info", images[0].where())])[0].error is None, 30, "the monitor answers")
    until(lambda: ceph.batch(snapshots([images[0]], uuid.uuid4().hex))[0].error is None, 30, "the monitor gives snapshot ids")


def test_monitor_ends_and_comes_back(make_client, images, sick):
    ceph = make_client()
    ceph.call("image_info", images[0])
    monitor = lab_cluster.daemons(sick.folder)["ceph-mon"]
    os.kill(monitor, signal.SIGTERM)
    until(lambda: gone(monitor), 20, "the monitor ends")
    with lasts(3, 3 + 3), pytest.raises(errors.CephTimeout):
        ceph.call("snapshot_create", images[0].at("s"))
    with lasts(0, 3), pytest.raises(errors.ClusterUnreachable):
        ceph.call("image_info", images[0])
    assert lab_cluster.revive(sick.folder)
    until(lambda: ceph.batch(snapshots([images[0]], uuid.uuid4().hex))[0].error is None, 30, "the session is made anew")


# Long work


def test_long_work_goes_on_and_stops_without_progress(make_client, sick):
    """A removal may take longer than its limit as long as it gets on; when the OSD stops, the limit counts."""
    ceph, image = make_client(progress_timeout=3), spec.parse(f"rbd/{uuid.uuid4().hex}")
    identity = ceph.call("image_create", image, size=512 << 30, features=["layering"])["id"]
    with ThreadPoolExecutor(1) as threads:
        removal = threads.submit(ceph.call, "image_remove", image, image_id=identity)
        time.sleep(4)
        assert not removal.done(), "it is fast here: take a larger image"
        with stopped(sick, "ceph-osd"), lasts(2.5, 3 + 3), pytest.raises(errors.CephTimeout) as caught:
            removal.result()
    assert str(caught.value).startswith(f"Removing the image {image} made no progress for 3 s on the cluster at ")
    assert "Its outcome is unknown: a second look was not possible either (" in str(caught.value)
    with pytest.raises(errors.ImageNotFound):
        ceph.call("image_info", image)
    assert [item["id"] for item in ceph.call("trash_list", pool="rbd")] == [identity]
    removed = ["rbd", "-c", sick.conf, "trash", "rm", "--no-progress", f"rbd/{identity}"]  # as the documentation says
    until(lambda: lab_cluster.run(removed, timeout=240, check=False)[0] == 0, 60, "the ended worker's watch is gone, and then the image")
    assert ceph.call("trash_list", pool="rbd") == []


def test_long_work_without_a_callback(make_client):
    """Shrinking and rebuilding an object map have no progress for Python; they may take longer than the limit too."""
    ceph, image = make_client(progress_timeout=1.5), spec.parse(f"rbd/{uuid.uuid4().hex}")
    features = ["layering", "exclusive-lock", "object-map", "fast-diff"]
    identity = ceph.call("image_create", image, size=256 << 30, features=features)["id"]
    began = time.monotonic()
    ceph.call("image_rebuild_object_map", image)
    assert time.monotonic() - began > 1.5, "it is fast here: take a larger image"
    ceph.call("image_features", image, disable=["fast-diff", "object-map"])
    patient = make_client(progress_timeout=12)
    patient.call("image_resize", image, size=1 << 20, allow_shrink=True)
    ceph.call("image_remove", image, image_id=identity)


# States


@pytest.fixture(scope="module")
def sick_pillar(whole):
    ceph = {key: getattr(whole, key) for key in ("fsid", "monitors", "conf", "user", "keyring")}
    return {"ceph": {**ceph, "pool": "rbd", "fs_type": "ext4"}, "rbd": {"timeout": 3, "progress_timeout": 6, "freeze_timeout": 5}}


@pytest.fixture
def salt(sick_pillar, make_loaders):
    """Salt's loaders for that cluster."""
    return make_loaders(sick_pillar)


@pytest.mark.parametrize("daemon", ["ceph-osd", "ceph-mon"])
def test_a_run_of_states(sick, images, sick_pillar, make_minion_config, daemon):
    """salt-call ends by itself, every state is False with a sentence, and no traceback is seen."""
    sls = {f"i{number}": {"rbd_image.present": [{"name": str(images[number])}, {"size": "16M"}]} for number in range(2)}
    sls["s"] = {"rbd_snapshot.present": [{"name": "s"}, {"images": [str(one) for one in images]}]}
    folder = make_minion_config(sick_pillar)
    (folder / "states/sick.sls").write_text("#!json\n" + json.dumps(sls))
    argv = [str(Path(sys.executable).parent / "salt-call"), "--local", "-c", str(folder), "--out=json", "state.apply", "sick"]
    with stopped(sick, daemon), lasts(3 * 2, 3 * 3 + 8):
        ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    results = json.loads(ran.stdout)["local"]
    assert [result["result"] for result in results.values()] == [False] * 3
    for result in results.values():
        assert result["changes"] == {}
        assert sick.monitors[0] in result["comment"]
        assert "had no answer within" in result["comment"]
    assert "Traceback" not in ran.stdout + ran.stderr
    assert not any(gone(parent) for parent in workers().values())


# Filesystems


@pytest.fixture
def image(salt, sick):
    name = f"rbd/{uuid.uuid4().hex[:8]}"
    assert salt.states.rbd_image.present(name, size="1G").result is True
    result = salt.states.rbd_device.mapped(name, driver="fuse")
    assert result.result is True, result.comment
    return name


@pytest.fixture
def mounted(salt, image, tmp_path):
    """An image with a filesystem, mounted; returns (spec, mount point)."""
    assert salt.states.rbd_filesystem.formatted(image).result is True
    point = str(tmp_path / "mnt")
    result = salt.states.rbd_filesystem.mounted(point, image=image, persist=False)
    assert result.result is True, result.comment
    return image, point


def test_osd_stops_under_mkfs(salt, sick, image):
    """mkfs sleeps in the kernel and survives SIGKILL: it is left and named, and the next run makes the filesystem."""
    with stopped_when(sick, lambda: children("mkfs.ext4")) as happened:
        result = salt.states.rbd_filesystem.formatted(image)
        took = time.monotonic() - happened[0]
        assert result.result is False
        assert took < 3 + 2 + 3 + SLACK, f"{took:.1f} s after the OSD stopped"
        left = left_behind(result.comment)
        assert "did not end within 3 s; it survives SIGKILL and is left behind: pid " in result.comment
        assert [processes.state(pid) for pid in left] == ["D"]
    until(lambda: all(gone(pid) for pid in left), 20, "mkfs ends when the storage answers")
    again = salt.states.rbd_filesystem.formatted(image)
    assert again.result is True, again.comment


def test_osd_stops_under_a_freeze(salt, sick, mounted):
    """What is dirty cannot be written back: nothing is frozen, no snapshot is made, and nothing stays frozen."""
    image, point = mounted
    Path(point, "data").write_bytes(os.urandom(32 << 20))
    with stopped_when(sick, lambda: any("freeze_helper" in word for word in words_of_children())) as happened:
        result = salt.states.rbd_snapshot.present(f"{image}@s", consistency="filesystem")
        took = time.monotonic() - happened[0]
        assert result.result is False
        assert took < 3 + 2 + 3 + SLACK, f"{took:.1f} s after the OSD stopped"
        assert f"{image} on {point} could not be written back, without progress for 3 s, so nothing was frozen." in result.comment
        left = left_behind(result.comment.replace("The process ", "pid "))
        assert len(left) == 1
    until(lambda: all(gone(pid) for pid in left), 20, "the helper ends when the storage answers")
    Path(point, "data").write_bytes(b"written, so not frozen")
    assert salt.modules.rbd_snapshot.list(image) == []
    again = salt.states.rbd_snapshot.present(f"{image}@s", consistency="filesystem")
    assert again.result is True, again.comment


def test_osd_stops_under_umount(salt, sick, mounted):
    image, point = mounted
    Path(point, "data").write_bytes(os.urandom(32 << 20))
    with stopped_when(sick, lambda: children("umount")) as happened:
        result = salt.states.rbd_filesystem.unmounted(point)
        took = time.monotonic() - happened[0]
        assert result.result is False
        assert took < 3 + 2 + 3 + SLACK, f"{took:.1f} s after the OSD stopped"
        left = left_behind(result.comment)
        assert f"The command 'umount {point}' did not end within 3 s; it survives SIGKILL and is left behind: pid " in result.comment
        assert [processes.state(pid) for pid in left] == ["D"]
    until(lambda: all(gone(pid) for pid in left), 20, "umount ends when the storage answers")
    again = salt.states.rbd_filesystem.unmounted(point)
    assert again.result is True, again.comment
    assert not os.path.ismount(point)
