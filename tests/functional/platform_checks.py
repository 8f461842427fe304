"""Fixtures of the platform's table: a server, loaders whose pillar declares it, and what stands in the table."""

import copy
import json
import threading
import time
from pathlib import Path

import platform_server
import pytest
from platform_server import CEPH, RBD
from saltplatform import database
from saltplatform import pillar as platform_pillar

VERSIONS = ("debian", "9.5")


@pytest.fixture(scope="module", params=VERSIONS)
def server(request, tmp_path_factory):
    """A PostgreSQL server of the tests' own: Debian's, and the oldest that this package works with."""
    yield from platform_server.running_server(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """Debian's PostgreSQL alone."""
    yield from platform_server.running_server("debian", tmp_path_factory)


@pytest.fixture(scope="module")
def pool():
    """Nobody asks Ceph for it."""
    return CEPH["pool"]


@pytest.fixture(scope="module")
def loaders(make_loaders, server):
    """Salt's loaders with the platform in the pillar; ``ceph:`` is the notes' cluster, which nobody asks."""
    return make_loaders({"ceph": CEPH, "platform": platform_server.declared(server.port)})


@pytest.fixture
def pillar(loaders):
    """Change the pillar for one test: ``pillar(lambda found: found["ceph"].update(pool="x"))``."""
    path = Path(loaders.opts["pillar_roots"]["base"][0]) / "all.sls"
    before = path.read_text()

    def write(text):
        path.write_text(text)
        found = loaders.opts["pillar"]
        for key, value in json.loads(text).items():
            found[key] = value

    def change(how):
        found = copy.deepcopy(json.loads(path.read_text()))
        how(found)
        write(json.dumps(found))

    yield change
    write(before)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Limits for a machine that does much else; those who test them set their own."""
    for name in ("CONNECT", "STATEMENT", "LOCK", "SESSION"):
        monkeypatch.setattr(database, name, 300)


@pytest.fixture
def platform(loaders):
    """What the pillar says."""
    return platform_pillar.read(loaders.opts, loaders.opts["pillar"])


@pytest.fixture(autouse=True)
def no_table(server):
    """Each test begins without a table."""
    platform_server.clear(server)


class Work(threading.Thread):
    """Something that is done beside the test; ``result()`` waits for it and gives what it returned, or raised."""

    def __init__(self, work, *args):
        super().__init__(daemon=True)
        self._work, self._args = work, args
        self.start()

    def run(self):
        try:
            self._found, self._error = self._work(*self._args), None
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            self._error = error

    def result(self):
        self.join(300)
        assert not self.is_alive()
        if self._error:
            raise self._error
        return self._found


def waiting(server, count=1):
    """Wait until so many of our sessions wait for a lock, and return their pids."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        found = server.postgres(
            "SELECT DISTINCT a.pid FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted"
            " WHERE application_name = 'salt'"
        )
        if len(found) >= count:
            return [pid for (pid,) in found]
        time.sleep(0.05)
    raise AssertionError("nobody waits")


class Rows:
    """The table as the platform sees it."""

    def __init__(self, server):
        self.server = server

    def make(
        self, columns="id uuid NOT NULL, config_type text NOT NULL, config_detail text, create_time timestamptz, remark text", key=True
    ):
        """Make the table with these columns."""
        more = ", UNIQUE (config_type, id)" if key else ""
        self.server.sql(f"CREATE TABLE tenx_configs ({columns}{more})")

    def put(self, detail, config_type="rbd", identity=RBD):
        """Write a row as the platform would, with an old time."""
        text = detail if isinstance(detail, str) else json.dumps(detail)
        values = (identity, config_type, text)
        self.server.sql("INSERT INTO tenx_configs (id, config_type, config_detail, create_time) VALUES (%s, %s, %s, '2017-11-01')", values)

    def all(self):
        """``{(type, id): (document, time, the transaction that wrote it)}``; the transaction tells whether a row was written at all."""
        found = self.server.sql("SELECT config_type, id::text, config_detail, create_time, xmin::text FROM tenx_configs")
        return {(kind, identity): (detail, created, writer) for kind, identity, detail, created, writer in found}

    def detail(self, config_type="rbd", identity=RBD):
        """The document of a row."""
        return json.loads(self.all()[config_type, identity][0])


@pytest.fixture
def table(server):
    """The table: ``table.make()``, ``table.put(document)``, ``table.detail()``."""
    return Rows(server)
