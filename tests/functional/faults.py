"""Daemons and clients that stop in the middle of things, and what is left of a process that storage holds up."""

import os
import re
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from labkit import cluster as lab_cluster
from labkit import processes

# What a busy machine may add to a limit.
SLACK = 6


@contextmanager
def stopped(cluster, daemon):
    """Stop a daemon for a while."""
    pid = lab_cluster.daemons(cluster.folder)[daemon]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def lasts(least, most):
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert least - 0.1 <= took <= most + SLACK, f"took {took:.1f} s"


@contextmanager
def lock_held_by_stopped_client(cluster, image):
    """Another client holds the image's exclusive lock and does not answer."""
    code = (
        "import rados, rbd, sys, time\n"
        "session = rados.Rados(conffile=sys.argv[1], conf={'keyring': sys.argv[2]}); session.connect()\n"
        "image = rbd.Image(session.open_ioctx(sys.argv[3]), sys.argv[4]); image.write(b'x', 0); image.flush()\n"
        "print(session.get_addrs(), flush=True); time.sleep(600)\n"
    )
    argv = ["/usr/bin/python3", "-c", code, cluster.conf, cluster.keyring, image.pool, image.image]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        address = holder.stdout.readline().strip()
        os.kill(holder.pid, signal.SIGSTOP)
        yield holder, address
    finally:
        holder.kill()
        holder.communicate()


@contextmanager
def stopped_when(cluster, seen):
    """Stop the OSD in the moment in which ``seen()`` holds."""
    osd, over, happened = lab_cluster.daemons(cluster.folder)["ceph-osd"], threading.Event(), []

    def watch():
        while not over.is_set() and not happened:
            if seen():
                os.kill(osd, signal.SIGSTOP)
                happened.append(time.monotonic())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield happened
    finally:
        over.set()
        watcher.join()
        os.kill(osd, signal.SIGCONT)


def children(name):
    """The pids of this process's children that run a program."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        found += [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if os.path.basename((processes.arguments(pid) or [""])[0]) == name]


def words_of_children():
    """Every argument of every child of this process."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        found += [word for pid in path.read_text().split() for word in processes.arguments(int(pid))]
    return found


def left_behind(comment):
    """The pids that a sentence names as left behind."""
    return [int(pid) for pid in re.findall(r"pid (\d+)", comment)]
