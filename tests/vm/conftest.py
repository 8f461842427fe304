"""Machines whose kernel has rbd and nbd; the tests run on this host and drive them. ``./lab test vm`` takes all away after."""

import json
import os

import pytest

from labkit import home, vm

DRIVERS = ("krbd", "nbd")


@pytest.fixture(scope="session")
def lab_home():
    if "RBD_LAB_HOME" not in os.environ:
        pytest.fail("These tests need the lab's machines; run them by ./lab test vm.", pytrace=False)
    return home.Home().tests()


@pytest.fixture(scope="session")
def machine(lab_home):
    """The machine, a client of its own cluster on this host."""
    return vm.up(lab_home, 1)


@pytest.fixture(scope="session")
def second(lab_home, machine):
    """Another machine, client of the same cluster."""
    return vm.up(lab_home, 2)


@pytest.fixture(params=DRIVERS)
def driver(request):
    """What maps: the kernel's own rbd, then rbd-nbd."""
    return request.param


class Salt:
    """salt-call in a machine."""

    def __init__(self, machine):
        self.machine = machine
        self.call("saltutil.sync_all")

    def call(self, function, *args, **kwargs):
        """Return what an execution function returns."""
        words = [*map(str, args), *(f"{key}={json.dumps(value)}" for key, value in kwargs.items())]
        out = self.machine.run("salt-call", "--local", "--out=json", function, *words, check=False)[1]
        return json.loads(out)["local"]

    def state(self, function, name, **kwargs):
        """Run one state and return its result."""
        (result,) = self.call("state.single", function, name=name, **kwargs).values()
        return result

    def applies(self, function, name, **kwargs):
        """The state must do what its dry run says; return the comment."""
        dry, real = (self.state(function, name, test=test, **kwargs) for test in (True, False))
        assert (dry["result"], real["result"]) == (None, True), (dry["comment"], real["comment"])
        assert dry["changes"] == real["changes"]
        return real["comment"]

    def refuses(self, function, name, **kwargs):
        """The state must refuse, dry and for real, in the same words, which are returned."""
        dry, real = (self.state(function, name, test=test, **kwargs) for test in (True, False))
        assert (dry["result"], real["result"]) == (False, False), (dry["comment"], real["comment"])
        assert dry["comment"] == real["comment"]
        return real["comment"]


@pytest.fixture(scope="session")
def salt(machine):
    """Salt on the machine: ``salt.applies("rbd_device.mapped", spec, driver="krbd")``."""
    return Salt(machine)


@pytest.fixture(scope="session")
def second_salt(second):
    """Salt on the second machine."""
    return Salt(second)
