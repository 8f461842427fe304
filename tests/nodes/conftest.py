"""Booted nodes; the tests run on this host and drive them. ``./lab test nodes`` takes all away after."""

import os

import pytest
import usage
from node_end import ending

from labkit import home, node_site, nodes


@pytest.fixture(scope="session")
def lab_home():
    """The home of the nodes of this run."""
    if "RBD_LAB_HOME" not in os.environ:
        pytest.fail("These tests need the lab's nodes; run them by ./lab test nodes.", pytrace=False)
    return home.Home().tests()


@pytest.fixture
def make_node(lab_home):
    """Boot a fresh node that only this test uses: ``make_node(8)``, a :class:`labkit.node.Node`; numbers 1 to 3 are the site's."""
    made = []

    def make(number):
        assert number > 3, "the site of the other tests has this number"
        made.extend(nodes.up(lab_home, [number]))
        return made[-1]

    yield make
    problems = [problem for node in made for problem in node.end()]
    assert not problems, problems


@pytest.fixture(scope="module")
def module_node(lab_home):
    """A fresh node for the tests of one file."""
    (node,) = nodes.up(lab_home, [9])
    with ending(node):
        yield node


@pytest.fixture(scope="session")
def site(lab_home):
    """The example site: a management host with its master, node1 with the cluster, node2; with the minions that they start with."""
    made = node_site.Site(nodes.up(lab_home, [1, 2, 3]))
    made.provision()
    return made


@pytest.fixture(scope="session")
def first_highstate(site):
    """The answers of the site's first highstates: ``dry``, ``real``, ``second``."""
    answers = {}
    for name, words in (("dry", ["test=True"]), ("real", []), ("second", [])):
        site.ready()
        with usage.measured(f"{name} highstate", site.nodes):
            answers[name] = site.salt("*", "state.apply", *words)
    return answers


def pytest_terminal_summary(terminalreporter):
    """What the site's first highstates took."""
    for line in usage.LINES:
        terminalreporter.write_line(line)


@pytest.fixture
def applied(site, first_highstate):
    """The site after its first highstate, all minions there."""
    site.ready()
    return site
