"""Machines of Vagrant; the tests run on this host and drive them. ``./lab test vagrant`` takes all away after."""

import os

import pytest

from labkit import home, vagrant_lab

# Seconds: under emulation, on a host that does other things as well.
LONGEST_TEST = 14400


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_TEST))


@pytest.fixture(scope="session")
def lab_home():
    """The home of the machines of this run."""
    if "RBD_LAB_HOME" not in os.environ:
        pytest.fail("These tests need Vagrant's machines; run them by ./lab test vagrant.", pytrace=False)
    return home.Home().tests()


@pytest.fixture(scope="module")
def begin(lab_home):
    """Bring a lab up from nothing: ``begin("libvirt", 2)``, a :class:`labkit.vagrant_lab.Lab` with so many Ceph nodes."""
    labs = []

    def up(provider, nodes):
        context = vagrant_lab.for_tests(lab_home, provider, nodes)
        lab = context.__enter__()
        labs.append(context)
        lab.said = lab.vagrant("up")
        return lab

    yield up
    for context in labs:
        context.__exit__(None, None, None)
