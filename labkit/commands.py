"""Running other programs: argument lists, a time limit each, and failures that explain themselves."""

import os
import shlex
import subprocess
import sys
import time


class LabError(Exception):
    """Something the lab cannot go on with; the message is for the person at the terminal."""

    exit_code = 1


class CannotSetUp(LabError):
    """This system cannot carry the lab; nothing was changed."""

    exit_code = 3


def clean_environment(**extra):
    """Return the environment without what would point Ceph, Python or Salt at something of the user's own."""
    drop = ("CEPH_", "PYTHON", "SALT_", "PYENV_", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    kept["LC_ALL"] = "C.UTF-8"
    kept.update(extra)
    return kept


def run(argv, timeout=60, check=True, env=None, stdin_text=None, cwd=None):
    """Run a program to its end and return ``(exit code, stdout, stderr)``.

    A program that outlives its limit is killed, and not waited for: one that hangs in the kernel
    does not go away before the kernel lets it.
    """
    argv = [str(part) for part in argv]
    shown = shlex.join(argv)
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin_text is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=clean_environment() if env is None else env,
            cwd=cwd,
        )
    except FileNotFoundError:
        raise LabError(f"The program {argv[0]} is not installed; run ./lab up, which installs it.") from None
    try:
        out, err = child.communicate(stdin_text, timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        raise LabError(f"This did not end within {timeout} s and was killed: {shown}") from None
    if check and child.returncode != 0:
        said = (err.strip() or out.strip() or "it printed nothing")[-2000:]
        raise LabError(f"This failed with exit code {child.returncode}: {shown}\n{said}")
    return child.returncode, out, err


class Step:
    """One line of progress: what is being done, and the seconds it took.

    On a terminal the line appears at once and gets its seconds at the end; a log gets whole lines only.
    """

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.began = time.monotonic()
        if sys.stdout.isatty():
            print(f"  ....... {self.what}", end="", flush=True)
        return self

    def __exit__(self, kind, value, trace):
        seconds = time.monotonic() - self.began
        start = "\r" if sys.stdout.isatty() else ""
        took = f"{seconds:5.1f} s" if kind is None else " failed"
        print(f"{start}  {took} {self.what}", flush=True)
        return False
