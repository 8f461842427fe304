"""The storage agent as its SLS makes it, but for systemd: nginx, salt-api, a master and a minion ``node1``, as processes of this host."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from http import client
from pathlib import Path

import jinja2
from saltplatform import storage_agent

from labkit import commands

USER, PASSWORD = "tenx-agent", "a password of many letters"
FILES = Path(__file__).resolve().parents[2] / "salt/storage_agent/files"
GRAINS = {"enable_fqdns_grains": False, "enable_gpu_grains": False}
# On a machine that does much else.
START_SECONDS = 900


class Agent:
    """A running storage agent: ``post`` asks it, ``login`` gives a token."""

    def __init__(self, folder, ports, ceph, repo):
        self.folder, self.ports = folder, ports
        self.certificate = folder / "agent.pem"
        self.url = f"https://127.0.0.1:{ports['nginx']}"
        self.known = storage_agent.read({"platform": {"agent": self._pillar()}})
        self._write(ceph, repo)
        self.processes = {}

    def _pillar(self):
        files = {"certificate": str(self.certificate), "key": str(self.folder / "agent.key")}
        about = {"user": USER, "password": PASSWORD, "targets": ["node*"], "loopback_port": self.ports["cherrypy"]}
        return {"url": self.url, **files, **about}

    def _write(self, ceph, repo):
        for name in ("nginx", "states", "pillar", "m", "n"):
            (self.folder / name).mkdir()
        for name, content in (("top", {"base": {"*": ["all"]}}), ("all", {"ceph": ceph})):
            (self.folder / f"pillar/{name}.sls").write_text(json.dumps(content))
        account = self.folder / "htpasswd"
        account.write_text(storage_agent.line(USER, PASSWORD))
        settings = dict(self.known["master"], netapi_dirs=[str(FILES)])
        settings["external_auth"]["file"]["^filename"] = str(account)
        master = {"interface": "127.0.0.1", "publish_port": self.ports["publish"], "ret_port": self.ports["return"], "worker_threads": 3}
        master.update(auto_accept=True, api_pidfile=str(self.folder / "api.pid"), api_logfile=str(self.folder / "api.log"))
        for key, name in (("file_roots", "states"), ("pillar_roots", "pillar")):
            master[key] = {"base": [str(self.folder / name)]}
        self._config("master", "m", **master, **settings)
        self._config("minion", "n", id="node1", master="127.0.0.1", master_port=self.ports["return"], module_dirs=[str(repo)])
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=agent"]
        files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.folder / "agent.key", "-out", self.certificate]
        commands.run([*argv, *files], timeout=300)
        template = jinja2.Template((FILES / "nginx.conf").read_text())
        (self.folder / "nginx.conf").write_text(template.render(agent=self.known))

    def _config(self, daemon, short, **settings):
        root = self.folder / short
        own = {
            "user": "root",
            "root_dir": str(root),
            "log_file": str(self.folder / f"{daemon}.log"),
            "log_level_logfile": "warning",
            **GRAINS,
        }
        own.update(pki_dir=str(root / "pki"), cachedir=str(root / "cache"), sock_dir=str(root / "s"), pidfile=str(root / "pid"))
        (self.folder / daemon).write_text(json.dumps({**own, "extension_modules": str(root / "ext"), **settings}))

    def start(self):
        """Start all of it and wait until a call is answered."""
        for name in ("salt-master", "salt-minion", "salt-api"):
            self._start(name, sys.executable, Path(sys.executable).parent / name, "-c", self.folder)
        check = ["nginx", "-t", "-q", "-e", "stderr", "-p", self.folder / "nginx", "-g", "pid nginx.pid;", "-c", self.folder / "nginx.conf"]
        commands.run(check, timeout=60)
        nginx = ["nginx", "-e", "stderr", "-p", self.folder / "nginx", "-g", "pid nginx.pid; daemon off;", "-c", self.folder / "nginx.conf"]
        self._start("nginx", *nginx)
        until, said = time.monotonic() + START_SECONDS, None
        while time.monotonic() < until:
            assert all(process.poll() is None for process in self.processes.values()), self.logs()[-3000:]
            with contextlib.suppress(OSError, AssertionError):
                said = self.call(self.login(), "rbd_image.list")
                if said == (200, {"return": [{"node1": []}]}):
                    return
            time.sleep(2)
        raise AssertionError(f"The agent did not answer within {START_SECONDS} s: {said}. {self.logs()[-3000:]}")

    def _start(self, name, *argv):
        with open(self.folder / f"{name}.out", "w") as out:
            self.processes[name] = subprocess.Popen(
                [str(word) for word in argv],
                env=commands.clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def end(self):
        """End what was started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes.values():
                # Not reaped before all are gone: the group is its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            until = time.monotonic() + 20
            while any(_group(process.pid) for process in self.processes.values()) and time.monotonic() < until:
                time.sleep(0.2)
        for process in self.processes.values():
            process.wait(timeout=60)

    def logs(self):
        """Return what all of them have logged."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out")))

    def memory(self):
        """Return MiB of memory by daemon: what its processes have for themselves, and their share of what they have together."""
        return {name: sum(map(_memory, _group(process.pid))) / 1024 for name, process in self.processes.items()}

    def connection(self, port=None):
        """Return a connection to nginx, or to another port of this host without TLS."""
        if port:
            return client.HTTPConnection("127.0.0.1", port, timeout=200)
        context = ssl.create_default_context(cafile=str(self.certificate))
        return client.HTTPSConnection("127.0.0.1", self.ports["nginx"], timeout=200, context=context)

    def ask(self, method, path, body=None, headers=None, port=None, connection=None):
        """Return status and body of one request; ``connection`` is kept open for the next."""
        kept = connection or self.connection(port)
        try:
            kept.request(method, path, body, headers or {}, encode_chunked="Transfer-Encoding" in (headers or {}))
            answer = kept.getresponse()
            text = answer.read()
        finally:
            if not connection:
                kept.close()
        return answer.status, json.loads(text) if text and answer.getheader("Content-Type", "").startswith("application/json") else text

    def post(self, path, data, token=None, **how):
        """Post JSON."""
        headers = {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})}
        return self.ask("POST", path, json.dumps(data), headers, **how)

    def login(self, password=PASSWORD, user=USER, **more):
        """Return a token."""
        status, said = self.post("/login", {"username": user, "password": password, **more})
        assert status == 200, said
        return said["return"][0]["token"]

    def call(self, token, function, target="node1", **more):
        """Call one function."""
        return self.post("/", {"client": "local", "tgt": target, "fun": function, **more}, token)


def _group(group):
    """Return the pids of a process group that are no zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, _, its = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state != "Z":
                found.append(int(entry.name))
    return found


def _memory(pid):
    """Return KiB: the proportional set size."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


@contextlib.contextmanager
def running(ceph, repo):
    """Yield a running :class:`Agent` whose minion is a client of the cluster of this pillar's ``ceph:``."""
    # A short path: Salt's sockets lie in it. Others pass through: nginx writes there as www-data.
    folder = Path(tempfile.mkdtemp(prefix="agent-", dir="/tmp"))
    folder.chmod(0o711)
    agent = None
    try:
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(4)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = dict(zip(("nginx", "cherrypy", "publish", "return"), (one.getsockname()[1] for one in sockets)))
        agent = Agent(folder, ports, ceph, repo)
        agent.start()
        yield agent
    finally:
        if agent:
            agent.end()
        shutil.rmtree(folder, ignore_errors=True)
