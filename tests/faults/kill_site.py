"""The host whose highstates are killed: one volume with data that was written before, and in each run a new one and a clone."""

import faulthandler
import hashlib
import json
import os
import signal
import subprocess
import time
from collections import namedtuple
from pathlib import Path

from kill_phases import Phases, guard, kind_of, unmounted
from salt_loaders import make_loaders
from saltrbd import client, device_find, proc

from labkit import cleanup as lab_cleanup
from labkit import commands, processes

# Seconds: for one highstate; until nothing may be frozen any more; until a highstate must have made everything as declared. The cluster
# watches a device's daemon that was killed for 31 s.
RUN_LIMIT, THAW_LIMIT, CONVERGE_LIMIT = 180, 15, 150
DATA = 3 << 20
CONTENT = "written before the snapshot\n"

SLS = """
include:
  - rbd

{point}/data:
  file.managed:
    - contents: {content}
    - require:
        - rbd_filesystem: {point}
    - require_in:
        - rbd_snapshot: {pool}/{new}@s
"""

Landed = namedtuple("Landed", "phases victims time writers")


def _of_interest(results):
    """What failed, and what was changed."""
    for result, comment, changes, name in results:
        if result is not True or changes:
            yield f"{name}: {result}: {comment}"


def uptime():
    """Seconds since the boot, as /proc/uptime has them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _signal(pid, sign):
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        pass


class Site:
    """Runs highstates in children of this process, as a minion runs its jobs, and looks at what is left of them."""

    def __init__(self, cluster, pool, folder, repo, ceph=None, rbd=None):
        self.cluster, self.pool, self.folder, self.repo = cluster, pool, folder, repo
        self.phases = Phases()
        # What a run's pillar has besides.
        self.pillar = {}
        self.took, self.lasted = 1.0, {}
        self._runs = 0
        # The pids of all runs, as text; and (what, pid) of what the killed one had started.
        self.salts, self.children = set(), []
        # What happened since the last kill began, for the one that fails.
        self.story = []
        (folder / "states").mkdir()
        known = {key: getattr(cluster, key) for key in ("fsid", "monitors", "conf", "user", "keyring")}
        pillar = {"ceph": {**known, "pool": pool, "fs_type": "ext4", **(ceph or {})}, "rbd": {"timeout": 20, **(rbd or {})}}
        if os.environ.get("RBD_LAB_DRIVER"):
            pillar["rbd"]["driver"] = os.environ["RBD_LAB_DRIVER"]
        (folder / "pillar").mkdir()
        (folder / "pillar/top.sls").write_text(json.dumps({"base": {"*": ["all"]}}))
        (folder / "pillar/all.sls").write_text(json.dumps(pillar))
        (folder / "minion").write_text(json.dumps(self._minion()))
        self.loaders = make_loaders(folder / "minion")

    def _minion(self):
        root = self.folder / "root"
        return {
            "id": "tests",
            "file_client": "local",
            "root_dir": str(root),
            "module_dirs": [str(self.repo)],
            **{key: str(root / key) for key in ("cachedir", "pki_dir", "sock_dir", "log_file", "extension_modules")},
            "file_roots": {"base": [str(self.folder / "states"), str(self.repo / "salt")]},
            "pillar_roots": {"base": [str(self.folder / "pillar")]},
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
        }

    # What is declared

    def point(self, name):
        return str(self.folder / "mnt" / name)

    def next(self):
        """Return (number, what the next run declares)."""
        self._runs += 1
        return self._runs, self.declare(self._runs)

    def declare(self, number):
        """Write the SLS of a run and return (its name, its pillar): the keeper gets a snapshot and a clone of it, a new volume all."""
        new, clone, snapshot = f"v{number}", f"c{number}", f"s{number}"
        name = f"run{number}"
        text = SLS.format(point=self.point(new), content=json.dumps(CONTENT.strip()), pool=self.pool, new=new)
        (self.folder / f"states/{name}.sls").write_text(text)
        whole = {"protected": True, "consistency": "filesystem"}
        here = {"persist": False, "size": "128M"}
        volumes = {
            "keeper": {**here, "mount": self.point("keeper"), "snapshots": {snapshot: whole}},
            new: {**here, "mount": self.point(new), "snapshots": {"s": whole}},
        }
        clones = {clone: {"persist": False, "parent": f"keeper@{snapshot}", "mount": self.point(clone)}}
        return name, {"rbd": {"volumes": volumes, "clones": clones}}

    # Running

    def start(self, declared, watch=False):
        """Begin a highstate in a child; return (pid, path of what it answers)."""
        answer = self.folder / "answer.json"
        answer.unlink(missing_ok=True)
        self.phases.clear()
        pid = os.fork()
        if pid:
            self.salts.add(str(pid))
            return pid, answer
        try:
            log = os.open(str(self.folder / "run.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            # Of a run that does not end the log tells where it is.
            faulthandler.dump_traceback_later(RUN_LIMIT - 10, file=log)
            if watch:
                self.phases.watch()
            self.loaders.reset_state()
            name, pillar = declared
            ran = self.loaders.modules.state.apply(name, pillar={**self.pillar, **pillar})
            told = (
                [[one.result, one.comment, one.changes, f"{one.name}"] for one in ran]
                if not ran.failed
                else [[False, str(ran.errors), {}, ""]]
            )
            part = answer.with_suffix(".part")
            part.write_text(json.dumps(told, default=str))
            part.rename(answer)
            client.close_all()
        finally:
            os._exit(0)

    def finish(self, pid, answer):
        """Wait for a highstate's end; return its results, None for one that was killed."""
        until = time.monotonic() + RUN_LIMIT
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"a highstate did not end within {RUN_LIMIT} s: {processes.state(pid)}")
            time.sleep(0.01)
        results = json.loads(answer.read_text()) if answer.exists() else None
        self.tell("a highstate " + ("was killed" if results is None else f"of {len(results)} states ended"), *_of_interest(results or ()))
        return results

    def tell(self, *lines):
        self.story += [f"{time.strftime('%H:%M:%S')} {lines[0]}", *("    " + line for line in lines[1:])]

    def apply(self, declared):
        return self.finish(*self.start(declared))

    def keep(self):
        """Make the keeper and its data."""
        self.needs(self.apply(self.next()[1]))
        data = os.urandom(DATA)
        Path(self.point("keeper"), "kept").write_bytes(data)
        self.kept = hashlib.sha256(data).hexdigest()
        commands.run(["sync", "-f", self.point("keeper")])
        self.take_away()

    def prepare(self):
        """Make the keeper, and learn from a run that nobody kills how long each phase lasts."""
        self.keep()
        (_, declared), began, met = self.next(), time.monotonic(), {}
        pid, answer = self.start(declared, watch=True)
        while proc.start_of(pid) is not None:
            for phase in self.phases.now(self.cluster.fsid):
                met.setdefault(phase, []).append(time.monotonic())
            time.sleep(0.005)
        self.took = time.monotonic() - began
        self.needs(self.finish(pid, answer))
        self.lasted = {phase: max(0.01, times[-1] - times[0]) if phase in ("mkfs",) else 0.005 * len(times) for phase, times in met.items()}
        self.take_away()

    @staticmethod
    def needs(results):
        wrong = [one for one in results if one[0] is not True]
        assert not wrong, wrong

    # Killing

    def strike(self, kill, pid):
        """Wait for the moment, stop Salt in it, see where it is, kill, and let Salt go on; None where it had ended before."""
        if kill.aim:
            while not self.phases.holds(kill.aim, self.cluster.fsid):
                if proc.start_of(pid) is None:
                    return None
                time.sleep(0.001)
            time.sleep(kill.moment * self.lasted.get(kill.aim, 0.05))
            # How long a phase lasts depends on the machine and its load: what missed comes earlier the next time.
            hit = self.phases.holds(kill.aim, self.cluster.fsid)
            self.lasted[kill.aim] = self.lasted.get(kill.aim, 0.05) * (1.2 if hit else 0.6)
        else:
            time.sleep(kill.moment * self.took)
        if proc.start_of(pid) is None:
            return None
        # What works for Salt stands still with it, so that the kill lands where it is said to land, not a few milliseconds later. The
        # helper does not: it is there to thaw whatever stands still.
        self.children = [(kind, one) for kind in ("worker", "mkfs", "helper") for one in [self.phases.started(kind)] if one]
        still = [pid, *(one for kind, one in self.children if kind != "helper")]
        try:
            for one in still:
                _signal(one, signal.SIGSTOP)
            while any(processes.state(one) not in ("T", "Z", "") for one in still):
                time.sleep(0.0005)
            phases = self.phases.now(self.cluster.fsid)
            victims = self._victims(kill.victim, pid)
            when = uptime()
            for _, victim in victims:
                _signal(victim, signal.SIGKILL)
        finally:
            for one in still:
                _signal(one, signal.SIGCONT)
        self.tell(f"killed: {victims}, while {sorted(phases) or 'none of the phases'}")
        return Landed(phases, [name for name, _ in victims], when, self.writers())

    def _victims(self, wanted, salt):
        """[(what, pid)] of those of the wanted ones that are there; Salt itself where none is."""
        there = {"salt": salt, **{kind: self.phases.started(kind) for kind in ("helper", "worker", "mkfs")}}
        there["guard"] = guard(there["helper"])
        daemons = [one.pid for one in self.mappings() if one.pid]
        there["daemon"] = max(daemons, key=proc.start_of) if daemons else None
        found = [(name, there[name]) for name in wanted.split("+") if there[name]]
        return found or [("salt", salt)]

    # What is left

    def mappings(self):
        return [one for one in device_find.on_host() if one.fsid == self.cluster.fsid]

    def look(self):
        """Lines about this host as it is: mappings, mounts, what of ours runs; and the end of what the highstates have logged."""
        known = {"fsid": self.cluster.fsid, "conf": self.cluster.conf, "monitors": self.cluster.monitors}
        yield from ("mapped: " + str(one) for one in self.mappings())
        yield from ("there: " + line for line in lab_cleanup.describe(lab_cleanup.leftovers(known)))
        log = self.folder / "run.log"
        yield from ("log: " + line for line in (log.read_text(errors="replace").splitlines()[-60:] if log.exists() else ()))

    def mounted(self):
        return [mount.point for mount in proc.mounts() if mount.point.startswith(str(self.folder / "mnt") + "/")]

    def writers(self):
        """Begin to write to every mounted filesystem: [(mount point, a process that tells when it was done, and by which exit code)]."""
        words = ["/bin/sh", "-c", 'echo x >"$0"; code=$?; read -r now rest </proc/uptime; echo "$now $code"']
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return [(point, subprocess.Popen([*words, f"{point}/probe"], **quiet)) for point in self.mounted()]

    def until_writable(self, landed):
        """Wait until every filesystem has taken the writes that began with the kill, and takes new ones; return the seconds since the kill
        until the last of the first had. Only where the device's daemon is dead may a write have failed."""
        thawed = 0.0
        for now, writers in enumerate((landed.writers, self.writers())):
            for point, writer in writers:
                left = landed.time + THAW_LIMIT - uptime()
                try:
                    done, code = (float(word) for word in writer.communicate(timeout=max(2.0, left))[0].split())
                except subprocess.TimeoutExpired:
                    writer.kill()
                    raise AssertionError(f"{point} is still frozen {THAW_LIMIT} s after the kill: {proc.stuck(writer.pid)}")
                assert code == 0 or "daemon" in landed.victims, f"{point} took no write after the kill"
                thawed = thawed if now else max(thawed, done - landed.time)
        assert thawed < THAW_LIMIT, f"a filesystem was frozen for {thawed:.1f} s after the kill"
        return thawed

    def converge(self, declared):
        """Run highstates as an operator would until one is clean; return (how many it took, seconds)."""
        began, runs, said = time.monotonic(), 0, []
        while time.monotonic() < began + CONVERGE_LIMIT:
            self.unmount_dead()
            runs += 1
            results = self.apply(declared)
            wrong = [one[1] for one in results if one[0] is not True]
            if not wrong:
                return runs, time.monotonic() - began
            said.append(wrong)
            assert "Traceback" not in str(wrong), wrong
            time.sleep(3)
        raise AssertionError(f"no highstate of {runs} made it in {CONVERGE_LIMIT} s: {said[0]} ... {said[-1]}")

    def unmount_dead(self):
        """What a refusal asks for: the filesystem of a device whose daemon is dead is unmounted."""
        dead = {os.path.realpath(one.device) for one in self.mappings() if one.fault and one.device}
        for mount in reversed(proc.mounts()):
            if os.path.realpath(mount.source) in dead:
                commands.run(["umount", mount.point], check=False)

    def unchanged(self, declared):
        """Assert that another highstate finds nothing to do."""
        results = self.apply(declared)
        assert [one for one in results if one[0] is not True or one[2]] == []

    def data(self, number):
        """Assert that what was written before is there: in the keeper, in its new clone, in the new volume."""
        for name in ("keeper", f"c{number}"):
            found = hashlib.sha256(Path(self.point(name), "kept").read_bytes()).hexdigest()
            assert found == self.kept, f"{name} has lost data"
        assert Path(self.point(f"v{number}"), "data").read_text() == CONTENT

    def orphans(self, expected):
        """Assert that this host has the expected images mapped, each once, and nothing else of the cluster."""
        mappings = self.mappings()
        assert sorted(str(one.spec) for one in mappings) == sorted(f"{self.pool}/{name}" for name in expected)
        assert [one.fault for one in mappings] == [None] * len(expected)
        known = {"fsid": self.cluster.fsid, "conf": self.cluster.conf, "monitors": self.cluster.monitors}
        left = lab_cleanup.leftovers(known)
        assert sorted(left.devices) == sorted(os.path.basename(one.device) for one in mappings), left
        assert len(left.daemons) == len(expected), left
        assert not unmounted(self.cluster.fsid)
        # Known by who started them: another run of tests on this machine has such processes too.
        running = processes.find(lambda argv: kind_of(argv) in ("helper", "worker") and argv[-1] in self.salts)
        assert not [processes.arguments(pid) for pid in running]
        assert not [name for name, pid in self.children if kind_of(processes.arguments(pid)) == name]
        folders = [path for path in Path("/run/rbd-volumes").glob(f"*/{self.cluster.fsid}.*") if path.is_dir()]
        assert len([path for path in folders if path.parent.name == ".fuse"]) in (0, len(expected)), folders

    def take_away(self, but="keeper"):
        """Unmount and unmap all but the keeper; the images stay until their pool goes."""
        for one in self.mappings():
            if one.spec.pool == self.pool and one.spec.image != but:
                self.done(self.loaders.states.rbd_filesystem.unmounted, self.point(one.spec.image))
                self.done(self.loaders.states.rbd_device.unmapped, str(one.spec))

    @staticmethod
    def done(state, name):
        """Somebody may have a device open for a moment: Salt's own grains run lvm, which reads every device of the host."""
        until = time.monotonic() + 60
        while True:
            result = state(name)
            if result.result is True:
                return
            assert time.monotonic() < until, result.comment
            time.sleep(2)

    def close(self):
        known = {"fsid": self.cluster.fsid, "conf": self.cluster.conf, "monitors": self.cluster.monitors}
        problems = lab_cleanup.release(known, alive=True)
        assert not problems, problems
