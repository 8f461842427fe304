"""The lab ends processes by what their command line says: real ones, started here."""

import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from labkit import processes


@pytest.fixture
def mark():
    return f"mark-{uuid.uuid4().hex}"


@pytest.fixture
def start(mark):
    """Start a Python process with the mark among its arguments; it is ready when it has said so."""
    started = []

    def run(code="pass"):
        script = f"import signal, sys, time; {code}; print('ready', flush=True); time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-c", script, mark], stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield run
    for child in started:
        child.kill()
        child.communicate()


def marked(mark):
    return lambda argv: mark in argv


def test_found_by_argument_and_gone_after_end(mark, start):
    first, second = start(), start()
    assert processes.find(marked(mark)) == sorted([first.pid, second.pid])
    assert processes.end([first.pid], marked(mark)) == []
    assert first.wait(5) == -signal.SIGTERM
    assert processes.find(marked(mark)) == [second.pid]


def test_a_pid_that_belongs_to_another_program_by_now_is_left_alone(start):
    child = start()
    assert processes.end([child.pid], marked("something else")) == []
    assert child.poll() is None


def test_a_pid_that_is_gone_is_no_error(mark, start):
    child = start()
    child.kill()
    child.wait()
    assert processes.end([child.pid], marked(mark)) == []


def test_who_ignores_sigterm_is_killed(mark, start):
    child = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    began = time.monotonic()
    assert processes.end([child.pid], marked(mark), patience=0.3) == []
    assert child.wait(5) == -signal.SIGKILL
    assert time.monotonic() - began < 3


def test_a_stopped_process_ends_and_goes_on(mark, start):
    child = start()
    os.kill(child.pid, signal.SIGSTOP)
    while processes.state(child.pid) != "T":
        time.sleep(0.01)
    processes.resume([child.pid])
    while processes.state(child.pid) == "T":
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGSTOP)
    assert processes.end([child.pid], marked(mark), patience=5) == []
    assert child.wait(5) == -signal.SIGTERM


def test_our_own_process_is_never_found():
    assert os.getpid() not in processes.find(lambda argv: True)
