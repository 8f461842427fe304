"""Workers of a Salt that ends, is killed or forks: none is left, and none is shared."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from saltrbd import client
from worker_watch import chosen, failed, gone, snapshots, start_salt, until, workers


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
