"""The lab of ``vagrant/`` for its tests: Vagrant with a home, boxes, and a libvirt or an lxc of its own, on this host.

``with for_tests(...)`` mounts folders of the tests over those of libvirt and lxc, so it wants a mount namespace of its own
(``./lab test vagrant`` begins one): what the host has of either is neither seen nor touched.
"""

import contextlib
import json
import os
import re
import shlex
from pathlib import Path

import yaml

from labkit import box, bridge, loops, processes
from labkit.commands import LabError, Step, clean_environment, run
from labkit.home import REPO

FOLDER = REPO / "vagrant"

# As root in a namespace of its own; the machines' files are in the lab's folder, which only root may pass.
QEMU = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
"""

# What is mounted over, by provider.
HIDDEN = {
    "libvirt": ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run/libvirt"),
    "lxc": ("/var/lib/lxc",),
}
DAEMONS = {"virtlogd": "virtlogd.pid", "libvirtd": "libvirtd.pid"}

# Where a machine has what its tests need.
CHECKOUT = "/srv/salt-rbd-tests"
CLUSTER = "/srv/salt-rbd-cluster"

# Seconds. An emulated machine boots in one to five minutes, and a highstate of the whole site takes tens.
LONGEST = 14400


class Lab:
    """Vagrant's machines of one provider; ``folder`` holds all that belongs to them."""

    def __init__(self, home, provider, nodes):
        self.provider = provider
        self.folder = home.folder / "vagrant" / provider
        self.nodes = nodes
        self._home = home
        self._network = None
        self._loops = []

    @property
    def names(self):
        """The names of the machines, in the order in which Vagrant makes them."""
        return [*(f"node{number}" for number in range(1, self.nodes + 1)), "management"]

    def begin(self):
        """Mount over, start the provider's daemons, and give Vagrant its box."""
        for path in HIDDEN[self.provider]:
            own = self.folder / path[1:].replace("/", "-")
            own.mkdir(parents=True, exist_ok=True)
            Path(path).mkdir(parents=True, exist_ok=True)
            run(["mount", "--bind", own, path])
        said = yaml.safe_load((FOLDER / "nodes.yaml").read_text())
        said["nodes"].update(count=self.nodes, osd_disk=8)
        if self.provider == "libvirt":
            said["libvirt"]["driver"] = "qemu"
            Path("/etc/libvirt/qemu.conf").write_text(QEMU)
            for daemon, pid_file in DAEMONS.items():
                run([daemon, "--daemon", "--pid-file", self.folder / pid_file], timeout=300)
        else:
            self._network = bridge.plan(self.folder)
            bridge.up(self._network)
            said["lxc"] = {"bridge": self._network.bridge, "first_loop": self._reserve()}
            said["networks"]["lxc"] = self._network.subnet
        (self.folder / "nodes.yaml").write_text(yaml.safe_dump(said))
        self.vagrant("box", "add", "--name", "salt-rbd", str(box.ready(self._home, self.provider)))

    def _reserve(self):
        """Reserve blocks of loop devices until there is one for each machine without a gap; return the first one's number."""
        wanted = len(self.names)
        while True:
            self._loops.append(loops.reserve())
            last = self._loops[-wanted:]
            if len(last) == wanted and last[-1][-1] - last[0][0] == wanted * loops.COUNT - 1:
                return last[0][0]

    def environment(self):
        """Return the variables with which Vagrant sees this lab alone."""
        return clean_environment(
            VAGRANT_HOME=str(self.folder / "home"),
            VAGRANT_DOTFILE_PATH=str(self.folder / "state"),
            VAGRANT_DEFAULT_PROVIDER=self.provider,
            SALT_RBD_NODES=str(self.folder / "nodes.yaml"),
            VAGRANT_CHECKPOINT_DISABLE="1",
            VAGRANT_NO_COLOR="1",
            # One after the other: each of them takes all of a small host.
            VAGRANT_NO_PARALLEL="1",
            LIBVIRT_DEFAULT_URI="qemu:///system",
        )

    def vagrant(self, *words, check=True, timeout=LONGEST):
        """Run Vagrant and return what it prints."""
        code, out, err = run(["vagrant", *words], timeout=timeout, check=False, env=self.environment(), cwd=FOLDER)
        if check and code != 0:
            raise LabError(f"vagrant {shlex.join(words)} ended with {code}:\n{(out + err)[-6000:]}")
        return out

    def run(self, name, *words, timeout=LONGEST, check=True):
        """Run a command in a machine as root and return ``(exit code, stdout, stderr)``."""
        line = "sudo " + shlex.join(str(word) for word in words)
        return run(["ssh", "-F", self._ssh(name), name, line], timeout=timeout, check=check)

    def _ssh(self, name):
        """Return the file by which ssh knows the machine."""
        config = self.folder / f"ssh-{name}"
        if not config.exists():
            config.write_text(self.vagrant("ssh-config", name))
        return config

    def salt(self, target, *words, timeout=LONGEST):
        """Run ``salt TARGET WORDS`` on the management host and return ``{minion: answer}``."""
        argv = ["/usr/local/bin/salt", "--out=json", "--static", f"--timeout={timeout}", target, *words]
        out = self.run("management", *argv, check=False)[1]
        try:
            return json.loads(out)
        except ValueError:
            raise AssertionError(f"{shlex.join(argv)} answered: {out[-3000:]}") from None

    def carry(self, name, venv):
        """Carry the checkout, the environment ``venv`` of the tests, and the facts of the cluster into a machine.

        The environment keeps its path: it stands in the first line of each of its commands, and the box has this host's Python.
        """
        self.run(name, "install", "-d", "-o", "vagrant", CHECKOUT, venv, CLUSTER)
        for source, target in ((REPO, CHECKOUT), (venv, venv)):
            rsync = ["rsync", "--archive", "--delete", "--exclude=.git", "--exclude=.vagrant", "--rsh", f"ssh -F {self._ssh(name)}"]
            run([*rsync, f"{source}/", f"{name}:{target}/"], timeout=3600)
        conf, keyring = "/etc/ceph/ceph.conf", "/etc/ceph/ceph.client.admin.keyring"
        fsid, monitors = self.run(name, "sh", "-c", f"sed -n 's/^fsid = //p; s/^mon_host = //p' {conf}")[1].split()
        known = {"folder": CLUSTER, "conf": conf, "keyring": keyring, "fsid": fsid, "monitors": monitors.split(","), "user": "admin"}
        self.run(name, "sh", "-c", f"echo {shlex.quote(json.dumps(known))} >{CLUSTER}/facts.json")

    def test(self, name, venv, *words, timeout=LONGEST, **variables):
        """Run pytest of the carried checkout in a machine, against its own cluster; return ``(exit code, stdout)``."""
        setting = {
            "PATH": f"{venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "CEPH_CONF": "/etc/ceph/ceph.conf",
            "RBD_LAB_HOME": CLUSTER,
            "RBD_LAB_VENVS": str(Path(venv).parent),
            "RBD_LAB_SALT_ENVIRONMENT": str(venv),
            "RBD_LAB_CLUSTER": CLUSTER,
            **variables,
        }
        told = [f"{key}={value}" for key, value in setting.items()]
        argv = ["env", f"--chdir={CHECKOUT}", *told, "python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", *words]
        return self.run(name, *argv, timeout=timeout, check=False)[:2]

    def pull(self, name):
        """End a machine as if its plug had been pulled."""
        if self.provider != "libvirt":
            raise LabError("Only a machine of libvirt has a plug: a container's kernel is this host's.")
        mark = re.compile(rf"guest=vagrant_{name}(,|$)")
        pids = processes.find(lambda argv: "qemu-system" in argv[0] and any(mark.match(word) for word in argv))
        if len(pids) != 1:
            raise LabError(f"{len(pids)} processes are the machine {name}.")
        os.kill(pids[0], 9)

    def left(self):
        """Return what is left of the machines, a sentence for each thing; nothing where Vagrant has destroyed all."""
        found = []
        if self.provider == "libvirt":
            for kind in ("list", "net-list"):
                found += [f"virsh {kind}: {name}" for name in run(["virsh", kind, "--all", "--name"], env=self.environment())[1].split()]
            # The box itself stays with libvirt, as a volume from which the next machine is made.
            found += [str(path) for path in Path("/var/lib/libvirt/images").glob("*") if "_vagrant_box_image_" not in path.name]
        else:
            found += [f"the container {name}" for name in run(["lxc-ls", "-1"])[1].split()]
            found += [f"/dev/loop{number} is attached" for block in self._loops for number in block if _attached(number)]
        return found + [f"the key {path}" for path in sorted((self.folder / "state").glob("salt-rbd/*/*.pem"))]

    def end(self):
        """Destroy the machines, end the daemons, take away what is mounted; return a sentence for what stayed."""
        problems = []
        with contextlib.suppress(LabError):
            self.vagrant("destroy", "--force", timeout=1200)
        problems += self.left()
        for pid_file in reversed(DAEMONS.values()) if self.provider == "libvirt" else ():
            problems += _end_daemon(self.folder / pid_file)
        for block in self._loops:
            loops.detach(block)
            problems += loops.release(block)
        if self._network:
            bridge.down(self._network)
        for path in reversed(HIDDEN[self.provider]):
            run(["umount", "--recursive", path], check=False)
        return problems


def _attached(number):
    return Path(f"/sys/block/loop{number}/loop/backing_file").exists()


def _end_daemon(pid_file):
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return []
    stuck = processes.end([pid], lambda argv: str(pid_file) in argv)
    return [f"The process {pid} of {pid_file} does not end."] if stuck else []


@contextlib.contextmanager
def for_tests(home, provider, nodes):
    """Yield the :class:`Lab` with nothing in it yet, and take all of it away afterwards."""
    if os.readlink("/proc/self/ns/mnt") == os.readlink("/proc/1/ns/mnt"):
        raise LabError("These tests mount over libvirt's and lxc's folders; ./lab test vagrant hides that from the host.")
    lab = Lab(home, provider, nodes)
    lab.folder.mkdir(parents=True, exist_ok=True)
    try:
        with Step(f"begin the lab of Vagrant with {provider}"):
            lab.begin()
        yield lab
    finally:
        problems = lab.end()
    if problems:
        raise LabError("\n".join(problems))
