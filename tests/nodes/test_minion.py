"""A minion that its own highstate restarts: the result comes back, and what it has mapped stays mounted."""

import json

import pytest
import site_checks

pytestmark = pytest.mark.timeout(2800)


def _pid(node):
    return node.run("systemctl", "show", "--property=MainPID", "--value", "salt-minion")[1].strip()


def test_a_highstate_that_replaces_its_own_minion(applied):
    node = applied.nodes[1]
    before = _pid(node)
    daemons = node.run("pgrep", "qemu-storage")[1]
    mounted = node.run("findmnt", "--noheadings", "--output", "ID,SOURCE", "/mnt/test0001")[1]
    kept = json.loads(applied.management.run("cat", "/srv/site/pillar/salt.sls")[1])
    # Another environment: the version stays, as the nodes have wheels of one only.
    applied.pillar("salt", {**kept, "salt_environment": {"build_packages": [], "packages": ["psycopg2-binary", "cherrypy"]}})
    try:
        answer = applied.salt("node1", "state.apply")
        assert site_checks.failed(answer) == {}
        ids = {one["__id__"] for one in answer["node1"].values() if one["changes"]}
        assert "restart salt-minion after this job" in ids
        applied.ready()
        assert _pid(node) != before
        assert "cherrypy" in node.shell("ls $(dirname $(readlink -f /usr/local/bin/salt-minion))/../lib/python3*/site-packages")[1]
        assert node.run("pgrep", "qemu-storage")[1] == daemons
        assert node.run("findmnt", "--noheadings", "--output", "ID,SOURCE", "/mnt/test0001")[1] == mounted
        node.write("/mnt/test0001/written", "after the restart\n")
        assert site_checks.changed(applied.salt("node1", "state.apply")) == {"node1": set()}
    finally:
        applied.pillar("salt", kept)
