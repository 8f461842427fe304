"""The worker as a process: which interpreter, what it may be written in, and what is said when it cannot start."""

import ast
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from saltrbd import errors, process, settings
from saltrbd.calls import CALLS
from saltrbd.process import SYSTEM_PYTHON, Worker, interpreters

REPO = Path(__file__).resolve().parents[2]
FILES = sorted((REPO / "_utils/saltrbd/worker").glob("*.py"))
# What a worker may import besides Python's own: Ceph's bindings, and its neighbours.
BINDINGS = {"rados", "rbd"}


def chosen(monitors=("127.0.0.1:1",), conf="", keyring="", **rbd):
    """Settings of a cluster that nobody answers for."""
    ceph = {"monitors": list(monitors), "conf": conf, "keyring": keyring}
    return settings.load({"id": "tests"}, {"ceph": ceph, "rbd": {"timeout": 1, **rbd}})


@pytest.fixture
def keyring(tmp_path):
    """A keyring that is well-formed; no cluster knows its key."""
    path = tmp_path / "keyring"
    path.write_text("[client.admin]\n\tkey = AQBSdFhfAAAAABAAZ0a8Q1VbGm1yCqLJf3mQdg==\n")
    return str(path)


@pytest.fixture
def script(tmp_path):
    """Make a program: ``script(text)`` returns its path."""

    def make(text):
        path = tmp_path / "program"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)

    return make


def refusal(kind, *args, **kwargs):
    with pytest.raises(kind) as caught:
        Worker.start(chosen(*args, **kwargs))
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_worker_is_python_3_6(file):
    ast.parse(file.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_worker_imports_only_pythons_own_and_the_bindings(file):
    allowed = BINDINGS | {path.stem for path in FILES} | set(sys.stdlib_module_names)
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= allowed


def test_every_operation_has_its_words():
    operations = set()
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "OPERATIONS":
                operations |= {key.value for key in node.value.keys}
    assert operations == set(CALLS)


@pytest.mark.parametrize("file", sorted([*REPO.glob("_modules/*.py"), *REPO.glob("_states/*.py")]), ids=lambda file: file.stem)
def test_modules_ask_the_package_first(file):
    """``from saltrbd import ...`` notices a newer core; ``from saltrbd.x import ...`` before it would take an old one."""
    imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in imports if node.module.startswith("saltrbd")][:1] in (["saltrbd"], [])


def test_interpreters():
    assert interpreters(chosen()) == [sys.executable, SYSTEM_PYTHON]
    assert interpreters(chosen(python="/opt/python")) == ["/opt/python"]


def test_salts_python_is_the_systems(monkeypatch):
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    assert interpreters(chosen()) == [SYSTEM_PYTHON]
    monkeypatch.setattr(sys, "executable", "")
    assert interpreters(chosen()) == [SYSTEM_PYTHON]


def test_salts_python_cannot_import_rbd():
    """Else this run shows nothing of what the worker is there for."""
    tried = subprocess.run([sys.executable, "-c", "import rbd"], stderr=subprocess.PIPE, timeout=30)
    assert b"ModuleNotFoundError" in tried.stderr


def test_no_bindings():
    said = refusal(errors.NoBindings, python=sys.executable)
    assert said.startswith(f"No Python on this host can import rados and rbd ({sys.executable}: No module named '")
    assert "Install python3-rados and python3-rbd" in said
    assert "rbd:python" in said


def test_no_such_python():
    assert "(/nowhere/python3: No such file or directory)" in refusal(errors.NoBindings, python="/nowhere/python3")


def test_not_a_python(script, tmp_path):
    said = refusal(errors.WorkerDied, python=script("echo '{\"hello\": 1'; echo what is this >&2; exit 3\n"))
    assert said == (
        "The worker process ended before it had connected with code 3; its last words: what is this. "
        f"The program {tmp_path}/program, which rbd:python names, must be a Python 3.6 or newer with the modules rados and rbd."
    )
    assert "The program /bin/true, which rbd:python names, must be a Python" in refusal(errors.WorkerDied, python="/bin/true")


def test_killed_while_it_starts(script):
    said = refusal(errors.WorkerDied, python=script("kill -9 $$\n"))
    assert said.startswith("The worker process ended before it had connected by SIGKILL. The program /")


def test_a_python_that_hangs(script):
    began = time.monotonic()
    said = refusal(errors.WorkerDied, python=script("exec sleep 60\n"))
    assert said.startswith("The worker process did not start within 1 s. The program /") and "which rbd:python names" in said
    assert time.monotonic() - began < 3


def test_environment(script, tmp_path, monkeypatch):
    """Nothing of Salt's own Python and nothing that librados would obey reaches the worker; nor do Salt's descriptors."""
    for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "CEPH_ARGS", "CEPH_CONF", "CEPH_KEYRING"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "other", "w") as other:
        os.set_inheritable(other.fileno(), True)
        refusal(errors.WorkerDied, python=script(f"(env; pwd; ls -l /proc/self/fd) > {tmp_path}/seen\n"))
    seen = (tmp_path / "seen").read_text()
    assert "KEPT=kept" in seen
    assert not re.search("^(PYTHON|LD_|CEPH_)", seen, re.MULTILINE)
    assert "\n/\n" in seen
    assert str(tmp_path / "other") not in seen


def test_monitors_that_nobody_serves(keyring):
    began = time.monotonic()
    said = refusal(errors.ClusterUnreachable, keyring=keyring)
    assert said.startswith("Connecting to the cluster at 127.0.0.1:1 as client.admin had no answer within 1 s.")
    assert time.monotonic() - began < 3


def test_monitors_that_never_answer(keyring):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        said = refusal(errors.ClusterUnreachable, monitors=[address], keyring=keyring)
        assert f"the cluster at {address} as client.admin had no answer within 1 s." in said
        assert time.monotonic() - began < 3


def test_monitors_of_the_configuration_file_are_named(keyring, tmp_path):
    conf = tmp_path / "ceph.conf"
    conf.write_text("[global]\nmon_host = 127.0.0.1:1\n")
    assert f"the cluster at 127.0.0.1:1 ({conf}) as" in refusal(errors.ClusterUnreachable, monitors=[], conf=str(conf), keyring=keyring)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read (No such file or directory); name it as ceph:conf, or give ceph:monitors."),
        ("[[[\n= =\n", "Ceph does not understand the configuration file"),
        ("[global]\n", "no monitor is named there."),
        ("[global]\nmon_host = no.such.host.invalid\n", "'no.such.host.invalid' are unknown or cannot be understood."),
    ],
)
def test_configuration_file(keyring, tmp_path, text, words):
    conf = tmp_path / "ceph.conf"
    if text is not None:
        conf.write_text(text)
    said = refusal(errors.InvalidConfiguration, monitors=[], conf=str(conf), keyring=keyring, timeout=10)
    assert said.startswith("Connecting to the cluster at ")
    assert str(conf) in said
    assert words in said


def test_nothing_is_left(keyring):
    """Neither descriptors nor children, however the start went."""
    before = len(os.listdir("/proc/self/fd"))
    for options in ({"python": "/bin/true"}, {"python": "/nowhere"}, {"keyring": keyring, "timeout": 0.3}):
        with pytest.raises(errors.RbdError):
            Worker.start(chosen(**options))
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("monitors", "hinted"),
    [
        ("10.0.0.5", False),
        ("10.0.0.5:6789", False),
        ("10.0.0.5, 10.0.0.6:3300", False),
        ("v2:10.0.0.5:40001", False),
        ("v2:10.0.0.5:40001/0, v1:10.0.0.5:40002/0", False),
        ("[v2:10.0.0.5:40001/0,v1:10.0.0.5:40002/0]", False),
        ("v2:[2001:db8::5]:40001", False),
        ("2001:db8::5", False),
        ("/etc/ceph/ceph.conf", False),
        ("10.0.0.5:40001", True),
        ("10.0.0.5:33000", True),
        ("v2:10.0.0.5:40001, mon.example:40002", True),
        ("10.0.0.5,10.0.0.6:40001/0", True),
        ("[2001:db8::5]:40001", True),
    ],
)
def test_a_port_without_a_protocol_is_told(monitors, hinted):
    assert bool(process._BARE_PORT.search(monitors)) == hinted
