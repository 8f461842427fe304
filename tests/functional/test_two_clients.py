"""An image is written by one host at a time: hosts in network namespaces of their own, against a cluster on their bridge."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest
from saltrbd import proc, users

from labkit import cleanup as lab_cleanup
from labkit import cluster as lab_cluster
from labkit import commands

pytestmark = pytest.mark.timeout(400)

ROUNDS = 50
# What a host sees of itself: its own /run, no systemd (its process 1 is none), and a boot of its own, as if it were another machine.
START = """
mount -t tmpfs tmpfs /run/rbd-volumes && { [ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd; } &&
mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"
"""


def ip(*words):
    return commands.run(["ip", *words], timeout=20)[1]


class Net:
    """A bridge with an address for the cluster, and a network namespace for each host."""

    def __init__(self):
        self.token, self.hosts = uuid.uuid4().hex[:6], []
        self.bridge = f"rb{self.token}"
        used = ip("-4", "addr")
        self.prefix = next(f"10.{number}.77" for number in range(200, 255) if f" 10.{number}." not in used)

    def __enter__(self):
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.prefix}.1/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        return self

    def add(self, name):
        """Make a namespace and return (its name, its address)."""
        number = len(self.hosts) + 2
        namespace, ours, theirs = f"{name}-{self.token}", f"v{self.token}{number}", f"w{self.token}{number}"
        self.hosts.append(namespace)
        ip("netns", "add", namespace)
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
        ip("link", "set", theirs, "netns", namespace)
        ip("link", "set", ours, "master", self.bridge, "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "addr", "add", f"{self.prefix}.{number}/24", "dev", theirs)
        ip("-n", namespace, "link", "set", theirs, "up")
        return namespace, f"{self.prefix}.{number}"

    def __exit__(self, *_):
        for namespace in self.hosts:
            ip("netns", "del", namespace)
        ip("link", "del", self.bridge)


class Host:
    """One host with Salt on it."""

    def __init__(self, name, namespace, address, config):
        self.name, self.address, self._namespace, self._config = name, address, namespace, config
        self.boot()

    def boot(self):
        """Start the host, with a new boot id."""
        self._sent = 0
        boot = self._config / f"boot-{uuid.uuid4()}"
        boot.write_text(str(uuid.uuid4()) + "\n")
        Path("/run/rbd-volumes").mkdir(mode=0o700, exist_ok=True)
        argv = ["nsenter", f"--net=/run/netns/{self._namespace}"]
        argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", START, "sh", str(boot)]
        argv += [sys.executable, str(Path(__file__).with_name("salt_host.py")), str(self._config)]
        log = open(self._config / "host.log", "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1)
        assert self.answer(60)["result"] == "ready"

    def crash(self):
        """End everything on the host at once, as a power cut does; its loop devices are the machine's and go too."""
        devices = [facts["device"] for facts in self.call("rbd_device.list").values() if facts["device"]]
        self.process.kill()
        self.process.communicate(timeout=20)
        for device in devices:
            commands.run(["losetup", "--detach", device], timeout=20)

    def send(self, function, *args, at=0.0, **kwargs):
        self._sent += 1
        order = {"number": self._sent, "function": function, "args": args, "kwargs": kwargs, "at": at}
        self.process.stdin.write(json.dumps(order) + "\n")

    def answer(self, limit=60):
        """Return the answer to what was sent last; a test that was interrupted has left one to what it had sent."""
        while True:
            assert select.select([self.process.stdout], [], [], limit)[0], f"{self.name} had no answer within {limit} s"
            answer = json.loads(self.process.stdout.readline())
            if answer["number"] == self._sent:
                return answer

    def call(self, function, *args, **kwargs):
        """Return the result of an execution function; an error fails the test."""
        self.send(function, *args, **kwargs)
        answer = self.answer()
        assert "error" not in answer, answer
        return answer["result"]

    def state(self, function, name, test=False, **arguments):
        """Run one state and return what it returned."""
        result = self.call("state.single", function, name=name, test=test, **arguments)
        assert isinstance(result, dict), result
        return next(iter(result.values()))

    def map_it(self, image):
        """The image must become mapped, as the dry run said."""
        dry, real = self.state("rbd_device.mapped", image, True), self.state("rbd_device.mapped", image)
        assert (dry["result"], real["result"]) == (None, True), (dry["comment"], real["comment"])
        assert dry["changes"] == real["changes"]
        return real["comment"]

    def refused(self, image, **arguments):
        """The image must be refused in the dry run and in the real one, in the same words, which are returned."""
        dry, real = (self.state("rbd_device.mapped", image, test, **arguments) for test in (True, False))
        assert (dry["result"], real["result"]) == (False, False), (dry["comment"], real["comment"])
        assert dry["comment"] == real["comment"]
        return real["comment"]

    def daemon(self, image):
        """The pid of the daemon that serves the image here, as the whole machine counts it."""
        name = image.partition("/")[2]
        inside = self.call("rbd_device.info", image)["pid"]
        for process in proc.processes("qemu-storage-daemon"):
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            numbers = next(line for line in status if line.startswith("NSpid:")).split()
            if any(f'"{name}"' in word for word in process.argv) and numbers[-1] == str(inside):
                assert _net_of(process.pid) == _net_of(self.process.pid)
                return process.pid
        raise AssertionError(f"no daemon for {image} on {self.name}")


def _net_of(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


def _release(known):
    problems = lab_cleanup.release(known, alive=True)
    assert not problems, problems


@pytest.fixture(scope="module")
def site(tmp_path_factory, make_minion_config):
    """A cluster on a bridge and two hosts, a and b; and weak, whose Ceph user may not blocklist."""
    folder = tmp_path_factory.mktemp("site") / "ceph"
    with ExitStack() as ends:
        net = ends.enter_context(Net())
        known = lab_cluster.start(folder, f"{net.prefix}.1", quick=True)
        ends.callback(lab_cluster.stop, folder)
        ends.callback(_release, known)
        keyring = tmp_path_factory.mktemp("weak") / "keyring"
        rights = ["mon", "allow r", "osd", "allow rwx pool=rbd"]
        keyring.write_text(
            "[client.weak]\n    key = {}\n".format(lab_cluster.ceph(folder, "auth", "get-or-create-key", "client.weak", *rights)["key"])
        )
        hosts = []
        for name, own in (("host-a", {}), ("host-b", {}), ("weak", {"user": "weak", "keyring": str(keyring)})):
            ceph = {key: known[key] for key in ("fsid", "conf", "monitors", "user", "keyring", "pool")}
            config = make_minion_config(pillar={"ceph": {**ceph, **own}}, config={"id": name})
            hosts.append(Host(name, *net.add(name), config))
            ends.callback(hosts[-1].crash)
        yield (folder, *hosts)


@pytest.fixture(scope="module")
def ceph(site):
    def ask(*words):
        return lab_cluster.ceph(site[0], *words)

    return ask


@pytest.fixture
def make_image(site):
    """Make an empty image in pool rbd and return its spec."""

    def make(size="16M"):
        spec = f"rbd/i{uuid.uuid4().hex[:8]}"
        commands.run(["rbd", "create", spec, "--size", size], env=lab_cluster.environment(site[0]))
        return spec

    return make


def watchers(site, image):
    status = commands.run(["rbd", "status", image, "--format", "json"], env=lab_cluster.environment(site[0]))[1]
    return [watcher["address"] for watcher in json.loads(status)["watchers"]]


def test_what_one_host_has_is_refused_to_the_other(site, make_image):
    _, a, b, _ = site
    image = make_image()
    a.map_it(image)
    comment = b.refused(image)
    assert "mapped by the host host-a" in comment
    assert f"(address {a.address}:0/" in comment
    assert watchers(site, image)[0] in comment
    assert b.call("rbd_device.users", image)["owner"]["host"] == "host-a"
    assert b.state("rbd_device.unmapped", image)["changes"] == {}
    assert a.state("rbd_device.unmapped", image)["result"] is True
    b.map_it(image)
    assert "mapped by the host host-b" in a.refused(image)
    assert b.state("rbd_device.unmapped", image)["result"] is True


def test_what_one_host_has_exclusively_is_not_shared_with_the_other(site, make_image):
    """``exclusive: False`` asks for no lock of its own, and meets that of the other host all the same."""
    _, a, b, _ = site
    image = make_image()
    a.map_it(image)
    comment = b.refused(image, exclusive=False)
    assert f"{image} is mapped exclusively by the host host-a (address {watchers(site, image)[0]}); unmap it there first." == comment
    assert b.call("rbd_device.list") == {} and len(watchers(site, image)) == 1
    assert a.state("rbd_device.unmapped", image)["result"] is True
    # Where both share it, both have it.
    for host in (a, b):
        assert host.state("rbd_device.mapped", image, exclusive=False)["result"] is True
    assert len(watchers(site, image)) == 2
    for host in (a, b):
        assert host.state("rbd_device.unmapped", image)["result"] is True


def test_what_one_host_has_mounted_is_not_mounted_by_the_other(site, make_image, tmp_path):
    _, a, b, _ = site
    image, points = make_image("64M"), [str(tmp_path / name) for name in "ab"]
    a.map_it(image)
    assert a.state("rbd_filesystem.formatted", image, fs_type="ext4")["result"] is True
    assert a.state("rbd_filesystem.mounted", points[0], image=image, persist=False)["result"] is True
    for test in (True, False, False):
        refused = b.state("rbd_device.mapped", image, test)
        assert refused["result"] is False and "mapped by the host host-a" in refused["comment"], refused["comment"]
        refused = b.state("rbd_filesystem.mounted", points[1], test, image=image, persist=False)
        assert refused["result"] is False and refused["changes"] == {}, refused["comment"]
        assert f"{image} is not mapped on this host" in refused["comment"]
    assert not os.path.ismount(points[1]) and b.call("rbd_device.list") == {}
    assert a.state("rbd_filesystem.unmounted", points[0])["result"] is True
    assert a.state("rbd_device.unmapped", image)["result"] is True


def test_a_dead_client_is_locked_out_at_once(site, ceph, make_image):
    """Its host is named by its lock, by its address and by its number; the image is free without the wait of 30 s, to be removed too."""
    _, a, b, weak = site
    image, other = make_image(), make_image()
    for one in (image, other):
        a.map_it(one)
    shown = b.call("rbd_device.users", image)
    (watcher,) = shown["watchers"]
    assert watcher["host"] == shown["owner"]["host"] == "host-a"
    address = watcher["address"]
    comment = b.refused(image)
    assert "in use for about 30 s more, until its watch times out. rbd_device.fenced locks it out at once." in comment
    for who in ("host-a", address, f"client.{watcher['client']}"):
        dry = b.state("rbd_device.fenced", image, True, who=who)
        lock = {"lock": {"old": f"held by the host host-a at {address}", "new": None}}
        assert dry["result"] is None and dry["changes"] == {address: {"fenced": {"old": False, "new": True}}, image: lock}
    assert "is an address of this host" in a.state("rbd_device.fenced", image, who="host-a")["comment"]
    assert "Give client.weak the capabilities mon 'profile rbd'" in weak.state("rbd_device.fenced", image, who="host-a")["comment"]
    assert watchers(site, image) == [address]
    told = b.state("rbd_image.absent", other)["comment"]
    assert "the lock 'saltrbd' held by the host host-a at " in told and users.FENCED.format("host-a") in told
    # A dry run of all states counts the first ones'; so does the real run.
    (second,) = watchers(site, other)
    high = {
        "fence": {"rbd_device": ["fenced", {"name": image}, {"who": "host-a"}, {"order": 1}]},
        "map": {"rbd_device": ["mapped", {"name": image}, {"order": 2}]},
        "fence the other": {"rbd_device": ["fenced", {"name": other}, {"who": "host-a"}, {"order": 3}]},
        "remove": {"rbd_image": ["absent", {"name": other}, {"trash": False}, {"order": 4}]},
    }
    for one in (image, other):
        os.kill(a.daemon(one), signal.SIGKILL)
    died = time.monotonic()
    for test in (True, False):
        assert (watchers(site, image), watchers(site, other)) == ([address], [second])  # still: 30 s are not over
        ran = sorted(b.call("state.high", high, test=test).values(), key=lambda one: one["__run_num__"])
        assert [one["result"] for one in ran] == [None if test else True] * 4, [one["comment"] for one in ran]
        assert address not in ran[1]["comment"]  # the lock is gone: nothing is left for the mapping to take over
    print(f"mapped elsewhere {time.monotonic() - died:.1f} s after the death")
    assert {address, second} <= set(b.call("rbd_device.fenced"))
    assert address in json.dumps(ceph("osd", "blocklist", "ls"))
    for test in (True, False):
        again = b.state("rbd_device.fenced", address, test)
        assert (again["result"], again["changes"]) == (True, {})
    assert address in b.call("rbd_device.fenced")
    assert b.call("rbd_device.unfence", second) == [second]
    assert b.call("rbd_device.unfence", address) == [address]
    assert address not in json.dumps(ceph("osd", "blocklist", "ls"))
    for host in (b, a):
        assert host.state("rbd_device.unmapped", image)["result"] is True


def test_of_two_that_begin_at_the_same_moment_one_wins(site, make_image):
    _, a, b, _ = site
    image = make_image()
    won = {a: 0, b: 0}
    for number in range(ROUNDS):
        at = time.time() + 0.05
        for host in (a, b) if number % 2 else (b, a):
            host.send("rbd_device.map", image, at=at)
        answers = {host: host.answer() for host in (a, b)}
        winners = [host for host in (a, b) if "result" in answers[host]]
        assert len(winners) == 1, answers
        winner, loser = winners[0], b if winners[0] is a else a
        assert answers[loser]["class"] == "Busy"
        assert winner.name in answers[loser]["error"] and f"{winner.address}:0/" in answers[loser]["error"], answers[loser]
        assert len(watchers(site, image)) == 1
        won[winner] += 1
        assert winner.call("rbd_device.unmap", image) is True
    assert sum(won.values()) == ROUNDS
    print("won:", {host.name: count for host, count in won.items()})


def test_after_a_death_another_host_takes_over_when_that_is_safe(site, ceph, make_image):
    """A daemon that was killed, one that only stands still, a host that starts again; and a user that may not blocklist."""
    folder, a, b, weak = site
    killed, halted, rebooted, forbidden = (make_image() for _ in range(4))
    for image in (killed, halted, forbidden):
        a.map_it(image)
    shown = a.call("rbd_device.info", halted)
    weak.map_it(rebooted)
    (address,) = watchers(site, killed)
    (address_halted,) = watchers(site, halted)
    pid_halted = a.daemon(halted)
    for image in (killed, forbidden):
        os.kill(a.daemon(image), signal.SIGKILL)
    weak.crash()
    died = time.monotonic()
    weak.boot()
    # Not before: a Salt that starts looks for LVM on every device, and would wait for this one.
    os.kill(pid_halted, signal.SIGSTOP)

    for image, seen in ((killed, address), (halted, address_halted)):
        comment = b.refused(image)
        assert "host-a" in comment and seen in comment
    assert "before its last boot" in weak.refused(rebooted)
    assert "its daemon on this host, which is dead" in a.refused(killed)

    images = (killed, halted, rebooted, forbidden)
    while any(watchers(site, image) for image in images):
        assert time.monotonic() < died + 60
        time.sleep(0.5)
    print(f"watches gone after {time.monotonic() - died:.1f} s")

    assert address not in json.dumps(ceph("osd", "blocklist", "ls"))
    comment = b.map_it(killed)
    assert f"The daemon at {address} of the host host-a, which is gone, is locked out" in comment
    assert address in json.dumps(ceph("osd", "blocklist", "ls"))
    assert "mapped by the host host-b" in a.refused(killed)

    # A host that has started again locks its former daemon out as well: another machine may bear its name.
    for image in (forbidden, rebooted):
        dry, real = (weak.state("rbd_device.mapped", image, test) for test in (True, False))
        assert (dry["result"], real["result"]) == (None, False)
        assert "Give client.weak the capability mon 'profile rbd'" in real["comment"]
        assert "rados -p rbd lock break rbd_header." in real["comment"]
    b.map_it(rebooted)

    b.map_it(halted)
    os.kill(pid_halted, signal.SIGCONT)
    # The daemon of a, awake again, must not get one byte through.
    late = subprocess.run(
        ["dd", "if=/dev/zero", f"of={shown['device']}", "bs=4096", "count=1", "oflag=direct"], capture_output=True, text=True, timeout=60
    )
    assert late.returncode != 0 and "Input/output error" in late.stderr, late.stderr
    usage = commands.run(["rbd", "diff", halted, "--format", "json"], env=lab_cluster.environment(folder))[1]
    assert json.loads(usage) == []

    for host, image in ((b, killed), (b, halted), (b, rebooted), (a, killed), (a, halted)):
        assert host.state("rbd_device.unmapped", image)["result"] is True
    for image in (killed, halted, rebooted):
        assert watchers(site, image) == []
