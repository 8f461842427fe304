"""Tools of the host: what they say, and that nothing waits for one without an end."""

import os
import re
import signal
import subprocess
import threading
import time

import pytest
from saltrbd import errors, proc
from saltrbd.run import environment, run, which


def test_output_and_code():
    assert run(["sh", "-c", "echo out; echo err >&2"], 10) == (0, "out\n", "err\n")
    assert run(["sh", "-c", "exit 2"], 10, ok=(0, 2)).code == 2
    assert run(["sh", "-c", "exit 7"], 10, ok=None).code == 7


def test_stdin_is_what_is_given_or_nothing():
    assert run(["cat"], 10, input="täxt").out == "täxt"
    assert run(["cat"], 10).out == ""


def test_words_are_never_a_shells():
    assert run(["printf", "%s", "$(id); `id` | x"], 10).out == "$(id); `id` | x"


def test_a_failure_carries_the_last_lines():
    with pytest.raises(errors.CommandFailed) as caught:
        run(["sh", "-c", "for n in 1 2 3 4 5 6 7 8; do echo line$n >&2; done; exit 3"], 10)
    text = str(caught.value)
    assert "ended with code 3: line3 / line4" in text and "line8" in text and "line2" not in text


def test_a_signal_is_named():
    with pytest.raises(errors.CommandFailed, match="by signal 9"):
        run(["sh", "-c", "kill -9 $$"], 10)


def test_a_missing_tool_names_its_package(monkeypatch, tmp_path):
    with pytest.raises(errors.CommandNotFound, match=r"no-such-tool is not installed on this host\.$"):
        run(["no-such-tool"], 10)
    with pytest.raises(errors.CommandNotFound, match=r"mkfs\.xfs is not installed on this host; install xfsprogs"):
        run([str(tmp_path / "mkfs.xfs")], 10)
    not_a_program = tmp_path / "text"
    not_a_program.write_text("no program")
    not_a_program.chmod(0o755)
    with pytest.raises(errors.CommandFailed, match="cannot be run"):
        run([str(not_a_program)], 10)


def test_the_environment(monkeypatch):
    monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
    monkeypatch.setenv("CEPH_ARGS", "--id other")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PATH", "/elsewhere")
    made = environment({"EXTRA": "1"})
    assert made["LC_ALL"] == "C" and made["EXTRA"] == "1"
    assert not {"LC_MESSAGES", "CEPH_ARGS", "PYTHONPATH"} & set(made)
    assert which("losetup") and which("no-such-tool") is None


def test_the_whole_group_is_killed_at_the_limit(tmp_path):
    began = time.monotonic()
    with pytest.raises(errors.CommandTimeout, match=r"did not end within 0\.5 s and was killed\. It said: begun"):
        run(["sh", "-c", f"echo begun >&2; sleep 61 & echo $! > {tmp_path}/pid; wait"], 0.5)
    assert time.monotonic() - began < 2
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 2
    while proc.start_of(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert proc.start_of(pid) is None


def test_a_daemon_that_keeps_the_output_open_does_not_hold_us(tmp_path):
    began = time.monotonic()
    result = run(["sh", "-c", f"sleep 61 & echo $! > {tmp_path}/pid; echo done"], 10)
    assert result.out == "done\n"
    assert time.monotonic() - began < 2
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def frozen(tmp_path):
    """A mounted filesystem that stands still: whoever writes to it sleeps in the kernel, and SIGKILL does not end that."""
    image, point = tmp_path / "image", tmp_path / "mnt"
    point.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    run(["mkfs.ext4", "-q", image], 60)
    run(["mount", "-o", "loop", image, point], 60)
    run(["fsfreeze", "--freeze", point], 60)
    yield point
    subprocess.run(["fsfreeze", "--unfreeze", point], check=False, timeout=60, capture_output=True)
    run(["umount", point], 60)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_child_in_state_d_is_left_and_named(frozen):
    began = time.monotonic()
    with pytest.raises(errors.CommandTimeout) as caught:
        run(["touch", frozen / "file"], 0.5)
    assert time.monotonic() - began < 4
    found = re.search(r"survives SIGKILL and is left behind: pid (\d+), state D, in the kernel's \w+\.", str(caught.value))
    assert found, str(caught.value)
    run(["fsfreeze", "--unfreeze", frozen], 60)
    deadline = time.monotonic() + 10
    while proc.start_of(int(found.group(1))) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_works_in_threads():
    found = []
    threads = [threading.Thread(target=lambda: found.append(run(["sh", "-c", "sleep 0.2; echo x"], 10).out)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["x\n"] * 8
