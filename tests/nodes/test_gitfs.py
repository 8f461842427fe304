"""A master that serves the states and modules of this repository by gitfs, and nothing else of it."""

import json
import os
import shutil
import time

import pytest
from masterless import Host
from node_end import ending
from test_master import FORBIDDEN

from labkit.commands import run
from labkit.home import REPO

pytestmark = pytest.mark.timeout(1800)

URL = "file:///srv/git/rbd.git"
CONF = "/etc/salt/master.d/50-site.conf"
# The branch that is served is not the one that a clone begins with.
SERVED = "served"

# What a client that is not Salt's own might ask for.
ASK = """\
import sys, salt.config, salt.channel.client
opts = salt.config.minion_config("/etc/salt/minion")
opts["master_uri"] = "tcp://127.0.0.1:4506"
channel = salt.channel.client.ReqChannel.factory(opts)
for word in sys.argv[1:]:
    saltenv, _, path = word.partition(":")
    said = channel.send({"cmd": "_serve_file", "path": path, "saltenv": saltenv, "loc": 0}, tries=1, timeout=20)
    print(len((said or {}).get("data") or ""), word)
channel.close()
"""


class Repository:
    """This checkout's files as a repository of two branches, of which the node has a bare copy."""

    def __init__(self, node, work):
        self.work = work
        self.bare = node.root / "srv/git/rbd.git"
        shutil.copytree(REPO, work, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__", ".ruff_cache", ".pytest_cache"))
        self.git("init", "--quiet", f"--initial-branch={SERVED}")
        self.commit("all of it")
        self.git("checkout", "--quiet", "-b", "other")
        (work / "salt/of-the-other-branch.sls").write_text("{}\n")
        self.commit("more")
        self.git("init", "--quiet", "--bare", str(self.bare))
        self.git("push", "--quiet", str(self.bare), "other", SERVED)
        self.git("checkout", "--quiet", SERVED)

    def git(self, *words):
        return run(["git", *words], cwd=self.work, timeout=60)[1]

    def commit(self, message):
        self.git("add", "--all")
        self.git("-c", "user.name=lab", "-c", "user.email=root@localhost", "commit", "--quiet", f"--message={message}")

    def push(self, node):
        node.run("chown", "-R", "root:", "/srv/git/rbd.git")
        self.git("push", "--quiet", str(self.bare), SERVED)
        self.give(node)

    @staticmethod
    def give(node):
        """Make the bare copy the master's user's."""
        node.run("chown", "-R", "salt:", "/srv/git/rbd.git")


def call(node, *words):
    """Run ``salt-call`` of the node's own environment, which asks the master."""
    return json.loads(node.run("/usr/local/bin/salt-call", "--out=json", *words, timeout=300, check=False)[1])["local"]


@pytest.fixture(scope="module")
def host(lab_home, tmp_path_factory):
    """A node with master and minion, and what the first dry run, the first run and the second said (``runs``)."""
    found = Host(lab_home, 4)
    with ending(found.node):
        node = found.node
        node.run("apt-get", "--yes", "--quiet", "--quiet", "install", "git")
        found.repository = Repository(node, tmp_path_factory.mktemp("repository") / "work")
        found.wanted = {
            "salt_environment": {"version": os.environ["RBD_LAB_SALT"], "build_packages": []},
            "salt_master": {"gitfs": {"url": URL, "ref": SERVED}, "interface": "127.0.0.1"},
            "salt_minion": {"master": "127.0.0.1"},
        }
        found.pillar(found.wanted)
        found.runs = [found.apply("salt_master,salt_minion", test=True), found.apply("salt_master,salt_minion")]
        # Git reads no repository of somebody else's.
        found.repository.give(node)
        # From here on the files are the master's.
        node.run("rm", "-r", "/etc/salt/minion", "/srv/states", "/var/cache/salt/minion")
        node.write("/root/ask.py", ASK)
        node.run("systemctl", "restart", "salt-master", "salt-minion")
        deadline = time.monotonic() + 120
        while node.name not in node.run("/usr/local/bin/salt-key", "--list=unaccepted")[1]:
            assert time.monotonic() < deadline
            time.sleep(1)
        node.run("/usr/local/bin/salt-key", "--yes", f"--accept={node.name}")
        yield found


def test_it_serves_states_and_modules(host):
    assert [found.failed() for found in host.runs] == [{}, {}]
    assert host.runs[0].changed() == host.runs[1].changed()
    synced = call(host.node, "saltutil.sync_all")
    for kind, names in (("modules", REPO / "_modules"), ("states", REPO / "_states")):
        assert set(synced[kind]) == {f"{kind}.{path.stem}" for path in names.glob("*.py")}
    assert "utils.saltrbd.errors" in synced["utils"]
    answer = call(host.node, "state.apply", "salt_master,salt_minion")
    assert {row["__id__"]: row["comment"] for row in answer.values() if row["changes"] or not row["result"]} == {}


def test_nothing_else_of_the_repository(host):
    listed = call(host.node, "cp.list_master")
    allowed = {path.name for path in (REPO / "salt").iterdir()}
    assert {path.split("/")[0] for path in listed} <= allowed
    assert "rbd/init.sls" in listed and "of-the-other-branch.sls" not in listed
    assert call(host.node, "cp.list_master", "saltenv=other") == []
    python = host.node.shell("ls -d /opt/salt/*/bin/python")[1].strip()
    asked = [
        f"{saltenv}:{path}"
        for saltenv in ("base", "other", SERVED)
        for path in (*FORBIDDEN, "pillar/top.sls", "salt/top.sls", ".git/config")
    ]
    said = host.node.run(python, "/root/ask.py", "base:rbd/init.sls", "base:_modules/rbd_image.py", *asked, timeout=200)[1].splitlines()
    assert len(said) == len(asked) + 2
    assert all(int(line.split()[0]) > 100 for line in said[:2]), said
    assert [line for line in said[2:] if not line.startswith("0 ")] == []


def test_a_new_commit_is_served(host):
    (host.repository.work / "salt/new.sls").write_text("{}\n")
    (host.repository.work / "_modules/rbd_new.py").write_text('def answer():\n    """Answer."""\n    return 42\n')
    host.repository.commit("new")
    host.repository.push(host.node)
    until = time.monotonic() + 60
    while "new.sls" not in call(host.node, "cp.list_master"):
        # The master's own update, once a minute, may hold the lock: then this one passes it over.
        assert time.monotonic() < until, "not served within 60 s"
        host.node.run("/usr/local/bin/salt-run", "fileserver.update", timeout=120)
    assert call(host.node, "saltutil.sync_modules") == ["modules.rbd_new"]
    assert call(host.node, "rbd_new.answer") == 42


def test_the_whole_repository_is_refused(host):
    conf = host.node.run("cat", CONF)[1]
    host.pillar({**host.wanted, "salt_master": {**host.wanted["salt_master"], "settings": {"gitfs_remotes": [URL]}}})
    host.node.shell("chgrp salt /srv/pillar/all.sls && chmod 640 /srv/pillar/all.sls")
    for test in ("test=True", "test=False"):
        answer = call(host.node, "state.apply", "salt_master", test)
        (row,) = [row for row in answer.values() if row["__id__"] == CONF]
        assert row["result"] is False and "without a root" in row["comment"]
    assert host.node.run("cat", CONF)[1] == conf
    assert call(host.node, "test.ping") is True
