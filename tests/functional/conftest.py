"""Real states and execution modules of this checkout, run by Salt's own loaders against the real cluster."""

import hashlib
import json
import operator
import os
import subprocess
import uuid
from pathlib import Path

import pytest
from beacon_minion import make_minion  # noqa: F401 -- a fixture, as the next ones
from freeze_checks import holder, mounted  # noqa: F401
from image_checks import held, other_client, start_client  # noqa: F401
from luks_checks import encrypted, objects  # noqa: F401
from worker_watch import ceph, make_client, make_images, make_user  # noqa: F401

from labkit import cleanup as lab_cleanup
from labkit import cluster as lab_cluster
from labkit import processes


def ceph_pillar(cluster, pool):
    """Return the pillar's ``ceph:`` section for a cluster."""
    keys = ("fsid", "monitors", "conf", "user", "keyring")
    return {**{key: getattr(cluster, key) for key in keys}, "pool": pool, "fs_type": "ext4"}


@pytest.fixture(scope="session")
def driver():
    """The driver by which these tests map: what RBD_LAB_DRIVER names (./lab test vm sets it), else what this host can."""
    from saltrbd import device_find

    return device_find.choose_driver(os.environ.get("RBD_LAB_DRIVER", "auto"))[0]


@pytest.fixture
def only_fuse(driver):
    """Skip a test of what only the driver fuse has."""
    if driver != "fuse":
        pytest.skip(f"mapped by {driver}")


@pytest.fixture(scope="module")
def make_minion_config(tmp_path_factory, repo, cluster, pool):
    """Write a masterless minion's configuration folder: ``make(pillar={...}, config={...})``.

    The pillar's ``ceph:`` names the tests' cluster and this file's pool unless the caller gives another; the folder's
    ``minion`` file serves ``salt-call -c FOLDER`` as well.
    """

    def make(pillar=None, config=None):
        folder = tmp_path_factory.mktemp("minion")
        content = {"ceph": ceph_pillar(cluster, pool), **(pillar or {})}
        if "RBD_LAB_DRIVER" in os.environ:
            content["rbd"] = {"driver": os.environ["RBD_LAB_DRIVER"], **content.get("rbd", {})}
        for name, text in (("top", {"base": {"*": ["all"]}}), ("all", content)):
            path = folder / "pillar" / f"{name}.sls"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(text))
        (folder / "states").mkdir()
        minion = {
            "id": "tests",
            "file_client": "local",
            "root_dir": str(folder / "root"),
            "cachedir": str(folder / "root/cache"),
            "pki_dir": str(folder / "root/pki"),
            "sock_dir": str(folder / "root/run"),
            "log_file": str(folder / "minion.log"),
            "extension_modules": str(folder / "root/extmods"),
            "module_dirs": [str(repo)],
            "file_roots": {"base": [str(folder / "states")]},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
            **(config or {}),
        }
        (folder / "minion").write_text(json.dumps(minion))
        return folder

    return make


@pytest.fixture(scope="module")
def make_loaders(make_minion_config):
    """Return new Loaders for another pillar or configuration: ``make_loaders(pillar={...}, config={...})``."""
    import salt_loaders

    return lambda pillar=None, config=None: salt_loaders.make_loaders(make_minion_config(pillar, config) / "minion")


@pytest.fixture(scope="module")
def loaders(make_loaders):
    """Salt's loaders with this checkout's modules and the tests' cluster in the pillar."""
    return make_loaders()


@pytest.fixture
def modules(loaders):
    """Execution modules: ``modules.rbd_image.info(spec)``."""
    return loaders.modules


@pytest.fixture
def states(loaders):
    """States, each run by itself through Salt: ``states.rbd_image.present(spec, size="8M", test=True)``."""
    return loaders.states


@pytest.fixture(scope="module")
def other_pool(make_pool, rbd_cli):
    """Another pool, with the namespace n."""
    other = make_pool()
    rbd_cli("namespace", "create", f"{other}/n")
    return other


@pytest.fixture
def own_pace(cluster):
    """The monitor hands out snapshots' ids as rarely as a user's does: once per second (paxos_propose_interval)."""
    lab_cluster.ceph(cluster.folder, "config", "rm", "mon", "paxos_propose_interval")
    yield
    lab_cluster.hasten(cluster.folder)


@pytest.fixture
def digest(cluster):
    """The sha256 of an image's content, read through librbd: ``digest(spec)``."""

    def read(spec):
        argv = ["rbd", "--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "export", "--no-progress", spec, "-"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            found = hashlib.sha256()
            for piece in iter(lambda: process.stdout.read(1 << 20), b""):
                found.update(piece)
        assert process.returncode == 0
        return found.hexdigest()

    return read


@pytest.fixture
def table():
    """The path of /etc/fstab as it was, put back at the end."""
    from saltrbd import fstab

    before = fstab.read()
    yield Path(fstab.PATH)
    if fstab.read() != before:
        Path(fstab.PATH).write_bytes(before)


class StateRun:
    """Renders and runs small SLS texts as Salt would run a file of the state tree."""

    def __init__(self, loaders):
        self._loaders = loaders

    def __call__(self, text, test=False, pillar=None):
        """Apply the text and return the results in the order of the run; text that Salt refuses fails the test."""
        ran = self._apply(text, test, pillar)
        assert not ran.failed, f"Salt refused the SLS: {ran.errors}"
        return list(ran)

    def refused(self, text, test=False, pillar=None):
        """Apply a text that Salt must refuse before any state runs, and return its errors."""
        ran = self._apply(text, test, pillar)
        assert ran.failed, f"Salt ran the SLS instead of refusing it: {[result.state_id for result in ran]}"
        return ran.errors

    def _apply(self, text, test, pillar):
        name = f"s{uuid.uuid4().hex[:8]}"
        opts = self._loaders.opts
        with open(f"{opts['file_roots']['base'][0]}/{name}.sls", "w") as sls:
            sls.write(text)
        extra = {} if pillar is None else {"pillar": pillar}
        return self._loaders.modules.state.apply(name, test=test, **extra)


@pytest.fixture
def state_run(loaders):
    """Run an SLS: ``state_run(text, test=True)`` returns the results, ``state_run.refused(text)`` Salt's errors."""
    return StateRun(loaders)


@pytest.fixture
def state_run_with():
    """Return a ``state_run`` on other loaders: ``state_run_with(make_loaders(...))``."""
    return StateRun


@pytest.fixture(autouse=True)
def fresh_context(request):
    """Each test begins with an empty ``__context__`` and cache, as each Salt run does."""
    yield
    if "loaders" in request.fixturenames:
        request.getfixturevalue("loaders").reset_state()


def _facts(cluster):
    return {"fsid": cluster.fsid, "conf": cluster.conf, "monitors": cluster.monitors}


@pytest.fixture(autouse=True)
def nothing_left_behind(cluster):
    """After each test, take off what it left mounted, mapped or running; a stopped daemon goes on."""
    yield
    known = _facts(cluster)
    processes.resume(lab_cluster.daemons(cluster.folder).values())
    if any(lab_cleanup.leftovers(known)):
        problems = lab_cleanup.release(known, alive=True)
        assert not problems, problems


@pytest.fixture(autouse=True, scope="session")
def nothing_left_at_the_end(cluster):
    """After the last test, fail where anything of the cluster is still on this host."""
    yield
    left = lab_cleanup.describe(lab_cleanup.leftovers(_facts(cluster)))
    assert not left, left


@pytest.fixture
def converges(states):
    """Run a state as a user would: dry, for real, and both again; return the real run's result.

    ``converges("rbd_image.present", spec, size="8M")`` asserts that the dry run predicts exactly the changes of the real
    run, changes nothing itself, and that nothing is left to do after it.
    """

    def run(function, *args, **kwargs):
        state = operator.attrgetter(function)(states)
        dry = state(*args, test=True, **kwargs)
        assert dry.result is None, dry.comment
        assert dry.changes
        real = state(*args, **kwargs)
        assert real.result is True, real.comment
        assert real.changes == dry.changes
        for test in (True, False):
            again = state(*args, test=test, **kwargs)
            assert again.result is True, again.comment
            assert again.changes == {}
        return real

    return run


@pytest.fixture
def refuses(states):
    """Run a state that must refuse, dry and for real; return the comment, which both runs share.

    ``refuses("rbd_image.present", spec)`` asserts that the result is False, without changes and without a traceback.
    """

    def run(function, *args, **kwargs):
        state = operator.attrgetter(function)(states)
        comments = set()
        for test in (True, False):
            ran = state(*args, test=test, **kwargs)
            assert ran.result is False, ran.comment
            assert ran.changes == {}
            assert "Traceback" not in ran.comment
            comments.add(str(ran.comment))
        assert len(comments) == 1, comments
        return comments.pop()

    return run


@pytest.fixture
def unchanged(states):
    """Run a state that has nothing to do, dry and for real."""

    def run(function, *args, **kwargs):
        for test in (True, False):
            ran = operator.attrgetter(function)(states)(*args, test=test, **kwargs)
            assert ran.result is True, ran.comment
            assert ran.changes == {}

    return run
