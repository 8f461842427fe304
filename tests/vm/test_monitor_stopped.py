"""The monitor stops after Salt has looked at an image and before its map: what waits for it then, in the kernel or in rbd-nbd, is ended."""

import json
import os
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from labkit import cluster, processes

pytestmark = pytest.mark.timeout(900)

FOLDER = "/tmp/monitor-stopped"
# The first state begins the session, so that only the map has need of the monitor.
SLS = """
known:
  rbd_image.present: [{{name: {image}}}, {{size: 64M}}]
reached:
  cmd.run:
    - name: touch {folder}/reached; for turn in $(seq 600); do test -e {folder}/stopped && exit 0; sleep 0.2; done; exit 1
    - require: [rbd_image: known]
mapped:
  rbd_device.mapped: [{{name: {image}}}, {{driver: {driver}}}, {{persist: false}}, {{require: [cmd: reached]}}]
"""


@pytest.fixture
def folder(machine):
    machine.run("mkdir", "-p", FOLDER)
    yield FOLDER
    machine.run("rm", "-rf", FOLDER)


@pytest.fixture
def monitor(lab_home):
    """The pid of the machines' monitor; it goes on at the end."""
    pid = cluster.daemons(lab_home.machines().cluster)["ceph-mon"]
    yield pid
    processes.resume([pid])


def _reached(machine, folder):
    deadline = time.monotonic() + 300
    while machine.run("test", "-e", f"{folder}/reached", check=False)[0]:
        assert time.monotonic() < deadline, "the run did not come as far as the map"
        time.sleep(1)


def test_a_map_without_a_monitor_ends(machine, salt, driver, folder, monitor):
    image = f"rbd/i{uuid.uuid4().hex[:8]}"
    machine.run("sh", "-c", f"echo '{SLS.format(image=image, driver=driver, folder=folder)}' > {folder}/map.sls")
    command = ["salt-call", "--local", "--out=json", f"--file-root={folder}", "state.sls", "map"]
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(machine.run, *command, check=False)
        _reached(machine, folder)
        os.kill(monitor, signal.SIGSTOP)
        machine.run("touch", f"{folder}/stopped")
        told = {one["__id__"]: one for one in json.loads(run.result()[1])["local"].values()}
    print(told["mapped"]["comment"], told["mapped"]["duration"])
    assert [told[name]["result"] for name in ("known", "reached", "mapped")] == [True, True, False]
    assert "30 s" in told["mapped"]["comment"] and image in told["mapped"]["comment"]
    os.kill(monitor, signal.SIGCONT)
    deadline = time.monotonic() + 180
    while (last := salt.state("rbd_device.mapped", image, driver=driver, persist=False))["result"] is not True:
        assert time.monotonic() < deadline, last["comment"]
        time.sleep(2)
    assert salt.state("rbd_device.unmapped", image)["result"] is True
    machine.run("rbd", "rm", "--no-progress", image)
