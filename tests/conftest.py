"""What every test may use: the code of this checkout, and the cluster that ``./lab test`` starts."""

import json
import logging
import os
import signal
import sys
import uuid
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
# saltrbd lies where Salt syncs it from; labkit at the top.
sys.path[:0] = [str(REPO), str(REPO / "_utils")]

from labkit import cleanup as lab_cleanup  # noqa: E402
from labkit import cluster as lab_cluster  # noqa: E402
from labkit import commands  # noqa: E402

Cluster = namedtuple("Cluster", "fsid monitors conf user keyring folder")


def pytest_configure():
    """Whoever ends ./lab test by SIGTERM gets the fixtures' ends as after Ctrl-C, once, however many of its processes were told."""

    def interrupted(*_):
        # No SIG_IGN, which what is started later would inherit.
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)


def pytest_unconfigure():
    """Salt logs while Python ends, into streams that pytest has closed; pytest's closing line stays the last one."""
    logging.raiseExceptions = False


@pytest.fixture(scope="session")
def repo():
    """The checkout under test."""
    return REPO


@pytest.fixture(scope="session")
def cluster():
    """The cluster of this test run: fsid, monitors, conf, user, keyring, folder."""
    folder = os.environ.get("RBD_LAB_CLUSTER")
    known = folder and lab_cluster.facts(folder)
    if not known:
        pytest.fail("These tests need a Ceph cluster of their own; run them by ./lab test.", pytrace=False)
    return Cluster(**{key: known[key] for key in Cluster._fields})


@contextmanager
def _another_cluster(folder):
    known = lab_cluster.start(folder, quick=True)
    yield Cluster(**{key: known[key] for key in Cluster._fields})
    problems = lab_cleanup.clear(folder)
    assert not problems, problems


@pytest.fixture
def private_cluster(tmp_path_factory):
    """A whole cluster for one test that stops or kills parts of it."""
    with _another_cluster(tmp_path_factory.mktemp("ceph")) as found:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cluster of one file's own, whose daemons are stopped and killed."""
    with _another_cluster(tmp_path_factory.mktemp("ceph")) as found:
        yield found


class RbdCommand:
    """The real ``rbd`` command on a cluster: what it says is independent of the code under test."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __call__(self, *words, timeout=60, check=True):
        """Run ``rbd WORDS`` and return what it printed; a failure raises with what it said."""
        where = ["--conf", self.cluster.conf, "--id", self.cluster.user, "--keyring", self.cluster.keyring]
        return commands.run(["rbd", *where, *words], timeout=timeout, check=check)[1].strip()

    def json(self, *words, timeout=60):
        """Run ``rbd WORDS --format json`` and return the parsed answer."""
        return json.loads(self(*words, "--format", "json", timeout=timeout) or "null")


@pytest.fixture(scope="session")
def rbd_cli(cluster):
    """The ``rbd`` command: ``rbd_cli("create", spec, "--size", "8M")``, ``rbd_cli.json("info", spec)``."""
    return RbdCommand(cluster)


@pytest.fixture(scope="session")
def ceph_cli(cluster):
    """The ``ceph`` command, its JSON answer parsed: ``ceph_cli("osd", "pool", "ls")``."""

    def ceph(*words, timeout=60):
        return lab_cluster.ceph(cluster.folder, *words, timeout=timeout)

    return ceph


@pytest.fixture(scope="session")
def make_pool(ceph_cli, rbd_cli):
    """Make a new pool for RBD and return its name; all are removed at the end of the run."""
    made = []

    def make(*options):
        pool = f"t-{uuid.uuid4().hex[:6]}"
        ceph_cli("osd", "pool", "create", pool, *options)
        made.append(pool)
        rbd_cli("pool", "init", pool)
        return pool

    yield make
    for pool in made:
        ceph_cli("osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")


@pytest.fixture(scope="module")
def pool(make_pool):
    """A pool that the tests of one file share and no other file uses."""
    return make_pool()


@pytest.fixture
def spec(pool):
    """The spec of an image that does not exist yet."""
    return f"{pool}/i{uuid.uuid4().hex[:8]}"
