"""No event of Salt's holds a key or a passphrase of pillar and keyring: on the master's bus and on the minion's, of runs that do
their work and of runs that fail; nor do the daemons' logs at debug level.
"""

import json

import pytest
from event_bus import daemons
from planted import USER, WRONG, plant, sealed, shown, uproot

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def planted(cluster, make_pool, tmp_path_factory, repo):
    found = plant(cluster, make_pool(), tmp_path_factory.mktemp("planted"), repo)
    yield found
    uproot(found)


@pytest.fixture(scope="module")
def salt_daemons(planted, salt_factories):
    with daemons(salt_factories, planted.site) as both:
        yield both


class Searched:
    """Runs things by the master and searches every event of each; the pillar is the master's file, for words on a command line show."""

    def __init__(self, planted, salt_daemons):
        self.site, self.secrets, self.daemons = *planted, salt_daemons
        self._ceph = json.loads((self.site.folder / "pillar/all.sls").read_text())
        self.name, self._rbd = self.site.next()[1]

    def declare(self, **volume):
        """Let the pillar declare the run's volumes and the encrypted one."""
        rbd = {**self._ceph["rbd"], **self._rbd["rbd"]}
        rbd["volumes"] = {**rbd["volumes"], "sealed": sealed(self.site, **volume)}
        (self.site.folder / "pillar/all.sls").write_text(json.dumps({**self._ceph, "rbd": rbd}))

    def run(self, function, *args, **kwargs):
        """Run it and search, with what came late of the runs before; returns (its answer, the tags that were heard on the master's bus)."""
        answer, heard, logged = self.listen(function, *args, **kwargs)
        self.search(heard, logged)
        assert all("[DEBUG" in text for text in logged.values()), {name: len(text) for name, text in logged.items()}
        return answer, [tag for tag, _ in heard["master"]]

    def search(self, heard, logged):
        """No secret is in what was heard and logged."""
        leaks = [(bus, tag, names) for bus, events in heard.items() for tag, text in events if (names := shown(self.secrets, text))]
        assert leaks == []
        assert {name: shown(self.secrets, text) for name, text in logged.items()} == {"master": [], "minion": []}

    def listen(self, function, *args, **kwargs):
        """Run it; returns (its answer, what was heard and what was logged since the last run); each state tells of itself by an event."""
        answer = self.daemons.run(function, *args, **kwargs)
        states = len(answer) if function == "state.apply" and isinstance(answer, dict) else 0
        return answer, self.daemons.heard(states), self.daemons.logged()

    def rest(self):
        """What came after the last run was searched: (heard, logged)."""
        return self.daemons.rest(), self.daemons.logged()

    def apply(self, sls=None, **words):
        """The run's SLS or another: {result: [comment]} of its states, each of which has told of itself by an event as well."""
        answer, _ = self.run("state.apply", sls or self.name, **words)
        assert isinstance(answer, dict), answer
        found = {}
        for one in answer.values():
            found.setdefault(one["result"], []).append(one["comment"])
        return found


@pytest.fixture(scope="module")
def searched(planted, salt_daemons):
    found = Searched(planted, salt_daemons)
    found.declare()
    yield found
    found.search(*found.rest())


@pytest.fixture
def leaky(searched):
    """What a leak leaves on the buses and in the logs is no other run's."""
    searched.search(*searched.rest())
    yield searched
    searched.rest()


def test_no_event_has_a_secret(searched):
    """A dry run, the run that makes everything, one that finds nothing to do; and what the modules tell."""
    assert set(searched.apply(test=True)) == {None}
    real = searched.apply()
    assert set(real) == {True}, real
    assert any("encryption: luks2" in comment for comment in real[True])
    assert set(searched.apply()) == {True}
    spec = f"{searched.site.pool}/sealed"
    assert searched.run("saltutil.refresh_pillar", wait=True)[0] is True
    key = {"format": "luks2", "pillar": "rbd:volumes:sealed:encryption:passphrase"}
    assert searched.run("rbd_encryption.opens", spec, json.dumps(key))[0] is True
    assert searched.run("rbd_encryption.info", spec)[0]["format"] == "luks2"
    for function in ("rbd_device.list", "rbd_cluster.doctor", "rbd_image.export_pillar"):
        assert searched.run(function)[0]


@pytest.mark.parametrize("why", ["a mistake in the pillar", "a wrong passphrase", "a key that is good for nothing"])
def test_no_event_of_a_run_that_fails_has_one(why, searched, ceph_cli):
    site, sls = searched.site, None
    if why == "a mistake in the pillar":
        searched.declare(passphrases=WRONG)
        sls, words = "rbd", "encryption must be a mapping of format and passphrase"
    elif why == "a wrong passphrase":
        searched.declare()
        assert False not in searched.apply()
        site.take_away()
        searched.declare(passphrase=WRONG)
        words = "does not open the LUKS header"
    else:
        searched.declare()
        ceph_cli("auth", "caps", USER, "mon", "allow r", "osd", "allow r")
        words = "capabilities"
    try:
        for test in (True, False):
            failed = searched.apply(sls, test=test).get(False, [])
            assert any(words in comment for comment in failed), failed
    finally:
        ceph_cli("auth", "caps", USER, "mon", "profile rbd", "osd", f"profile rbd pool={site.pool}")
        searched.declare()


LEAK = """
leak {name}:
  test.configurable_test_state:
    - changes: False
    - result: True
    - comment: {{{{ pillar{path} | json }}}}
"""


@pytest.mark.parametrize(
    ("name", "path"), [("passphrase", "['rbd']['volumes']['sealed']['encryption']['passphrase']"), ("key", "['ceph']['keyring_text']")]
)
def test_a_leak_is_found(name, path, leaky):
    """What a state of somebody else's tells of the pillar is heard on both buses: the search would find a leak of ours."""
    (leaky.site.folder / "states/leak.sls").write_text(LEAK.format(name=name, path=path))
    _, heard, logged = leaky.listen("state.apply", "leak")
    for bus in ("master", "minion"):
        assert any(shown(leaky.secrets, text) == [name] for _, text in heard[bus]), bus
    assert shown(leaky.secrets, logged["minion"]) == [name]
    assert any("/ret/" in tag and shown(leaky.secrets, text) for tag, text in heard["master"])
    assert any("/prog/" in tag and shown(leaky.secrets, text) for tag, text in heard["master"])
