"""One machine of the lab: its process, its disk, commands inside it by ssh, the checkout carried into it.

User Mode Linux, a real Linux kernel that runs as an ordinary process: it has rbd and nbd where this host's kernel has not, needs no
KVM, and runs programs nearly as fast as the host does. The machine starts from the image of ``vm_image`` with a layer of its own
over it that is thrown away when it ends.
"""

import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from labkit import bridge, cluster, guests, processes, vm_image
from labkit.commands import LabError, clean_environment, run
from labkit.home import REPO

CHECKOUT = "/srv/salt-rbd"
# MiB; what it does not use takes nothing from the host.
MEMORY = 1280
PROGRAM = "linux.uml"

# It takes 10 s on an idle host; this is for a busy one.
BOOT_SECONDS = 120

_SKIPPED = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}


class Machine:
    """The machine with a number (from 1) of the lab in ``home``, on a :class:`labkit.bridge.Network`.

    ``home`` is the machines' own: its cluster, and the paths that its files have inside the machine as well.
    """

    def __init__(self, home, number, network):
        self.home = home
        self.number = number
        self.network = network
        self.name = f"lab{number}"
        self.address = bridge.address(network, number)
        self.folder = home.folder / f"machine{number}"
        self.mark = f"umid={bridge.tap_name(network, number)}"
        self.console = self.folder / "console.log"
        # What it was started with; the checkout may want another image by now.
        self._started = self.folder / "started.json"

    @property
    def image(self):
        """The :class:`labkit.vm_image.Image` that it was started from."""
        return vm_image.at(self._known("image"))

    def _known(self, key):
        return json.loads(self._started.read_text())[key]

    def pids(self):
        """Return the pids of the machine's processes, the kernel's own first; none where it does not run."""
        return processes.find(self._is_it)

    def _is_it(self, argv):
        return os.path.basename(argv[0]) == PROGRAM and self.mark in argv

    def start(self, image, venv, salt):
        """Boot the machine from a fresh layer over the image in the folder ``image``; ``wait`` waits for it.

        ``venv`` is Salt's environment, whose path is the same inside, and ``salt`` the disk that holds it.
        """
        self._clear()
        memory = self.folder / "memory"
        memory.mkdir(parents=True, mode=0o700)
        self.folder.chmod(0o700)
        self._started.write_text(json.dumps({"image": str(image), "venv": str(venv)}) + "\n")
        # Its memory is a file: on a disk it would be slow, and in /dev/shm a container has little room.
        run(["mount", "-t", "tmpfs", "-o", f"size={MEMORY + 64}M,mode=700", "lab-machine", memory])
        # By relative names: commas and colons of a path would mean something else on its command line.
        (self.folder / "base").symlink_to(self.image.disk)
        (self.folder / "salt").symlink_to(salt)
        env = clean_environment(TMPDIR="memory", **self._fpstate())
        tap = bridge.add_tap(self.network, self.number)
        with open(self.console, "wb") as console:
            subprocess.run(
                ["setsid", "--fork", *self._command(tap)],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                timeout=30,
                check=True,
            )

    def _fpstate(self):
        """Return the variables with which User Mode Linux runs on this processor; see the C file."""
        if "amx_tile" not in Path("/proc/cpuinfo").read_text().split():
            return {}
        library = self.folder / "fpstate.so"
        run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, REPO / "labkit/machine_fpstate.c"], timeout=60)
        return {"LD_PRELOAD": f"./{library.name}"}

    def _command(self, tap):
        argv = [PROGRAM, self.mark, "uml_dir=.", f"mem={MEMORY}M", "ubd0=layer,base", "ubd1r=salt", "root=/dev/ubda", "rw"]
        argv += [f"vec0:transport=tap,ifname={tap},depth=128,gro=1,mac=52:54:00:1a:b0:{self.number:02x}"]
        argv += [f"ip={self.address}:::255.255.255.0:{self.name}:vec0:off", f"systemd.hostname={self.name}"]
        return [*argv, "con=null", "con0=null,fd:2", "quiet", "systemd.show_status=0"]

    def wait(self, seconds=BOOT_SECONDS):
        """Wait until the machine lets commands in, and has Salt's environment."""
        venv = shlex.quote(self._known("venv"))
        mount = f"mountpoint -q {venv} || {{ mkdir -p {venv} && mount -o ro /dev/ubdb {venv}; }}"
        deadline = time.monotonic() + seconds
        while True:
            code, _, said = run(self._ssh(mount, connect=3), timeout=60, check=False)
            if code == 0:
                return
            if not self.pids():
                raise LabError(f"The machine {self.name} ended while it booted. {guests.last_words(self.console)}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"The machine {self.name} was not ready within {seconds} s: {said.strip()}\n{guests.last_words(self.console)}"
                )
            time.sleep(0.5)

    def end(self):
        """End the machine as if its power failed, and throw away what it wrote; return a sentence where it stayed."""
        stuck = processes.end(self.pids(), self._is_it)
        if stuck:
            return [f"The machine {self.name} (pid {stuck[0]}) did not end even after SIGKILL."]
        bridge.remove_tap(self.network, self.number)
        self._clear()
        return []

    def _clear(self):
        memory = self.folder / "memory"
        if memory.is_mount():
            run(["umount", memory])
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ssh(self, command, connect=10, terminal=False):
        argv = ["ssh", "-i", self.image.key, "-t" if terminal else "-T", "-F", "none"]
        options = {
            "BatchMode": "yes",
            "HostKeyAlias": "lab-machine",
            "UserKnownHostsFile": self.image.known_hosts,
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": connect,
            "ServerAliveInterval": 15,
            "ServerAliveCountMax": 8,
            "LogLevel": "ERROR",
        }
        argv += [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return [*argv, f"root@{self.address}", command]

    def environment(self, **extra):
        """Return the variables with which ceph, rbd, salt-call and the tests find the cluster inside the machine."""
        known = cluster.facts(self.home.cluster)
        return {
            "PATH": f"{self._known('venv')}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "CEPH_CONF": known["conf"],
            "SALT_CONFIG_DIR": str(self.home.minion),
            "RBD_LAB_HOME": str(self.home.folder),
            "RBD_LAB_VENVS": str(self.home.venvs),
            "RBD_LAB_SALT_ENVIRONMENT": self._known("venv"),
            "RBD_LAB_CLUSTER": known["folder"],
            "RBD_LAB_MINION": "lab" if self.number == 1 else self.name,
            **extra,
        }

    def _inside(self, words, extra):
        setting = [f"{key}={shlex.quote(value)}" for key, value in self.environment(**extra).items()]
        # One word is a line for the shell; several are a program and its arguments.
        line = words[0] if len(words) == 1 else shlex.join(words)
        return f"cd {CHECKOUT} && env {' '.join(setting)} sh -c {shlex.quote(line)}"

    def run(self, *words, timeout=300, check=True, **extra):
        """Run a command inside and return ``(exit code, stdout, stderr)``; more variables may be given by name."""
        return run(self._ssh(self._inside([str(word) for word in words], extra)), timeout=timeout, check=check)

    def become(self, words):
        """Replace this process by a command inside, or by a shell there, for the person at the terminal."""
        terminal = os.isatty(0) and os.isatty(1)
        argv = [str(part) for part in self._ssh(self._inside(words or ["bash -i"], {}), terminal=terminal)]
        os.execvpe(argv[0], argv, clean_environment(TERM=os.environ.get("TERM", "dumb")))

    def call(self, *words, timeout=3000, **extra):
        """Run a command inside with its output on ours, and return its exit code."""
        argv = [str(part) for part in self._ssh(self._inside([str(word) for word in words], extra))]
        try:
            return subprocess.call(argv, stdin=subprocess.DEVNULL, timeout=timeout, env=clean_environment())
        except subprocess.TimeoutExpired:
            raise LabError(f"This did not end within {timeout} s in the machine {self.name}: {shlex.join(words)}") from None

    def carry(self):
        """Carry the checkout as it is now, and what a client of the cluster needs, into the machine; tell what was new."""
        files = sorted(_checkout_files())
        known = cluster.facts(self.home.cluster)
        mark = hashlib.sha256(repr([_signature(path) for path in files] + [known]).encode()).hexdigest()
        told = self.folder / "carried"
        if told.exists() and told.read_text() == mark:
            return False
        # A new folder for each, so that nothing of an older checkout stays.
        unpack = f"rm -rf {CHECKOUT} && tar -x -C / -f - && ln -sfn {shlex.quote(known['conf'])} /etc/ceph/ceph.conf"
        configure = "/usr/bin/python3 -B -c 'from labkit import home, minion; minion.configure(home.Home())'"
        line = f"{unpack} && {self._inside([configure], {})}"
        _feed(self._ssh(line), _archive(files, known))
        told.write_text(mark)
        return True


def _checkout_files():
    for folder, folders, names in os.walk(REPO):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
            yield Path(folder, name)


def _signature(path):
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return None  # an editor's file that came and went
    return str(path), stat.st_mtime_ns, stat.st_size


def _archive(files, known):
    """Return a tar archive of the checkout, and of the cluster's configuration and keyring at the paths that they have here."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in files:
            if _signature(path):
                archive.add(path, f"{CHECKOUT[1:]}/{path.relative_to(REPO)}", recursive=False)
        for path in (known["conf"], known["keyring"], f"{known['folder']}/facts.json"):
            archive.add(path, path[1:], recursive=False)
    return out.getvalue()


def _feed(argv, data):
    argv = [str(part) for part in argv]
    try:
        done = subprocess.run(argv, input=data, capture_output=True, timeout=120, env=clean_environment())
    except subprocess.TimeoutExpired:
        raise LabError("Carrying the checkout into the machine did not end within 120 s.") from None
    if done.returncode != 0:
        raise LabError(f"The checkout could not be carried into the machine: {done.stderr.decode(errors='replace').strip()}")
