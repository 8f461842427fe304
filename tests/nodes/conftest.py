"""Booted nodes; the tests run on this host and drive them. ``./lab test nodes`` takes all away after."""

import os

import pytest

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
    yield node
    problems = node.end()
    assert not problems, problems


@pytest.fixture(scope="session")
def site(lab_home):
    """The example site: a management host with its master, node1 and node2 with the minions that they start with."""
    made = node_site.Site(nodes.up(lab_home, [1, 2, 3]), nodes.facts(lab_home))
    made.provision()
    return made


@pytest.fixture(scope="session")
def first_highstate(site):
    """The answers of the site's first highstates: ``dry``, ``real``, ``second``."""
    site.ready()
    answers = {"dry": site.salt("*", "state.apply", "test=True"), "real": site.salt("*", "state.apply")}
    site.ready()
    return {**answers, "second": site.salt("*", "state.apply")}


@pytest.fixture
def applied(site, first_highstate):
    """The site after its first highstate, all minions there."""
    site.ready()
    return site
