"""``./lab`` on a system that cannot carry it: it says what is missing, changes nothing, and ends with exit code 3.

Each case really takes something away, in a mount namespace or by dropping a capability.
"""

import json
import subprocess

import pytest


@pytest.fixture
def lab(repo, tmp_path):
    """Run ``./lab up`` after a preparing shell command, in a mount namespace of its own, by way of another program."""

    def run(prepare="true", command="up", via=""):
        script = f'{prepare} && exec {via} "$0" {command}'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, str(repo / "lab")],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "RBD_LAB_HOME": str(tmp_path / "home"), "TMP": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    yield run
    assert not (tmp_path / "home").exists()


def refused(result, *sentences):
    assert result.returncode == 3, result
    assert result.stderr.startswith("This system cannot carry the lab, and nothing was changed:\n")
    lines = result.stderr.splitlines()[1:]
    assert len(lines) == len(sentences), lines
    for line, sentence in zip(lines, sentences):
        assert sentence in line
        assert line.startswith("- ")
        assert line.endswith(".")


def test_another_system(lab, tmp_path):
    (tmp_path / "release").write_text('ID=fedora\nVERSION_ID="43"\n')
    refused(lab('mount --bind "$TMP/release" /etc/os-release'), "It needs Debian 12 or 13")


def test_no_devices(lab, tmp_path):
    (tmp_path / "file").touch()
    hide = 'mount --bind "$TMP/file" /dev/fuse && mount --bind "$TMP/file" /dev/loop-control'
    # A kernel with rbd needs neither.
    gone = "mkdir -p $TMP/empty && if [ -d /sys/bus/rbd ]; then mount --bind $TMP/empty /sys/bus; fi"
    refused(lab(f"{hide} && {gone} && PATH=/usr/bin:/bin"), "/dev/fuse", "/dev/loop-control")


def test_everything_wrong_comes_in_one_message(lab, tmp_path):
    (tmp_path / "release").write_text("ID=debian\nVERSION_ID=11\n")
    few = "echo 'MemAvailable: 500000 kB' >$TMP/meminfo && mount --bind $TMP/meminfo /proc/meminfo"
    result = lab(f"mount --bind $TMP/release /etc/os-release && {few}")
    refused(result, "this is debian 11", "It needs 1024 MiB of free memory; 488 MiB are free.")


def test_no_capability_to_mount(lab):
    refused(lab(via="setpriv --bounding-set=-sys_admin"), "CAP_SYS_ADMIN")


def test_not_root(lab):
    # Another user, who may still read the checkout wherever it lies.
    read = "--inh-caps=+dac_override --ambient-caps=+dac_override"
    refused(lab(via=f"setpriv --reuid=65534 --clear-groups {read}"), "It must run as root")


def test_down_and_status_where_it_never_was(lab):
    down = lab(command="down")
    assert (down.returncode, down.stdout) == (0, "The lab is down; it was never up here.\n")
    status = lab(command="status")
    assert (status.returncode, status.stdout) == (1, "The lab is not running; ./lab up starts it.\n")


@pytest.mark.parametrize("words", [[], ["-c", "ceph -s"]])
def test_a_shell_for_a_cluster_that_does_not_run(words, repo, tmp_path):
    """It was up, and its daemons ended: Ceph's commands would wait for its monitor for five minutes."""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/facts.json").write_text(json.dumps({"monitors": ["127.0.0.1:1"], "conf": "/nowhere"}))
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "RBD_LAB_HOME": str(tmp_path)}
    said = subprocess.run([repo / "lab", "shell", *words], env=env, capture_output=True, text=True, timeout=20)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "The lab's cluster is not running: no monitor listens at 127.0.0.1:1. ./lab up brings it up again.\n"


def test_a_shell_where_it_never_was_up(lab):
    said = lab(command="shell")
    assert (said.returncode, said.stderr) == (1, "The lab is not running; start it with ./lab up.\n")


@pytest.mark.parametrize("command", ["frobnicate", "-x"])
def test_an_unknown_command_shows_the_known_ones(lab, command):
    result = lab(command=command)
    assert result.returncode == 2
    assert "usage: ./lab COMMAND" in result.stderr
    assert result.stderr.endswith(f"There is no command {command}.\n")
