"""The worker and its client on a real cluster: one session, many calls at once, and whatever becomes of either process."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from saltrbd import client, errors, spec
from saltrbd.client import Client
from saltrbd.process import SYSTEM_PYTHON
from worker_watch import chosen, gone, start_salt, until, workers

from labkit import processes


@pytest.fixture
def ceph(cluster):
    """A client of its own; afterwards its worker is gone."""
    found = Client(chosen(cluster))
    yield found
    pid = found._worker.pid if found._worker else None
    found.close()
    assert pid is None or processes.state(pid) == ""


@pytest.fixture
def make_client(cluster):
    """Clients with settings of their own: ``make_client(threads=3)``."""
    made = []

    def make(**options):
        made.append(Client(chosen(cluster, **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_images(ceph, pool):
    """Make images and return their specs: ``make_images(200)``."""

    def make(count, size=8 << 20):
        found = [spec.parse(f"{pool}/{uuid.uuid4().hex[:8]}-{number}") for number in range(count)]
        for outcome in ceph.batch([("image_create", dict(one.where(), size=size)) for one in found]):
            outcome.get()
        return found

    return make


@pytest.fixture
def make_user(ceph_cli, pool, tmp_path):
    """Make a Ceph user with a profile for this file's pool: ``make_user("profile rbd")`` returns (name, keyring)."""
    made = []

    def make(profile):
        user = f"u-{uuid.uuid4().hex[:6]}"
        key = ceph_cli("auth", "get-or-create-key", f"client.{user}", "mon", "profile rbd", "osd", f"{profile} pool={pool}")
        made.append(user)
        keyring = tmp_path / f"{user}.keyring"
        keyring.write_text(f"[client.{user}]\n key = {key['key']}\n")
        return user, str(keyring)

    yield make
    for user in made:
        ceph_cli("auth", "rm", f"client.{user}")


def snapshots(images, name, **options):
    return [("snapshot_create", dict(one.at(name).where(), **options)) for one in images]


def failed(outcomes):
    return [outcome.error for outcome in outcomes if outcome.error is not None]


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
    assert str(outcomes[-1].error) == "Listing the namespaces of none failed: the pool none does not exist."


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
        (None, "admin", "no keyring of client.admin can be read ({path}: No such file or directory); name it as ceph:keyring."),
        ("", "admin", "the keyring {path} has no key of client.admin."),
        (f"[client.admin]\n key = {KEY}\n", "admin", "the monitors refuse the key of client.admin in {path}."),
        (f"[client.nobody]\n key = {KEY}\n", "nobody", "the monitors refuse the key of client.nobody in {path}."),
        (f"[client.admin]\n key = {KEY}\n", "bob", "the keyring {path} has no key of client.bob."),
        ("[client.admin]\n key = xyz\n", "admin", "the keyring {path} is no keyring of Ceph's, or its key is damaged."),
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
        "rbd' and osd 'profile rbd pool=POOL'."
    )


# A worker that dies


def test_killed_in_the_middle_of_two_hundred(make_client, make_user, make_images):
    """What was answered stays answered; for the rest the error says what a new worker finds, and it is true. All this with the
    capabilities that Ceph's documentation gives a user of RBD."""
    images = make_images(200)
    user, keyring = make_user("profile rbd")
    ceph = make_client(user=user, keyring=keyring)
    ceph.call("cluster_info")
    killer = threading.Timer(1.3, os.kill, (ceph._worker.pid, signal.SIGKILL))
    killer.start()
    outcomes = ceph.batch(snapshots(images, "s", protect=True))
    killer.join()
    unknown = {image: outcome.error for image, outcome in zip(images, outcomes) if outcome.error}
    assert {type(error) for error in unknown.values()} == {errors.WorkerDied}
    facts = dict(zip(images, (outcome.get() for outcome in ceph.batch([("image_info", one.where()) for one in images]))))
    for image in images:
        found = facts[image]["snapshots"]
        if image not in unknown:
            assert found[0]["protected"]
            continue
        what = "the image without that snapshot" if not found else "the snapshot, " + "not " * (not found[0]["protected"]) + "protected"
        assert str(unknown[image]) == (
            f"Creating the snapshot {image}@s was cut off, because the worker process ended by SIGKILL. "
            f"Its outcome is unknown: a new worker finds {what}."
        )
    # The next writes need not wait until the dead worker's locks time out, and nothing of it is in the way.
    began = time.monotonic()
    assert failed(ceph.batch(snapshots(images, "t"))) == []
    assert time.monotonic() - began < 28
    users = ceph.batch([("image_users", one.where()) for one in images])
    assert Counter(len(outcome.get()["watchers"]) for outcome in users) == {0: 200}


def test_killed_under_questions(ceph, make_images):
    """Questions have no outcome that could be unknown: they are asked once more."""
    images = make_images(20)
    for _ in range(4):
        ceph.call("cluster_info")
        os.kill(ceph._worker.pid, signal.SIGKILL)
        assert failed(ceph.batch([("image_info", one.where()) for one in images])) == []


def test_stopped_worker(make_client, pool):
    """The limit is the client's: a worker that does not run at all is replaced."""
    ceph = make_client(timeout=4)
    ceph.call("cluster_info")
    stopped = ceph._worker.pid
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    outcomes = ceph.batch([("namespace_list", {"pool": pool})] * 300)
    assert time.monotonic() - began < 30  # the default limit
    # Two hundred were under way; the others got a new worker.
    assert Counter(type(outcome.error) for outcome in outcomes) == {errors.CephTimeout: 200, type(None): 100}
    assert str(failed(outcomes)[0]).startswith(f"Listing the namespaces of {pool} had no answer within 4 s from the cluster at ")
    assert processes.state(stopped) == ""


# A Python for workers of which one thread writes to a file, as soon as it is asked for that, and runs the worker besides.
STUCK_PYTHON = """#!/usr/bin/python3
import os, runpy, sys, threading, time
def write():
    while not os.path.exists("{go}"):
        time.sleep(0.05)
    open("{file}", "w")
threading.Thread(target=write, daemon=True).start()
sys.argv = sys.argv[3:]
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0] + "/__main__.py", run_name="__main__")
"""


@pytest.fixture
def frozen(tmp_path):
    """A filesystem that stands still: who writes to it sleeps in the kernel, and SIGKILL does not wake it."""
    disk, point = tmp_path / "disk", tmp_path / "point"
    point.mkdir()
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", disk, point], check=True, timeout=60)
    subprocess.run(["fsfreeze", "--freeze", point], check=True, timeout=60)
    yield point
    subprocess.run(["fsfreeze", "--unfreeze", point], check=True, timeout=60)
    for _ in range(100):
        if subprocess.run(["umount", point], timeout=60).returncode == 0:
            return
        time.sleep(0.1)
    pytest.fail(f"{point} cannot be unmounted")


@pytest.mark.parametrize("when", ["at its start", "in a call"])
def test_a_worker_that_survives_sigkill_is_left_and_named(when, make_client, frozen, tmp_path, pool, caplog):
    python = tmp_path / "python"
    python.write_text(STUCK_PYTHON.format(go=tmp_path / "go", file=frozen / "file"))
    if when == "at its start":
        python.write_text(f"#!/bin/sh\nexec dd if=/dev/zero of={frozen}/file bs=1 count=1\n")
    python.chmod(0o755)
    ceph = make_client(python=str(python), timeout=10 if when == "in a call" else 2)
    if when == "in a call":
        assert ceph.call("image_list", pool=pool) is not None
        ceph.settings = ceph.settings._replace(timeout=2, python="")
        pid = ceph._worker.pid
        (tmp_path / "go").touch()
        until(lambda: any(processes.state(f"{pid}/task/{task}") == "D" for task in os.listdir(f"/proc/{pid}/task")), 5, "it sleeps")
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(errors.RbdError) as caught:
        ceph.call("image_create", pool=pool, image=f"left-{uuid.uuid4().hex[:6]}", size=8 << 20)
    assert time.monotonic() - began < 2 + 2 + 5
    (said,) = re.findall(r"The worker process survives SIGKILL and is left behind: pid \d+, state D[^.]*\.", str(caught.value))
    assert said in caplog.messages
    if when == "in a call":
        assert f"pid {pid}," in said and "a new worker finds no such image" in str(caught.value)
        assert ceph.call("image_list", pool=pool) is not None


def test_session_that_is_shut_out(ceph, ceph_cli, make_images):
    """An administrator fences a client: the error says so, and the next call has a new session."""
    (image,) = make_images(1)
    ceph.call("snapshot_create", image.at("one"))
    shut_out = ceph._worker.pid
    ceph_cli("osd", "blocklist", "add", ceph._worker.sessions[0])
    with pytest.raises(errors.SessionLost, match="shut this session out .* The next call connects anew"):
        for number in range(50):
            ceph.call("snapshot_create", image.at(f"two-{number}"))
    assert ceph.call("snapshot_create", image.at("three"))
    assert ceph._worker.pid != shut_out


def test_pool_made_anew(ceph, make_pool, ceph_cli, rbd_cli):
    """A session that goes on for long must not look into a pool that is gone."""
    pool = make_pool()
    image = spec.parse(f"{pool}/again")
    ceph.call("image_create", image, size=1 << 20)
    ceph_cli("osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")
    with pytest.raises(errors.PoolNotFound):
        for _ in range(100):
            ceph.call("image_list", pool=pool)
            time.sleep(0.1)
    ceph_cli("osd", "pool", "create", pool)
    rbd_cli("pool", "init", pool)
    assert ceph.call("image_list", pool=pool) == []
    ceph.call("image_create", image, size=1 << 20)
    assert rbd_cli("ls", pool) == "again"


def test_nothing_is_left_of_fifty_workers(make_client):
    ceph = make_client()
    ceph.call("cluster_info")
    held, folder = os.listdir("/proc/self/fd"), os.listdir("/tmp")
    for number in range(50):
        pid = ceph._worker.pid
        if number % 2:
            ceph.close()
        else:
            os.kill(pid, signal.SIGKILL)
        ceph.call("namespace_list", pool="rbd")
        assert processes.state(pid) == "", "no zombie"
    assert len(os.listdir("/proc/self/fd")) == len(held)
    assert not [name for name in set(os.listdir("/tmp")) - set(folder) if "saltrbd" in name or name.startswith("tmp")]


# A Salt that ends, or forks


@pytest.mark.parametrize(
    "end", ["sys.exit()", "os.kill(os.getpid(), 9)", "os._exit(1)", "os.kill(os.getpid(), 15)", "raise KeyboardInterrupt"]
)
def test_worker_ends_with_salt(cluster, end):
    salt = start_salt(chosen(cluster), f"ceph.call('cluster_info'); print(ceph._worker.pid)\n{end}\n")
    worker = int(salt.stdout.readline())
    salt.wait(10)
    until(lambda: gone(worker), 2, f"the worker is gone after {end}")
    salt.stdout.close()


def test_what_was_begun_is_ended(cluster, make_images, ceph):
    """Salt is killed in the middle of writes: they end or are shut out, so that the next run does not wait for dead locks (30 s)."""
    images = make_images(20)
    code = (
        "requests = [('snapshot_create', dict(pool=p, namespace='', image=i, snapshot='s')) for p, i in %r]\n"
        "ceph.call('cluster_info'); print(ceph._worker.pid); ceph.batch(requests)\n"
    ) % [(one.pool, one.image) for one in images]
    salt = start_salt(chosen(cluster), code)
    worker = int(salt.stdout.readline())
    time.sleep(0.2)
    salt.kill()
    salt.communicate(timeout=10)
    until(lambda: gone(worker), 2, "the worker is gone")
    began = time.monotonic()
    assert failed(ceph.batch(snapshots(images, "t"))) == []
    assert time.monotonic() - began < 28


def test_no_worker_outlives_a_killed_parent_that_had_forked(cluster):
    """The child holds the parent's pipe open; the parent's worker ends all the same, the child's lives with the child."""
    code = (
        "ceph.call('cluster_info'); mine = ceph._worker.pid\n"
        "held_open = os.dup(ceph._worker.requests.fileno())\n"
        "if os.fork() == 0:\n"
        "    fresh = client.get(ceph.settings)\n"
        "    fresh.call('cluster_info'); ceph.call('cluster_info')\n"
        "    print(os.getpid(), fresh._worker.pid, ceph._worker.pid, mine)\n"
        "    time.sleep(60)\n"
        "time.sleep(60)\n"
    )
    salt = start_salt(chosen(cluster), code)
    child, fresh, held, parents = (int(word) for word in salt.stdout.readline().split())
    try:
        assert len({fresh, held, parents}) == 3, "neither a new client nor one that was there before the fork uses the parent's"
        salt.kill()
        salt.wait(10)
        until(lambda: gone(parents), 2, "the parent's worker is gone")
        assert not gone(child)
        assert not gone(fresh)
    finally:
        os.kill(child, signal.SIGKILL)
    until(lambda: gone(fresh) and gone(held), 2, "the child's workers are gone")
    salt.stdout.close()


def test_child_cannot_end_the_parents_worker(ceph, cluster):
    """A child that closes what it inherited, or ends in the ordinary way, leaves the parent's worker alone."""
    ceph = client.get(chosen(cluster, timeout=20))
    ceph.call("cluster_info")
    worker = ceph._worker
    pid = os.fork()
    if not pid:
        try:
            ceph.close()
            client.close_all()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert ceph.call("cluster_info")
    assert ceph._worker is worker
    client.close_all()


def test_fork_while_another_thread_is_in_a_batch(ceph, make_images):
    images = make_images(3)
    ceph.call("cluster_info")
    running = threading.Thread(target=ceph.batch, args=(snapshots(images, "s"),))
    running.start()
    time.sleep(0.1)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if len(ceph.call("image_info", images[0])["id"]) > 3 else 2
            ceph.close()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    running.join(30)
    assert [len(ceph.call("image_info", one)["snapshots"]) for one in images] == [1, 1, 1]


def test_twenty_parallel_states(make_minion_config, pool, rbd_cli):
    """``parallel: True`` forks a child of Salt for each state, after Salt itself has used its worker."""
    sls = {"before": {"rbd_image.present": [{"name": f"{pool}/before"}, {"size": "8M"}]}}
    for number in range(20):
        name = [{"name": f"{pool}/parallel-{number}"}, {"size": "8M"}]
        sls[f"p{number}"] = {"rbd_image.present": [*name, {"parallel": True}, {"require": [{"rbd_image": "before"}]}]}
    folder = make_minion_config()
    (folder / "states/parallel.sls").write_text("#!json\n" + json.dumps(sls))
    argv = [str(Path(sys.executable).parent / "salt-call"), "--local", "-c", str(folder), "--out=json", "state.apply", "parallel"]
    ran = subprocess.run(argv, stdout=subprocess.PIPE, timeout=120)
    results = json.loads(ran.stdout)["local"]
    assert [result["comment"] for result in results.values() if result["result"] is not True] == []
    assert sum(bool(result["changes"]) for result in results.values()) == 21
    made = rbd_cli("ls", pool).split()
    assert {f"parallel-{number}" for number in range(20)} <= set(made)
    until(lambda: not any(gone(parent) for parent in workers().values()), 2, "no worker without its Salt is left")
