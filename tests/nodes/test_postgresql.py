"""PostgreSQL on a booted node: by an archive of binaries (9.5, which nobody packages any more) and from the distribution."""

import secrets

import pytest
from node_end import ending
from postgresql_host import ARCHIVE, Database

from labkit import postgresql

SOURCES = ("archive 9.5", "distribution")


def fetched(lab_home, major):
    try:
        return postgresql.archive(lab_home, major)
    except postgresql.NotReachable as problem:
        pytest.skip(f"PostgreSQL {major} was not tried: {problem}")


def put_archive(database, lab_home, major):
    """Put the archive onto the node and declare it."""
    (database.node.root / ARCHIVE[1:]).write_bytes(fetched(lab_home, major).read_bytes())
    archive = {"source": ARCHIVE, "sha256": postgresql.ARCHIVES[major].sha256}
    database.declare(version=major, source="archive", archive=archive)


@pytest.fixture(scope="module", params=SOURCES)
def database(request, lab_home):
    """A node with a server, and what the first dry run, the first run and the second said (``runs``)."""
    from labkit import debian

    source, _, major = request.param.partition(" ")
    if source == "archive":
        fetched(lab_home, major)
    found = Database(lab_home, 5, source="distribution", version=postgresql.DISTRIBUTION[debian.suite()])
    with ending(found.node):
        if source == "archive":
            put_archive(found, lab_home, major)
        found.runs = [found.apply(test=True), found.apply(), found.apply()]
        yield found


def test_first_and_second_run(database):
    dry, first, second = database.runs
    assert [run.failed() for run in database.runs] == [{}, {}, {}]
    assert dry.changed() == first.changed()
    assert second.changed() == set()
    ours = [key for key, row in first.items() if row["__sls__"].startswith("postgresql.") and row["changes"] and "role" in key]
    assert ours
    assert {key: dry[key]["changes"] for key in ours} == {key: first[key]["changes"] for key in ours}
    said = first["postgresql is supported here"]["comment"]
    assert ("past its end of life" in said) == (database.declared["version"] in ("9.5", "9.6")), said


def test_version_by_password_over_tls(database):
    (row,) = database.query("SELECT version()")
    wanted = postgresql.ARCHIVES.get(database.declared["version"])
    assert row[0].startswith(f"PostgreSQL {wanted.version if wanted else database.declared['version'] + '.'}"), row
    assert database.query("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0][0] is True
    stored = database.postgres("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    assert stored.startswith("md5" if wanted else "SCRAM-SHA-256$")


def test_who_is_refused(database):
    assert "password authentication failed" in database.refusal(password=secrets.token_urlsafe())
    assert "no pg_hba.conf entry" in database.refusal(sslmode="disable")
    assert "no pg_hba.conf entry" in database.refusal_inside()
    listens = database.postgres("SHOW listen_addresses")
    assert listens == f"localhost, {database.node.address}"


def test_key_and_files_are_closed(database):
    layout = database.call("postgresql_server.layout")
    paths = [layout["tls"]["key"], *(f"{layout['conf_dir']}/{name}.conf" for name in ("postgresql", "pg_hba", "pg_ident"))]
    assert set(database.node.run("stat", "-c", "%a %U", *paths)[1].splitlines()) == {"600 postgres"}


def test_reload_and_restart(database):
    pid = database.postmaster()
    database.declare(settings={"work_mem": "9MB", "log_statement": "all"})
    dry, real = database.apply(test=True), database.applied()
    assert dry["postgresql configuration"]["changes"] == real["postgresql configuration"]["changes"]
    assert real["postgresql configuration"]["changes"]["action"] == "reload"
    assert (database.postmaster(), database.query("SHOW work_mem")) == (pid, [("9MB",)])
    assert database.apply().changed() == set()
    database.declare(settings={"work_mem": "9MB", "log_statement": "all", "max_connections": 37, "shared_buffers": "65536kB"})
    dry, real = database.apply(test=True), database.applied()
    assert dry["postgresql configuration"]["changes"] == real["postgresql configuration"]["changes"]
    assert real["postgresql configuration"]["changes"]["action"] == "restart"
    again = database.postmaster()
    assert again != pid
    assert database.query("SHOW max_connections") == [("37",)]
    assert database.apply().changed() == set()
    assert database.postmaster() == again


def test_what_was_left_half_done_is_made_up_for(database):
    """Files that were written and not read: the next run reloads."""
    layout = database.call("postgresql_server.layout")
    database.node.run("touch", f"{layout['conf_dir']}/pg_hba.conf")
    assert database.applied()["postgresql configuration"]["changes"] == {"action": "reload"}
    assert database.apply().changed() == set()


def test_rules_are_followed_by_a_reload(database):
    pid, rules = database.postmaster(), database.declared["pg_hba"]
    database.declare(pg_hba=[*rules[:1], dict(rules[1], database="other")])
    assert database.applied()["postgresql configuration"]["changes"]["action"] == "reload"
    assert "no pg_hba.conf entry" in database.refusal()
    database.declare(pg_hba=rules)
    database.applied()
    database.connect().close()
    assert database.postmaster() == pid
    # Nobody from outside is named any more: nobody outside is listened to, and that takes a restart.
    database.declare(pg_hba=rules[:1])
    assert database.applied()["postgresql configuration"]["changes"]["action"] == "restart"
    assert "Connection refused" in database.refusal()
    database.declare(pg_hba=rules)
    database.applied()
    database.connect().close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"work_memo": "9MB"}, "no setting work_memo"), ({"work_mem": "9 parsecs"}, 'invalid value for parameter "work_mem"')],
)
def test_a_configuration_that_would_break_it_is_refused(database, settings, said):
    kept, pid = database.declared["settings"], database.postmaster()
    database.declare(settings={**kept, **settings})
    for test in (True, False):
        failed = database.apply(test=test).failed()
        assert said in failed["postgresql configuration"]
    database.declare(settings=kept)
    assert database.apply().changed() == set()
    assert database.postmaster() == pid


def test_alter_system_is_not_passed_over(database):
    database.postgres("ALTER SYSTEM SET work_mem = '11MB'; SELECT pg_reload_conf()")
    for test in (True, False):
        assert "ALTER SYSTEM RESET work_mem" in database.apply(test=test).failed()["postgresql configuration"]
    database.postgres("ALTER SYSTEM RESET work_mem; SELECT pg_reload_conf()")
    assert database.apply().failed() == {}


def test_a_configuration_that_it_does_not_start_with_is_put_back(database):
    kept = database.declared["settings"]
    database.declare(settings={**kept, "shared_preload_libraries": "no_such_library"})
    said = database.apply().failed()["postgresql configuration"]
    assert "The one before was put back, and with it the server runs again." in said
    assert database.query("SHOW work_mem") == [("9MB",)]
    database.declare(settings=kept)
    assert database.apply().changed() == set()


def test_a_changed_password_shows_nowhere(database):
    old, database.password = database.password, secrets.token_urlsafe(20)
    roles = database.declared["roles"]
    database.declare(roles={**roles, "app": {**roles["app"], "password": database.password}})
    dry, real = database.apply(test=True), database.applied()
    key = "postgresql role app"
    assert dry[key]["changes"] == real[key]["changes"]
    assert real.changed() == {key}
    assert set(real[key]["changes"]) == {"password"}
    database.connect().close()
    assert "password authentication failed" in database.refusal(password=old)
    verifier = database.postgres("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    # The server's log has every statement here.
    logs = database.node.shell("journalctl --no-pager; cat /var/log/salt/minion /var/log/postgresql/* 2>/dev/null; true")[1]
    assert "ALTER SYSTEM RESET work_mem" in logs
    for secret in (old, database.password, verifier):
        assert secret not in logs
        assert secret not in str(real) + str(dry)
    for secret in (old, database.password):
        assert database.node.run("grep", "-rlF", "--", secret, "/var/cache/salt", "/etc", "/tmp", check=False)[1] == ""


def test_backup_drop_restore(database):
    database.query("CREATE TABLE kept (id int PRIMARY KEY, what text, more hstore)")
    database.query("INSERT INTO kept SELECT n, 'row ' || n, hstore('n', n::text) FROM generate_series(1, 1000) n")
    folder = "/var/backups/postgresql"
    old = f"{folder}/20200101T000000Z"
    database.node.shell(f"install -d -o postgres -g postgres -m 700 {old} && touch -d '-15 days' {old}")
    database.node.run("systemctl", "start", "postgresql-backup.service")
    (dumps,) = database.node.run("ls", folder)[1].split()
    assert set(database.node.run("ls", f"{folder}/{dumps}")[1].split()) == {"app.dump", "postgres.dump", "globals.sql"}
    dump = f"{folder}/{dumps}/app.dump"
    code, _, err = database.node.run("postgresql-restore", "app", dump, check=False)
    assert (code, "Nothing was changed" in err) == (1, True)

    database.postgres("DROP DATABASE app")
    assert database.applied().changed() == {"postgresql database app"}
    database.node.shell(f"head -c $(($(stat -c %s {dump}) / 2)) {dump} >/tmp/half.dump; chmod 644 /tmp/half.dump")
    assert database.node.run("postgresql-restore", "app", "/tmp/half.dump", check=False)[0] != 0
    assert database.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert database.node.run("postgresql-restore", "app", dump)[0] == 0
    assert database.query("SELECT count(*), sum(id), max(more -> 'n') FROM kept") == [(1000, 500500, "999")]
    assert database.postgres("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'", "app") == "app"
    assert database.apply().changed() == set()


def test_reboot(database):
    assert database.node.reboot() == []
    database.wait()
    assert database.query("SELECT count(*) FROM kept") == [(1000,)]
    assert database.node.run("systemctl", "is-active", "postgresql-backup.timer")[1].strip() == "active"
    assert database.apply().changed() == set()


def test_clean_keeps_the_data_until_it_is_told(database):
    layout = database.call("postgresql_server.layout")
    dry, real = database.apply("postgresql.clean", test=True), database.applied("postgresql.clean")
    assert dry.failed() == {}
    assert dry.changed() == real.changed()
    assert database.apply("postgresql.clean").changed() == set()
    assert database.node.run("systemctl", "is-active", layout["service"], check=False)[0] != 0
    assert database.node.run("ls", f"{layout['bin_dir']}/postgres", check=False)[0] != 0
    assert database.node.run("cat", f"{layout['data_dir']}/PG_VERSION")[1].strip() == database.declared["version"]
    # What comes again finds its data.
    database.applied()
    assert database.query("SELECT count(*) FROM kept") == [(1000,)]
    database.declare(clean_data=True)
    database.applied("postgresql.clean")
    assert database.node.run("ls", layout["data_dir"], check=False)[0] != 0
    assert database.apply("postgresql.clean").changed() == set()
    assert database.node.run("ls", "/var/backups/postgresql")[1].split()
