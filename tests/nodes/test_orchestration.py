"""The stages of salt/orch/site.sls: in their order, up to the first that fails, and on from there when it is mended."""

import json
import re

import pytest
import site_checks

pytestmark = pytest.mark.timeout(2800)

STAGES = 5


class Run:
    """One run of the orchestration on the management host."""

    def __init__(self, site):
        words = ["/usr/local/bin/salt-run", "--out=json", "state.orchestrate", "orch.site"]
        self.code, out, self.said = site.management.run(*words, timeout=1800, check=False)
        (rows,) = json.loads(out)["data"].values()
        assert isinstance(rows, dict), rows
        self.rows = sorted(rows.values(), key=lambda row: row["__run_num__"])

    def begun(self):
        """Return the numbers of the stages that the terminal was told of, in their order."""
        return [int(number) for number in re.findall(rf"stage (\d) of {STAGES}, [^:\n]*, begins", self.said)]

    def failed(self):
        return [row["__id__"] for row in self.rows if row["result"] is False]

    def changed(self):
        """Return the minions that a stage changed, by the stage."""
        stages = [row for row in self.rows if row["__id__"].startswith("stage") and "begins" not in row["__id__"]]
        print(json.dumps([row["changes"] for row in stages]))  # what it was, should it be more than expected
        return {row["__id__"]: sorted(row["changes"]["ret"]) for row in stages if row["changes"]}


@pytest.fixture
def pillar(applied):
    """Change the site's pillar for one test: ``pillar(name, changes)``."""
    kept = {}

    def change(name, changes):
        before = applied.change(name, changes)
        kept.setdefault(name, before)

    yield change
    for name, content in kept.items():
        applied.pillar(name, content)
    # One after the other: the master restarts when the first has ended, and would lose what the others answer.
    for target in ("management", "node*"):
        assert site_checks.failed(applied.salt(target, "state.apply")) == {}
        applied.ready()


def test_it_stops_at_a_stage_that_fails_and_goes_on_when_it_is_mended(applied, pillar):
    images = lambda: applied.ceph_node.run("rbd", "ls")[1].split()  # noqa: E731
    pid = applied.management.run("systemctl", "show", "--property=MainPID", "--value", "salt-master")[1]
    # Something to do for the master, which restarts under the run, and for the volumes; and a mistake before both.
    pillar("management", {"salt_master": {"settings": {"worker_threads": 4}}})
    pillar("node2", {"rbd": {"volumes": {"late": {"size": "64M"}}}})
    pillar("postgresql", {"postgresql": {"port": "many"}})
    stopped = Run(applied)
    assert stopped.code != 0
    assert stopped.begun() == [1, 2]
    assert stopped.failed() == ["stage 2 of 5, the database: postgresql on management"]
    assert stopped.rows[-1]["__id__"] == stopped.failed()[0]
    assert "postgresql:port" in json.dumps(stopped.rows[-1]["changes"])
    assert stopped.changed().keys() == set(stopped.failed())
    assert "late" not in images()
    try:
        pillar("postgresql", {"postgresql": {"port": 5432}})
        whole = Run(applied)
        assert (whole.failed(), whole.code) == ([], 0)
        assert whole.begun() == [1, 2, 3, 4, 5]
        assert "all stages of the site are done" in whole.said
        assert whole.changed() == {
            "stage 3 of 5, the master, its API and the minions: salt_master, salt_api on management": ["management"],
            "stage 4 of 5, the volumes: rbd on management or node*": ["node2"],
            # Which measures what is declared.
            "stage 5 of 5, Diamond: diamond on node*": ["node2"],
        }
        assert "late" in images()
        assert applied.management.run("systemctl", "show", "--property=MainPID", "--value", "salt-master")[1] != pid
        again = Run(applied)
        assert (again.failed(), again.code, again.changed()) == ([], 0, {})
    finally:
        applied.ceph_node.run("rbd", "rm", "late", check=False)
