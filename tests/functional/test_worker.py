"""The worker and its client on a real cluster: one session, many calls at once, the wrong cluster and the wrong key."""

import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from saltrbd import client, errors, settings, spec
from saltrbd.client import Client
from saltrbd.process import SYSTEM_PYTHON
from worker_watch import chosen, failed, snapshots, start_salt, workers

from labkit import processes

# One process of Salt, one session


def test_salts_python_cannot_import_rbd_and_all_works(ceph, cluster):
    tried = subprocess.run([sys.executable, "-c", "import rbd"], stderr=subprocess.PIPE, timeout=30)
    assert b"ModuleNotFoundError" in tried.stderr
    assert ceph.call("cluster_info")["fsid"] == cluster.fsid == ceph.fsid
    assert processes.arguments(ceph._worker.pid)[0] == SYSTEM_PYTHON


def test_pillar_names_the_python(make_client, tmp_path):
    python = tmp_path / "python-for-ceph"
    python.symlink_to(SYSTEM_PYTHON)
    ceph = make_client(python=str(python))
    assert ceph.call("cluster_info")
    assert processes.arguments(ceph._worker.pid)[0] == str(python)


def test_one_worker_for_a_whole_run(make_minion_config, pool):
    """A salt-call with sixty states over three modules starts one worker, seen from outside; and leaves none."""
    sls = {}
    for number in range(20):
        image = f"{pool}/one-{number}"
        sls[f"i{number}"] = {"rbd_image.present": [{"name": image}, {"size": "8M"}]}
        sls[f"s{number}"] = {"rbd_snapshot.absent": [{"name": f"{image}@s"}]}
        sls[f"a{number}"] = {"rbd_image.absent": [{"name": f"{image}-not-there"}]}
    folder = make_minion_config()
    (folder / "states/many.sls").write_text("#!json\n" + json.dumps(sls))
    salt_call = str(Path(sys.executable).parent / "salt-call")
    before = workers()  # of the tests' own process
    run = subprocess.Popen(
        [salt_call, "--local", "-c", str(folder), "--out=json", "state.apply", "many"], stdout=subprocess.PIPE, text=True
    )
    seen = {}
    reader = ThreadPoolExecutor(1).submit(run.communicate, timeout=120)
    while not reader.done():
        seen.update(workers())
        time.sleep(0.01)
    results = json.loads(reader.result()[0])["local"]
    assert [result["comment"] for result in results.values() if result["result"] is not True] == []
    assert len(results) == 60
    assert [parent for pid, parent in seen.items() if pid not in before] == [run.pid]
    assert not any(parent == run.pid for parent in workers().values())


def test_many_images_at_once(ceph, make_images):
    """The monitor gives snapshot ids once a second: two hundred at once must not take two hundred seconds."""
    images = make_images(200)
    began = time.monotonic()
    assert failed(ceph.batch(snapshots(images, "s", protect=True))) == []
    assert time.monotonic() - began < 60
    facts = [outcome.get() for outcome in ceph.batch([("image_info", one.where()) for one in images])]
    assert {(item["name"], item["protected"]) for one in facts for item in one["snapshots"]} == {("s", True)}


def test_threads_bound_what_goes_on_at_once(make_client, make_images):
    """With three threads nine snapshots take three rounds, and the worker has three threads for them."""
    images, ceph = make_images(9), make_client(threads=3)
    ceph.call("cluster_info")
    tasks = f"/proc/{ceph._worker.pid}/task"

    def peak(running):
        most = 0
        while not running.done():
            most = max(most, sum(Path(tasks, task, "comm").read_text() == "python3\n" for task in os.listdir(tasks)))
            time.sleep(0.05)
        return most

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ceph.batch, snapshots(images, "s"))
        most = peak(running)
    assert failed(running.result()) == []
    assert most <= 2 + 3  # main, the one that watches Salt, and three


def test_answers_are_in_order(ceph, make_images):
    images = make_images(30)
    requests = [("image_info", one.where()) for one in images] + [("image_info", dict(images[0].where(), image="none"))]
    outcomes = ceph.batch(requests)
    ids = {item["name"]: item["id"] for item in ceph.call("image_list", pool=images[0].pool)}
    assert [outcome.get()["id"] for outcome in outcomes[:-1]] == [ids[one.image] for one in images]
    assert type(outcomes[-1].error) is errors.ImageNotFound
    assert str(outcomes[-1].error) == f"Reading the image {images[0].pool}/none failed: the image does not exist."


def test_two_thousand_requests(ceph, pool):
    outcomes = ceph.batch([("namespace_list", {"pool": pool})] * 1999 + [("namespace_list", {"pool": "none"})])
    assert [outcome.result for outcome in outcomes[:-1]] == [[]] * 1999
    assert str(outcomes[-1].error).startswith("Listing the namespaces of none failed: the pool none does not exist; correct its name, ")


def test_large_requests_and_answers(ceph, make_images):
    """A request of more than 1 MB, an answer of several MB, and small ones beside them."""
    images = make_images(8)
    metadata = {f"key{number:04}": "ä\n" * 8192 for number in range(40)}
    put = ceph.batch([("image_metadata", dict(one.where(), put=metadata)) for one in images])
    assert failed(put) == []
    assert len(json.dumps(metadata)) > 1 << 20
    assert all(outcome.get()["metadata"] == metadata for outcome in ceph.batch([("image_info", one.where()) for one in images]))


def test_names_of_any_script(ceph, pool):
    image = spec.parse(f"{pool}/Größe-日本-🦑-é")
    ceph.call("image_create", image, size=1 << 20, metadata={"ключ": "значение\u2028"})
    ceph.call("snapshot_create", image.at("żółw"))
    facts = ceph.call("image_info", image)
    assert facts["metadata"] == {"ключ": "значение\u2028"}
    assert [item["name"] for item in facts["snapshots"]] == ["żółw"]
    assert image.image in [item["name"] for item in ceph.call("image_list", pool=pool)]
    with pytest.raises(errors.SnapshotExists, match="Creating the snapshot .*/Größe-日本-🦑-é@żółw failed"):
        ceph.call("snapshot_create", image.at("żółw"))


def test_what_cannot_be_sent(ceph, make_images):
    images = make_images(2)
    outcomes = ceph.batch([("image_metadata", dict(images[0].where(), put={"a": b"bytes"})), ("image_info", images[1].where())])
    assert type(outcomes[0].error) is errors.InvalidArgument
    assert "was not tried: its arguments cannot be sent" in str(outcomes[0].error)
    assert outcomes[1].get()["metadata"] == {}


def test_eight_threads_and_one_client(ceph, make_images):
    images = make_images(8)
    ceph.close()
    before = workers()

    def work(image):
        ceph.call("image_metadata", image, put={"a": "b"})
        return [ceph.call("image_info", image)["id"] for _ in range(20)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, images))
    assert [len(set(ids)) for ids in found] == [1] * 8
    assert len({ids[0] for ids in found}) == 8
    assert [parent for pid, parent in workers().items() if pid not in before] == [os.getpid()]


@pytest.mark.parametrize(
    "shell", ['echo \'{"id": 1, "ok": "noise"}\'; printf \'half a line\'; exec PYTHON "$@"', 'exec PYTHON -c CODE "$@"']
)
def test_what_a_library_prints_is_no_answer(make_client, tmp_path, cluster, shell):
    """Before the worker's code has begun, and all the time while it works."""
    code = (
        "import os, runpy, sys, threading, time\n"
        "def noise():\n"
        "    while True:\n"
        "        for number in range(1, 9):\n"
        '            os.write(1, b\'{"id": %d, "ok": "noise"}\\nhalf\' % number)\n'
        "        time.sleep(0.001)\n"
        "threading.Timer(0.1, noise).start()\n"
        "sys.argv[:] = sys.argv[3:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n" + shell.replace("PYTHON", SYSTEM_PYTHON).replace("CODE", shlex.quote(code)))
    python.chmod(0o755)
    ceph = make_client(python=str(python))
    for _ in range(5):
        assert ceph.call("cluster_info")["fsid"] == cluster.fsid
        time.sleep(0.1)


def test_times_on_a_host_that_is_not_in_utc(make_client, pool, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    ceph, image = make_client(), spec.parse(f"{pool}/of-tokyo")
    identity = ceph.call("image_create", image, size=1 << 20)["id"]
    ceph.call("snapshot_create", image.at("s"))
    facts = ceph.call("image_info", image)
    ceph.call("trash_move", image, image_id=identity)
    (entry,) = [item for item in ceph.call("trash_list", pool=pool) if item["id"] == identity]
    for seconds in (facts["created"], facts["modified"], facts["snapshots"][0]["created"], entry["deleted"], entry["kept_until"]):
        assert abs(seconds - time.time()) < 300


# The wrong cluster, the wrong key


def _writes(cluster):
    """Writes that the OSD has served so far."""
    asok = str(Path(cluster.folder, "run/osd.asok"))
    dump = subprocess.run(["ceph", "--admin-daemon", asok, "perf", "dump"], stdout=subprocess.PIPE, timeout=30, check=True).stdout
    return json.loads(dump)["osd"]["op_w"]


def test_wrong_cluster(make_client, cluster, pool, rbd_cli):
    wrong = "00000000-0000-4000-8000-000000000000"
    before, names = _writes(cluster), rbd_cli("ls", pool)
    requests = [
        ("image_create", {"pool": pool, "namespace": "", "image": "never", "size": 1 << 20}),
        ("image_info", {"pool": pool, "namespace": "", "image": "never"}),
    ]
    outcomes = make_client(fsid=wrong).batch(requests)
    assert {type(outcome.error) for outcome in outcomes} == {errors.WrongCluster}
    said = str(outcomes[0].error)
    assert f"has the fsid {cluster.fsid}, but ceph:fsid is {wrong}; nothing was done." in said
    assert cluster.monitors[0].rpartition(":")[2] in said
    assert (_writes(cluster), rbd_cli("ls", pool)) == (before, names)


KEY = "AQBSdFhfAAAAABAAZ0a8Q1VbGm1yCqLJf3mQdg=="


@pytest.mark.parametrize(
    ("content", "user", "words"),
    [
        (
            None,
            "admin",
            "no keyring of client.admin can be read ({path}: No such file or directory); "
            "name it as ceph:keyring, and write into it what 'ceph auth get client.admin' prints.",
        ),
        ("", "admin", "the keyring {path} has no key of client.admin; write into it what 'ceph auth get client.admin' prints."),
        (
            f"[client.admin]\n key = {KEY}\n",
            "admin",
            "the monitors refuse the key of client.admin in {path}; it must be the one that 'ceph auth get client.admin' prints.",
        ),
        (
            f"[client.nobody]\n key = {KEY}\n",
            "nobody",
            "the monitors refuse the key of client.nobody in {path}; it must be the one that 'ceph auth get client.nobody' prints.",
        ),
        (
            f"[client.admin]\n key = {KEY}\n",
            "bob",
            "the keyring {path} has no key of client.bob; write into it what 'ceph auth get client.bob' prints.",
        ),
        (
            "[client.admin]\n key = xyz\n",
            "admin",
            "the keyring {path} is no keyring of Ceph's, or its key is damaged; write into it what 'ceph auth get client.admin' prints.",
        ),
    ],
)
def test_keyrings(make_client, tmp_path, content, user, words):
    path = tmp_path / "keyring"
    if content is not None:
        path.write_text(content)
    with pytest.raises(errors.AuthenticationFailed) as caught:
        make_client(keyring=str(path), user=user, timeout=10).call("cluster_info")
    said = str(caught.value)
    assert said.startswith("Connecting to the cluster at ")
    assert words.format(path=path) in said
    assert KEY not in said


@pytest.mark.parametrize("protocol", ["v2:", "v1:", ""])
def test_wrong_key_by_address(cluster, tmp_path, protocol):
    """README.md says it: told at once, but for a port that is not Ceph's own and has no protocol before it."""
    keyring = tmp_path / "keyring"
    keyring.write_text(f"[client.admin]\n key = {KEY}\n")
    host, _, port = cluster.monitors[0].rpartition(":")
    address = f"{protocol}{host}:{int(port) + (protocol == 'v1:')}"
    ceph = Client(settings.load({"id": "tests"}, {"ceph": {"monitors": [address], "keyring": str(keyring)}, "rbd": {"timeout": 4}}))
    began = time.monotonic()
    with pytest.raises(errors.AuthenticationFailed if protocol else errors.ClusterUnreachable, match=address) as caught:
        ceph.call("cluster_info")
    assert ("A wrong key ends like this too" in str(caught.value)) != bool(protocol)
    assert (time.monotonic() - began < 3) == bool(protocol)
    ceph.close()


def test_keyring_that_may_not_be_read(cluster, tmp_path):
    """Root without the capability to read everything, and a keyring of somebody else."""
    keyring = tmp_path / "keyring"
    keyring.write_text(Path(cluster.keyring).read_text())
    keyring.chmod(0o600)
    os.chown(keyring, 65534, 65534)
    code = "try: ceph.call('cluster_info')\nexcept Exception as error: print(type(error).__name__, error)\n"
    less = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
    said = start_salt(chosen(cluster, keyring=str(keyring), timeout=10), code, less).communicate(timeout=60)[0]
    assert said.startswith("AuthenticationFailed "), said
    assert f"no keyring of client.admin can be read ({keyring}: Permission denied)" in said


def test_user_without_capabilities(make_client, make_user, pool, rbd_cli):
    """A user may read: a write is refused in words, and names what is missing."""
    user, keyring = make_user("profile rbd-read-only")
    ceph = make_client(keyring=keyring, user=user)
    rbd_cli("create", f"{pool}/readable", "--size", "8M")
    assert ceph.call("image_info", spec.parse(f"{pool}/readable"))["size"] == 8 << 20
    with pytest.raises(errors.PermissionDenied) as caught:
        ceph.call("image_create", spec.parse(f"{pool}/not-mine"), size=1 << 20)
    assert str(caught.value) == (
        f"Creating the image {pool}/not-mine failed: the cluster does not permit it. Give client.{user} the capabilities mon 'profile "
        f"rbd' and osd 'profile rbd pool={pool}'."
    )


def faults_of_children(pid):
    """The page faults of the children that a process has waited for: more with every command that it runs (proc(5), cminflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])


def test_no_command_is_run_for_a_question(states, modules, spec, pool, held, rbd_cli, monkeypatch):
    """Whatever is asked and changed goes through the worker: no process of rbd, ceph or rados is started, by Salt or by the worker.

    But for who uses an image that is mirrored: the bindings cannot list the watchers of an object, which tell a rbd-mirror daemon.
    """
    client.close_all()
    assert modules.rbd_image.cluster()
    (worker,) = [pid for pid, parent in workers().items() if parent == os.getpid()]
    before = faults_of_children(worker)
    started, popen = [], subprocess.Popen.__init__

    def noted(one, argv, *args, **kwargs):
        started.append(os.path.basename(argv[0]))
        popen(one, argv, *args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    for test in (True, False, False):
        assert states.rbd_image.present(spec, size="8M", metadata={"a": "b"}, test=test).result is not False
    for test in (True, False, False):
        assert states.rbd_snapshot.protected(f"{spec}@s", test=test).result is not False
    for test in (True, False, False):
        assert states.rbd_clone.present(f"{spec}c", parent=f"{spec}@s", test=test).result is not False
    assert modules.rbd_image.info(spec)["snapshots"]
    assert modules.rbd_image.list() and modules.rbd_image.tree() and modules.rbd_device.users(spec)
    held(spec)
    assert modules.rbd_device.users(spec)["watchers"]
    assert states.rbd_image.absent(f"{spec}c").result is True
    assert faults_of_children(worker) == before
    assert set(started) <= {os.path.basename(SYSTEM_PYTHON)}
    rbd_cli("mirror", "pool", "enable", pool, "image")
    rbd_cli("mirror", "image", "enable", spec, "snapshot")
    assert "rbd" in started, "a command would have been noted"
    assert modules.rbd_device.users(spec)["watchers"]
    assert faults_of_children(worker) > before, "the one exception, so a command would have been noted in the worker too"
    held.let_go()
    rbd_cli("mirror", "image", "disable", spec)
    rbd_cli("mirror", "pool", "disable", pool)
