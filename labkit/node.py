"""One node of the lab: a container that systemd boots as process 1, its disk, commands inside it.

Its disk is a layer of its own over the root of ``node_image``: a reboot keeps it, the end throws it away. It reaches the lab's bridge
and nothing else. Salt's environment of this host is there under the same path, so that Salt can be run before a state has installed any.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

from labkit import bridge, cgroups, guests, loops, processes
from labkit.commands import LabError, clean_environment, run
from labkit.home import REPO
from labkit.node_image import PACKAGES, WHEELHOUSE

# Where the management host has this checkout, as it is now, for reading.
CHECKOUT = "/srv/salt-rbd"
MANAGEMENT = "management"

NUMBERS = range(1, 10)

PROGRAM = "systemd-nspawn"

# It takes 3 s on an idle host; this is for a busy one.
BOOT_SECONDS = 120
# Its services, mounts and devices end in their order; more than one of them waiting for its own limit is a failure.
STOP_SECONDS = 100

NETWORK = """\
[Match]
Name=host0

[Network]
Address={address}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


def name_of(number):
    """Return the name of the node with this number: the first is the management host."""
    return MANAGEMENT if number == 1 else f"node{number - 1}"


class Node:
    """The node with a number (from 1) of the lab in ``home``, on a :class:`labkit.bridge.Network`."""

    def __init__(self, home, number, network):
        self.home = home
        self.number = number
        self.network = network
        self.name = name_of(number)
        self.address = bridge.address(network, number)
        # Unique on this host, and short: a network device is named after it.
        self.machine = f"{network.bridge}-{number}"
        self.folder = home.folder / f"node{number}"
        self.root = self.folder / "root"
        self.console = self.folder / "console.log"
        self._started = self.folder / "started.json"

    def _known(self, key):
        return json.loads(self._started.read_text())[key]

    @property
    def venv(self):
        """Salt's environment of this host, at the same path inside."""
        return self._known("venv")

    def pids(self):
        """Return the pid of the container's manager, in a list; none where the node does not run."""
        return processes.find(self._is_it)

    def _is_it(self, argv):
        return os.path.basename(argv[0]) == PROGRAM and f"--machine={self.machine}" in argv

    def leader(self):
        """Return the pid, on this host, of the node's process 1; 0 where it does not run."""
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                for child in map(int, task.read_text().split()):
                    if processes.arguments(child) and "systemd" in processes.arguments(child)[0]:
                        return child
        return 0

    def start(self, image, venv):
        """Boot the node from the image in the folder ``image``, with an empty layer or the one that it has; ``wait`` waits for it."""
        if not self._started.exists():
            self._clear()
            for name in ("upper", "work", "root"):
                (self.folder / name).mkdir(parents=True)
            self.folder.chmod(0o711)
            self._started.write_text(json.dumps({"image": str(image), "venv": str(venv), "loops": loops.reserve()}) + "\n")
        if not self.root.is_mount():
            layers = f"lowerdir={self._known('image')}/root,upperdir={self.folder}/upper,workdir={self.folder}/work"
            run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root])
            self._configure()
        # A machine that starts has none attached; a container's reboot leaves them in this host's kernel.
        loops.detach(self._known("loops"))
        cgroups.make(self.machine)
        with open(self.console, "ab") as console:
            subprocess.run(
                ["setsid", "--fork", *self._command()],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                timeout=30,
                check=True,
                preexec_fn=lambda: cgroups.join(self.machine),
            )
        deadline = time.monotonic() + 10
        while not self.pids() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _configure(self):
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        lines = [f"{bridge.address(self.network, number)} {name_of(number)}" for number in NUMBERS]
        (self.root / "etc/hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        (self.root / "etc/systemd/network/10-lab.network").write_text(NETWORK.format(address=self.address))
        (self.root / "etc/tmpfiles.d/lab.conf").write_text(loops.device_files(self._known("loops")))

    def _command(self):
        argv = [PROGRAM, "--quiet", f"--directory={self.root}", f"--machine={self.machine}", f"--hostname={self.name}", "--boot"]
        argv += [f"--network-bridge={self.network.bridge}", "--keep-unit", "--register=no", "--resolv-conf=off", "--capability=all"]
        image = self._known("image")
        read_only = {image + "/packages": PACKAGES, image + "/wheels": WHEELHOUSE, self.venv: self.venv}
        if self.name == MANAGEMENT:
            read_only[REPO] = CHECKOUT
        argv += [f"--bind-ro={source}:{target}" for source, target in read_only.items()]
        # With the real /dev/loop-control, losetup would be given the lowest device that is free on this host; with a plain file
        # under that name it takes one of those that it sees.
        control = self.folder / "loop-control"
        control.touch()
        return [*argv, "--bind=/dev/fuse", f"--bind={control}:/dev/loop-control"]

    def wait(self, seconds=BOOT_SECONDS):
        """Wait until the node has booted; return the names of the units that failed."""
        deadline = time.monotonic() + seconds
        state = "no answer"
        while time.monotonic() < deadline:
            if not self.pids():
                raise LabError(f"The node {self.name} ended while it booted. {guests.last_words(self.console)}")
            # Its process 1 has no name yet while it becomes systemd.
            with contextlib.suppress(LabError):
                state = self.run("systemctl", "is-system-running", timeout=30, check=False)[1].strip()
            if state in ("running", "degraded"):
                return self.failed_units()
            time.sleep(0.2)
        raise LabError(f"The node {self.name} did not boot within {seconds} s ({state}). {guests.last_words(self.console)}")

    def failed_units(self):
        """Return the names of the units that failed."""
        lines = self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")[1].splitlines()
        return [line.split()[0] for line in lines]

    def reboot(self):
        """Reboot the node from inside and wait until it is up again; return the names of the units that failed."""
        self.run("systemctl", "--no-block", "reboot")
        self._gone("reboot")
        return self.restart()

    def restart(self):
        """Boot the node again that has ended, and wait until it is up; return the names of the units that failed."""
        self.start(self._known("image"), self.venv)
        return self.wait()

    def crash(self):
        """End the node as if its power failed; ``restart`` boots it again from what its disk holds."""
        self._kill()
        self._gone("end")

    def _kill(self):
        """Kill process 1, and with it all inside; its FUSE mounts end before. A daemon that dies with the last hold on a mount that it
        serves itself would wait for itself in the kernel, for ever."""
        leader = self.leader()
        if not leader:
            return
        control = self.folder / "fuse-connections"
        control.mkdir(exist_ok=True)
        run(["mount", "-t", "fusectl", "fusectl", control])
        try:
            for line in Path(f"/proc/{leader}/mountinfo").read_text().splitlines():
                fields, _, after = line.partition(" - ")
                if after.split()[0].partition(".")[0] in ("fuse", "fuseblk"):
                    with contextlib.suppress(OSError):  # ended by itself meanwhile
                        (control / fields.split()[2].partition(":")[2] / "abort").write_text("1")
        finally:
            run(["umount", control])
        os.kill(leader, signal.SIGKILL)

    def _gone(self, what):
        deadline = time.monotonic() + STOP_SECONDS
        while self.pids():
            if time.monotonic() > deadline:
                raise LabError(f"The node {self.name} did not {what} within {STOP_SECONDS} s. {guests.last_words(self.console)}")
            time.sleep(0.1)

    def end(self):
        """Shut the node down, or end it where it does not, and throw away what it wrote; return a sentence for what stayed."""
        if not self.folder.exists():
            return []
        self.power_off()
        self._await_power_off()
        stuck = processes.end(self.pids(), self._is_it)
        if stuck:
            return [f"The node {self.name} (pid {stuck[0]}) did not end even after SIGKILL."]
        left = [f"The control group {path} is still in use." for path in cgroups.remove(self.machine)]
        if self._started.exists():
            loops.detach(self._known("loops"))
            left += loops.release(self._known("loops"))
        self._clear()
        return left

    def power_off(self):
        """Ask the node to shut down; ``end`` waits for it."""
        if self.leader():
            # What systemd takes as the wish to power off.
            os.kill(self.leader(), signal.SIGRTMIN + 4)

    def _await_power_off(self):
        try:
            self._gone("power off")
        except LabError as problem:
            print(problem)
            self._kill()

    def _clear(self):
        if self.root.is_mount():
            run(["umount", self.root])
        shutil.rmtree(self.folder, ignore_errors=True)

    def _inside(self, words, extra):
        leader = self.leader()
        if not leader:
            raise LabError(f"The node {self.name} does not run; ./lab nodes up boots it.")
        path = f"{self.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {"PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb"), **extra}
        enter = ["nsenter", f"--target={leader}", *["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"], "--"]
        return [
            *cgroups.enter(self.machine),
            *enter,
            "env",
            "-i",
            *(f"{key}={value}" for key, value in variables.items()),
            *(str(word) for word in words),
        ]

    def run(self, *words, timeout=300, check=True, stdin_text=None, **extra):
        """Run a program inside and return ``(exit code, stdout, stderr)``; variables may be given by name."""
        return run(self._inside(words, extra), timeout=timeout, check=check, stdin_text=stdin_text)

    def shell(self, line, timeout=300, check=True):
        """Run a line for the shell inside and return ``(exit code, stdout, stderr)``."""
        return self.run("sh", "-c", line, timeout=timeout, check=check)

    def write(self, path, text, mode=0o644):
        """Write a file inside; its folder is made."""
        line = f"mkdir -p {shlex.quote(os.path.dirname(path))} && umask 077 && cat >{shlex.quote(path)}"
        self.run("sh", "-c", f"{line} && chmod {mode:o} {shlex.quote(path)}", stdin_text=text)

    def become(self, words):
        """Replace this process by a program inside, or by a shell there, for the person at the terminal."""
        argv = self._inside(words or ["bash", "-i"], {})
        os.execvpe(argv[0], argv, clean_environment())
