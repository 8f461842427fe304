"""A minion that lives for long: after saltutil.sync_all its jobs run the new core, not the one in Python's memory."""

import json
import shutil
import subprocess
import sys

import pytest

# One process of Salt that syncs, calls, and, when it is told that the files have changed, syncs and calls again.
SALT = """
import json, os, sys
import salt.client, salt.config
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
caller = salt.client.Caller(mopts=salt.config.minion_config(sys.argv[1]))
for line in sys.stdin:
    caller.cmd("saltutil.sync_all")
    caller.sminion.gen_modules()  # what the minion does when it hears of the sync
    answers.write(json.dumps([caller.cmd("rbd_probe.value"), caller.cmd("rbd_probe.fsid")]) + "\\n")
"""


@pytest.fixture
def tree(repo, tmp_path):
    """A state tree with the package, and a module of ours that asks its core; ``write(number)`` writes the next version."""
    for name in ("_modules", "_states", "_utils"):
        shutil.copytree(repo / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))

    def write(number):
        (tmp_path / "tree/_utils/saltrbd/probe.py").write_text(f"from saltrbd.spec import parse\nVALUE = {number}\n")
        (tmp_path / "tree/_utils/saltplatform/probe.py").write_text(f"from saltplatform.schema import path\nVALUE = {number}\n")
        (tmp_path / "tree/_modules/rbd_probe.py").write_text(
            "from saltplatform import errors as platform_errors, probe as platform_probe\n"
            "from saltrbd import client, errors, probe, settings\n"
            "from saltrbd.errors import InvalidSpec\n\n\n"
            "def value():\n    assert errors.InvalidSpec is InvalidSpec\n"
            "    assert issubclass(platform_errors.PlatformError, errors.RbdError)\n"
            f"    assert platform_probe.VALUE == probe.VALUE\n    return [{number}, probe.VALUE, errors.__file__]\n\n\n"
            "def fsid():\n    return client.get(settings.load(__opts__, __pillar__)).fsid\n"
        )

    return write


def test_a_sync_is_heard(tree, tmp_path, make_minion_config, cluster):
    folder = make_minion_config(config={"module_dirs": [], "file_roots": {"base": [str(tmp_path / "tree")]}})
    tree(1)
    argv = [sys.executable, "-c", SALT, str(folder / "minion")]
    salt = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask():
        salt.stdin.write("again\n")
        salt.stdin.flush()
        return json.loads(salt.stdout.readline())

    try:
        (module, core, path), fsid = ask()
        assert (module, core, fsid) == (1, 1, cluster.fsid)
        assert path.startswith(str(folder)), "the core is the synced one"
        for number in (2, 3):
            tree(number)
            assert ask() == [[number, number, path], cluster.fsid]
    finally:
        salt.stdin.close()
        salt.wait(30)
        salt.stdout.close()
    assert salt.returncode == 0
