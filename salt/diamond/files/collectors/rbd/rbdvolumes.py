"""
Measures the RBD volumes that Salt manages: size, used bytes, snapshots, age of the newest one, clone depth, users.

Metrics: servers.HOST.rbd.POOL[.NAMESPACE].IMAGE.{size,used,snapshots,newest_snapshot_age,clone_depth,users}, and
servers.HOST.rbd.unreadable, the number of volumes that could not be read.

#### Dependencies

* a Python with Ceph's bindings (python3-rados, python3-rbd), which runs measure.py; Diamond's own needs none
* a Ceph user with the capabilities mon 'profile rbd-read-only' osd 'profile rbd-read-only', whose keyring Diamond can read

Runs on Python 2.7 too, as Diamond does.
"""

import json
import signal
import subprocess
import time

import diamond.collector
from rbdpoints import as_list, due, lines, metrics


class RbdCollector(diamond.collector.Collector):
    """What the head of this file says; ``volumes`` of its configuration are measured."""

    def get_default_config_help(self):
        """Return what each key of the configuration means."""
        config_help = super(RbdCollector, self).get_default_config_help()
        config_help.update(
            {
                "python": "Interpreter that can import rados and rbd",
                "program": "Path of measure.py",
                "volumes": "List of pool[/namespace]/image",
                "conf": "Ceph's configuration file",
                "monitors": "List of the monitors' addresses; none: those of conf",
                "fsid": "The cluster's fsid; another one is refused",
                "user": "Ceph user, without client.",
                "keyring": "Its keyring, readable by Diamond",
                "timeout": "Seconds that measuring may take in all, and a question to the cluster",
                "used_interval": "Seconds after which the used bytes are measured anew: that may walk over every object",
            }
        )
        return config_help

    def get_default_config(self):
        """Return what the configuration says where nobody does."""
        config = super(RbdCollector, self).get_default_config()
        config.update(
            {
                "path": "rbd",
                "python": "/usr/bin/python3",
                "program": "/opt/diamond/rbd/measure.py",
                "volumes": [],
                "conf": "",
                "monitors": [],
                "fsid": "",
                "user": "diamond",
                "keyring": "/etc/ceph/ceph.client.diamond.keyring",
                "timeout": 30,
                "used_interval": 3600,
            }
        )
        return config

    def process_config(self):
        """Take the configuration, also one that was read anew."""
        super(RbdCollector, self).process_config()
        self.volumes = as_list(self.config["volumes"])
        self.used = getattr(self, "used", {})
        self.told = getattr(self, "told", None)
        self.stopped = False

    def collect(self):
        """Measure and publish, once an interval."""
        if self.stopped:
            return
        # Diamond's own alarm leaves a collector as little as a second, by chance; the limit here is timeout.
        signal.alarm(0)
        now = time.time()
        known, unreadable, trouble = {}, {}, None
        for answer in self.ask(due(self.volumes, self.used, float(self.config["used_interval"]), now)):
            known.update(answer.get("volumes", {}))
            unreadable.update(answer.get("unreadable", {}))
            self.used.update((name, (value, now)) for name, value in answer.get("space", {}).items())
            if "error" in answer:
                trouble = answer["error"]
                self.stopped = answer["stop"]
        for name, value in metrics(known, self.used):
            self.publish(name, value)
        if trouble is None:
            self.publish("unreadable", len(unreadable))
        self.tell(trouble, unreadable)

    def tell(self, trouble, unreadable):
        """Log what is wrong: once, not at every interval."""
        words = trouble or " ".join(unreadable[name] for name in sorted(unreadable))
        if words and words != self.told:
            self.log.error("RbdCollector: %s", words)
        if not words and self.told:
            self.log.info("RbdCollector: all volumes can be read again")
        self.told = words
        if self.stopped:
            self.log.error("RbdCollector stops itself: the above must be mended first, and Diamond be started again.")

    def ask(self, space):
        """Run measure.py and yield its answers as they come, until it ends or the time is up."""
        limit = float(self.config["timeout"])
        until = time.time() + limit
        ceph = {key: self.config[key] for key in ("conf", "fsid", "user", "keyring") if self.config[key]}
        if as_list(self.config["monitors"]):
            ceph["monitors"] = as_list(self.config["monitors"])
        request = {"ceph": ceph, "timeout": limit, "volumes": self.volumes, "space": space}
        try:
            child = subprocess.Popen(
                [self.config["python"], "-E", "-s", self.config["program"]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=True,
                cwd="/",
            )
        except OSError as error:
            yield {"error": "{0} cannot be started: {1}.".format(self.config["python"], error), "stop": True}
            return
        try:
            child.stdin.write(json.dumps(request).encode("utf-8"))
            child.stdin.close()
            for line in lines(child.stdout, until):
                yield json.loads(line.decode("utf-8"))
            if time.time() >= until:
                yield {
                    "error": "Measuring took longer than {0:g} s and was ended; it goes on at the next interval.".format(limit),
                    "stop": False,
                }
            elif child.wait():
                words = child.stderr.read().decode("utf-8", "replace").strip()[-500:]
                yield {"error": "measure.py ended with code {0}: {1}".format(child.returncode, words), "stop": False}
        finally:
            if child.poll() is None:
                child.kill()  # its worker follows by itself
                child.wait()
            child.stdout.close()
            child.stderr.close()
