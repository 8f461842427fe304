"""PostgreSQL 9.5 by the PostgreSQL project's packages, from a repository of the test's own that is built as theirs is: its names and paths,
its signature, the real server 9.5. What differs is who compiled it.
"""

import pytest
from postgresql_host import Database
from test_postgresql import fetched

from labkit import debian, pgdg, postgresql

REPOSITORY = "srv/pgdg"


@pytest.fixture
def database(lab_home):
    jar = fetched(lab_home, "9.5")
    found = Database(lab_home, 6, source="pgdg")
    try:
        folder = found.node.root / REPOSITORY
        folder.mkdir(parents=True)
        pgdg.apt(folder, jar, "9.5", postgresql.ARCHIVES["9.5"].version, postgresql.DISTRIBUTION[debian.suite()])
        found.declare(repository={"url": f"file:/{REPOSITORY}", "suite": "lab-pgdg-archive", "key": f"/{REPOSITORY}/key.asc"})
        yield found
    finally:
        problems = found.node.end()
    assert not problems, problems


def test_pgdg(database):
    dry, first, second = database.apply(test=True), database.apply(), database.apply()
    assert [run.failed() for run in (dry, first, second)] == [{}, {}, {}]
    assert dry.changed() == first.changed()
    assert second.changed() == set()
    layout = database.call("postgresql_server.layout")
    assert layout["service"] == "postgresql@9.5-main"
    assert database.query("SELECT version()")[0][0].startswith("PostgreSQL 9.5.")
    assert database.postgres("SHOW data_directory") == "/var/lib/postgresql/9.5/main"
    assert database.node.run("pg_lsclusters", "--no-header")[1].split()[:4] == ["9.5", "main", "5432", "online"]
    assert database.node.reboot() == []
    database.wait()
    assert database.apply().changed() == set()
    # A key that did not sign the repository lets nothing in.
    database.declare(clean_data=True)
    assert database.apply("postgresql.clean").failed() == {}
    assert database.apply("postgresql.clean").changed() == set()
    assert database.node.run("ls", "/etc/apt/sources.list.d/postgresql-pgdg.list", check=False)[0] != 0
    database.node.shell("rm -rf /var/lib/apt/lists; echo 'no key' >/srv/pgdg/key.asc")
    assert "postgresql repository" in database.apply().failed()
    assert database.node.run("ls", "/usr/lib/postgresql/9.5/bin/postgres", check=False)[0] != 0
