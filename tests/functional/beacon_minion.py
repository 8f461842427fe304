"""A minion's beacons and nothing else of it, run by Salt's own machinery; shared by the tests of looks and alerts."""

import json
import time

import pytest
from saltrbd import health_watch

LOOK = {"interval": 1, "report_every": 1, "pool_full": 80, "volume_full": 90, "frozen": 1, "snapshots": {}}


class Minion:
    """A minion's beacons and nothing else of it; ``longest`` is the longest turn of its loop."""

    def __init__(self, loaders, pillar, **look):
        import salt.beacons

        opts = dict(loaders.opts, pillar=pillar)
        self._config = {"rbd_health": [{"interval": 1}, {"look": {**LOOK, **look}}]}
        opts["beacons"] = self._config
        self._beacons = salt.beacons.Beacon(opts, loaders.modules)
        self.longest = 0.0

    def turn(self):
        began = time.monotonic()
        events = self._beacons.process(json.loads(json.dumps(self._config)), {})
        self.longest = max(self.longest, time.monotonic() - began)
        assert all("error" not in event for event in events), events
        assert all(event["tag"] == "salt/beacon/tests/rbd_health/" for event in events)
        return [event["data"] for event in events]

    def until(self, wanted, seconds=120):
        """Go round until a report fulfils ``wanted``, and return what it found, as {(area, subject): item}."""
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            for report in self.turn():
                last = {(one["area"], one["subject"]): one for one in report["found"]}
                if wanted(last, report["looked"]):
                    return last
            time.sleep(0.2)
        raise AssertionError(f"waited {seconds} s in vain, at last for {last}")


@pytest.fixture
def make_minion(make_loaders, tmp_path):
    """``make_minion(cluster, pool, rbd={...}, volume_full=40)``."""

    from conftest import ceph_pillar  # which has this fixture for all files

    def make(cluster, pool, rbd=None, **look):
        pillar = {"ceph": ceph_pillar(cluster, pool), "rbd": rbd or {}}
        return Minion(make_loaders(pillar, {"cachedir": str(tmp_path / "cache")}), pillar, **look)

    yield make
    for watch in health_watch._watches.values():
        if watch._process and watch._process.poll() is None:
            watch._process.kill()
            watch._process.wait(20)
    health_watch._watches.clear()
