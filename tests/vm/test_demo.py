"""The demo in a machine: the example pillar by a highstate, its proof, a second highstate without changes, the transcript."""

import pytest

pytestmark = pytest.mark.timeout(1200)

DEMO = "from labkit import demo, home; demo.main(home.Home())"
# What the demo leaves: its volumes stay mounted.
CLEAR = """from labkit import cleanup, cluster, home
problems = cleanup.release(cluster.facts(home.Home().cluster), alive=True)
assert not problems, problems"""
EMPTY = "ceph osd pool rm rbd rbd --yes-i-really-really-mean-it && ceph osd pool create rbd && rbd pool init rbd"


@pytest.fixture
def fresh(machine):
    """Nothing is mapped and the pool is empty, before and after."""
    _clear(machine)
    yield
    _clear(machine)


def _clear(machine):
    machine.run("/usr/bin/python3", "-B", "-c", CLEAR)
    machine.run(EMPTY)


def test_demo(machine, driver, fresh):
    out = machine.run("/usr/bin/python3", "-B", "-c", DEMO, timeout=1100, RBD_LAB_DRIVER=driver)[1]
    print(out)
    assert "edit1" in out
    assert "states, 0 changes" in out
    listed = machine.run("rbd", "device", "list", "-t", driver)[1]
    assert "rbd0001" in listed and "rbd0002" in listed
