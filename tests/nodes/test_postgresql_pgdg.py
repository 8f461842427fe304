"""PostgreSQL 9.5 by the PostgreSQL project's packages, from a repository of the test's own that is built as theirs is: its names and paths,
its signature, the real server 9.5. What differs is who compiled it. By apt; and by yum, on a Debian that has dnf and rpm and whose
grains say that it is CentOS 7.
"""

from collections import namedtuple

import pytest
from node_end import ending
from postgresql_host import Database
from test_postgresql import fetched

from labkit import debian, pgdg, pgdg_yum, postgresql

REPOSITORY = "/srv/pgdg"

# ``listed`` is the file that names the repository; ``forget`` makes the node fetch it anew.
Family = namedtuple("Family", "service data_dir setup listed forget")
FAMILIES = {
    "apt": Family(
        "postgresql@9.5-main",
        "/var/lib/postgresql/9.5/main",
        "/usr/bin/pg_createcluster",
        "/etc/apt/sources.list.d/postgresql-pgdg.list",
        "rm -rf /var/lib/apt/lists",
    ),
    "yum": Family(
        "postgresql-9.5",
        "/var/lib/pgsql/9.5/data",
        "/usr/pgsql-9.5/bin/postgresql95-setup",
        "/etc/yum.repos.d/postgresql-pgdg.repo",
        "dnf --quiet clean all; rpm -e $(rpm -q gpg-pubkey)",
    ),
}


def by_apt(database, jar, minor, newer):
    folder = database.node.root / REPOSITORY[1:]
    folder.mkdir(parents=True)
    pgdg.apt(folder, jar, "9.5", minor, newer)
    database.declare(repository={"url": f"file:{REPOSITORY}", "suite": "lab-pgdg-archive", "key": f"{REPOSITORY}/key.asc"})


def by_yum(database, jar, minor, newer):
    pgdg_yum.make(database.node, REPOSITORY, jar, "9.5", minor, newer)
    database.configure(grains=pgdg_yum.GRAINS)
    database.declare(repository={"url": f"file://{REPOSITORY}", "key": f"{REPOSITORY}/key.asc"})


@pytest.fixture(params=FAMILIES)
def database(request, lab_home):
    jar = fetched(lab_home, "9.5")
    found = Database(lab_home, 6, source="pgdg")
    with ending(found.node):
        make = {"apt": by_apt, "yum": by_yum}[request.param]
        make(found, jar, postgresql.ARCHIVES["9.5"].version, postgresql.DISTRIBUTION[debian.suite()])
        found.family = FAMILIES[request.param]
        yield found


def test_pgdg(database):
    dry, first, second = database.apply(test=True), database.apply(), database.apply()
    assert [run.failed() for run in (dry, first, second)] == [{}, {}, {}]
    assert dry.changed() == first.changed()
    assert second.changed() == set()
    layout, family = database.call("postgresql_server.layout"), database.family
    assert (layout["service"], layout["data_dir"], layout["initdb"][0]) == (family.service, family.data_dir, family.setup)
    assert database.query("SELECT version()")[0][0].startswith("PostgreSQL 9.5.")
    assert database.postgres("SHOW data_directory") == family.data_dir
    assert database.node.run("systemctl", "is-enabled", "postgresql-backup.timer", family.service, check=False)[1].split()[0] == "enabled"
    if family is FAMILIES["apt"]:
        assert database.node.run("pg_lsclusters", "--no-header")[1].split()[:4] == ["9.5", "main", "5432", "online"]
    else:
        assert database.node.run("rpm", "-q", "postgresql95-server", "postgresql95-contrib")[0] == 0
    assert database.node.reboot() == []
    database.wait()
    assert database.apply().changed() == set()
    database.declare(clean_data=True)
    assert database.apply("postgresql.clean").failed() == {}
    assert database.apply("postgresql.clean").changed() == set()
    for path in (family.listed, family.data_dir, f"{layout['bin_dir']}/postgres"):
        assert database.node.run("ls", path, check=False)[0] != 0, path
    # A key that did not sign the repository lets nothing in.
    database.node.shell(f"{family.forget}; echo 'no key' >{REPOSITORY}/key.asc")
    assert set(database.apply().failed()) & {"postgresql repository", "postgresql packages"}
    assert database.node.run("ls", f"{layout['bin_dir']}/postgres", check=False)[0] != 0
