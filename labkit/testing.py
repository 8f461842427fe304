"""``./lab test``: pytest against a cluster of the tests' own, on the Salt versions in support; and the linters."""

import contextlib
import subprocess
from pathlib import Path

from labkit import cleanup, cluster, lane, lint, nodes, prepare, vm
from labkit.commands import LabError, Step, clean_environment
from labkit.home import REPO

TESTS = REPO / "tests"

# Parts that run without the tests' cluster; machines and nodes have their own.
PURE = ("unit", "vm", "nodes", "vagrant")

# Seconds for one run of pytest, for one that hangs beyond pytest's own limits; emulated machines and booted nodes take longer.
LONGEST_RUN = 3000
LONGEST_RUN_OF_GUESTS = 9000
# Seconds for one that is ended early to take down what its tests made.
PATIENCE = 40
LONGEST_RUN_OF_VAGRANT = 28800

# What pytest ends with where it has collected nothing.
NO_TESTS = 5

# A part that mounts in a mount namespace of its own: a container that starts meanwhile would hold copies of mounts that come and go.
# What is mounted outside, by systemd for instance, shows inside. The part of Vagrant mounts over libvirt's and lxc's folders.
APART, OWN_MOUNTS = "faults", ["unshare", "--mount", "--propagation", "slave"]
# What of it is run without any choice: ten kills by a new number. The forced faults take longer, and are asked for, as more kills are.
APART_ALWAYS = ("test_kills.py", "test_secrets.py", "test_secrets_events.py")

# Below Salt: the cluster, the device or the machine fails, and what answers is the core; or states whose way through Salt is that of
# the others, on an image's life. Without a choice they run on one version; ./lab test functional --salt VERSION runs them on any.
ONCE = (
    "test_begun.py",
    "test_benchmark.py",
    "test_blank.py",
    "test_docs.py",
    "test_docs_lifecycle.py",
    "test_docs_snapshots.py",
    "test_export_pillar.py",
    "test_faults.py",
    "test_freeze.py",
    "test_lab.py",
    "test_long_snapshot_work.py",
    "test_one_moment.py",
    "test_platform_secrets.py",
    "test_platform_writers.py",
    "test_quiesce.py",
    "test_rbd_clone_flattened.py",
    "test_rbd_cluster.py",
    "test_rbd_device_faults.py",
    "test_rbd_device_fenced.py",
    "test_rbd_encryption.py",
    "test_rbd_encryption_killed.py",
    "test_rbd_filesystem_killed.py",
    "test_rbd_filesystem_lock.py",
    "test_rbd_health.py",
    "test_rbd_image_removed.py",
    "test_rbd_image_renamed.py",
    "test_rbd_image_shrunk.py",
    "test_rbd_image_trash.py",
    "test_rbd_namespace.py",
    "test_rbd_snapshot_retained.py",
    "test_rbd_snapshot_rolled_back.py",
    "test_rbd_snapshot_undo.py",
    "test_second_look.py",
    "test_trashed_counted.py",
    "test_two_clients.py",
    "test_worker.py",
    "test_worker_dies.py",
)


def main(home, words):
    """Run what the words ask for and return pytest's exit code, or the linters'."""
    home.make()
    version, parts, rest = _understand(words)
    if parts == ["lint"]:
        return lint.main(home)
    home.tests().make()
    runs = _runs(version, parts, rest)
    with home.tests().locked(), contextlib.ExitStack() as stack:
        second = None
        if runs == _runs(None, [], []):
            for salt in (prepare.SALT, prepare.OTHER_SALT):
                prepare.salt_environment(home, salt)
            second = stack.enter_context(lane.beside(home, rest))
        codes = [_run(home, salt, folders, rest) for salt, folders in runs]
        if second:
            codes.append(second())
    return _code(codes, len(runs) > 1 or parts == [lane.WORD])


def _code(codes, several):
    """Return the exit code of all runs: the last one's closing line is the last line, so an earlier failure must not be forgotten."""
    # Words of pytest's such as -k may leave nothing of one run of several.
    if several and set(codes) != {NO_TESTS}:
        codes = [code for code in codes if code != NO_TESTS]
    return max(codes)


def _understand(words):
    """Split the words into a Salt version, the parts that are asked for, and what is pytest's."""
    version, parts, rest = None, [], []
    known = ["lint", lane.WORD, *_folders()]
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--salt":
            if not words:
                raise LabError("--salt wants a version, for instance: ./lab test --salt 3006.28")
            version = words.pop(0)
        elif word.startswith("--salt="):
            version = word[len("--salt=") :]
        elif word in known and not rest:
            parts.append(word)
        else:
            rest.append(word)
    if "lint" in parts and parts != ["lint"]:
        raise LabError("lint runs alone: ./lab test lint")
    return version, parts, rest


def _folders():
    return sorted(entry.parent.name for entry in TESTS.glob("*/test_*.py"))


def _runs(version, parts, rest):
    """Return ``[(Salt version, [paths])]``; without any choice it is the first lane's half of everything."""
    named = [word for word in rest if word.startswith("tests/") and (REPO / word.partition("::")[0]).exists()]
    half, other = _halves()
    if parts == [lane.WORD]:
        return [(prepare.OTHER_SALT, _on_both()), (prepare.SALT, other)]
    if parts or named:
        # A part beside files of it says where they are, not that all of it shall run.
        narrowed = {word.split("/")[1] for word in named}
        return [(version or prepare.SALT, [TESTS / part for part in parts if part not in narrowed])]
    apart = [TESTS / APART / name for name in APART_ALWAYS]
    default = [TESTS / part for part in ("unit", "functional", "integration") if part in _folders()]
    if version:
        return [(version, apart), (version, default)]
    return [(prepare.SALT, apart), (prepare.SALT, [TESTS / "unit", *half])]


def _halves():
    """Return the functional tests, and those of what is together (integration), as two lists of files that take about as long."""
    paths = sorted(path for part in ("functional", "integration") for path in TESTS.glob(f"{part}/test_*.py"))
    return paths[::2], paths[1::2]


def _on_both():
    """The functional tests that run on the other Salt version too, when nothing is chosen."""
    return [path for path in sorted(TESTS.glob("functional/test_*.py")) if path.name not in ONCE]


def _run(home, salt, folders, rest):
    venv = prepare.salt_environment(home, salt)
    named = [REPO / word.partition("::")[0] for word in rest if word.startswith("tests/")]
    parts = [path.relative_to(TESTS).parts[0] for path in [*folders, *named]]
    needs_cluster = any(part not in PURE for part in parts) or not parts
    with contextlib.ExitStack() as stack:
        facts = stack.enter_context(_cluster(home.tests())) if needs_cluster else {}
        for part, labs in (("vm", vm), ("nodes", nodes)):
            if any(part in Path(word).parts for word in [*folders, *rest]):
                stack.enter_context(labs.for_tests(home.tests()))
        print(f"          pytest on Salt {salt}: {' '.join(_short(path) for path in folders) or ' '.join(rest)}", flush=True)
        env = clean_environment(
            # The environment's own commands, such as salt-call, come before the machine's.
            PATH=f"{venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            RBD_LAB_SALT=salt,
            **{f"RBD_LAB_{name}": value for name, value in facts.items()},
        )
        pytest = [f"{venv}/bin/python", "-m", "pytest", "-o", f"cache_dir={home.folder / 'pytest-cache'}"]
        argv = [*pytest, *rest, *(str(path) for path in folders)]
        limit = LONGEST_RUN if needs_cluster else LONGEST_RUN_OF_GUESTS
        if set(parts) == {APART}:
            argv, limit = [*OWN_MOUNTS, *argv], LONGEST_RUN_OF_GUESTS
        if set(parts) == {"vagrant"}:
            argv, limit = [*OWN_MOUNTS, *argv], LONGEST_RUN_OF_VAGRANT
        try:
            return _call(argv, env, limit)
        except subprocess.TimeoutExpired:
            raise LabError(f"The tests on Salt {salt} did not end within {limit} s and were ended.") from None


def _call(argv, env, limit):
    """Run pytest. Ended early, it is asked first: it takes down what its tests made, their own clusters and bridges among it."""
    process = subprocess.Popen(argv, cwd=REPO, env=env, stdin=subprocess.DEVNULL)
    try:
        return process.wait(limit)
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        process.kill()
        process.wait()


def _short(path):
    return str(Path(path).relative_to(REPO))


@contextlib.contextmanager
def _cluster(home):
    """Give the tests a cluster that knows nothing of earlier runs, and take all of it away after them."""
    cleanup.clear(home.cluster)
    with Step("start the tests' own embedded Ceph"):
        known = cluster.start(home.cluster, quick=True)
    try:
        yield {
            "CONF": known["conf"],
            "KEYRING": known["keyring"],
            "FSID": known["fsid"],
            "MONITORS": ",".join(known["monitors"]),
            "USER": known["user"],
            "CLUSTER": known["folder"],
        }
    finally:
        problems = cleanup.clear(home.cluster)
    if problems:
        raise LabError("\n".join(["The tests left something on this host that could not be taken off:", *problems]))
