"""Passwords of the platform's rows are in pillar and table, and nowhere else: where a server logs all that it can, and a write fails."""

import json
import logging
import os
import subprocess
from pathlib import Path

import platform_checks
import platform_server
import psycopg2
import pytest
from platform_checks import Work, waiting
from platform_server import AGENT, MAIL, NAME, PASSWORD, RBD, RELAY
from saltplatform import errors, rows
from saltplatform import table as tables

# Fixtures.
loaders, no_table, patient, pillar = platform_checks.loaders, platform_checks.no_table, platform_checks.patient, platform_checks.pillar
platform, pool, server, table = platform_checks.platform, platform_checks.pool, platform_checks.server, platform_checks.table

SECOND, OLD, CARELESS = "PlantedSecondPassword4471", "PlantedOldPassword8130", "PlantedCarelessPassword6029"
SECRETS = {"database": PASSWORD, "agent": AGENT, "relay": RELAY, "second": SECOND, "old": OLD}
# As in tests/faults/test_secrets.py: below it Salt itself logs the pillar's files.
TRACE = 5


@pytest.fixture
def louder(server):
    """The server also logs what it makes of each statement, as a developer of PostgreSQL would have it."""
    for setting in platform_server.LOUDER:
        server.postgres(f"ALTER ROLE {NAME} SET {setting}")
    yield
    server.postgres(f"ALTER ROLE {NAME} RESET ALL")


@pytest.fixture
def salts_log(tmp_path):
    """All that Salt and this package log."""
    path = tmp_path / "everything.log"
    handler = logging.FileHandler(path)
    handler.setLevel(TRACE)
    loggers = [logging.getLogger(name) for name in ("", "salt", "saltrbd", "saltplatform")]
    before = [one.level for one in loggers]
    loggers[0].addHandler(handler)
    for one in loggers:
        one.setLevel(TRACE)
    yield path
    for one, level in zip(loggers, before):
        one.setLevel(level)
    loggers[0].removeHandler(handler)
    handler.close()


@pytest.fixture
def started(monkeypatch):
    """The arguments and the environment of everything that is started during a test."""
    found, popen = [], subprocess.Popen.__init__

    def noted(one, argv, *args, **kwargs):
        found.append([argv, kwargs.get("env") or dict(os.environ)])
        popen(one, argv, *args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    return found


def arguments():
    """What stands in the arguments of every process of this host: PostgreSQL writes there what each of its own does."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def shown(text):
    return [name for name, secret in SECRETS.items() if secret in text]


def test_a_password_is_found_nowhere(server, louder, salts_log, started, states, modules, pillar, table):
    """Made, read, changed, refused, removed."""
    said, before = [], len(server.said())

    def state(function, *args, **kwargs):
        for test in (True, False):
            ran = getattr(states.platform_config, function)(*args, test=test, **kwargs)
            said.append([ran.comment, ran.changes])
        return ran

    assert state("schema_present", "table").result is True
    assert state("present", RBD).result is True
    assert state("present", MAIL, config_type="mail").result is True
    pillar(lambda found: found["platform"]["agent"].update(password=SECOND))
    assert state("present", RBD).result is True
    server.sql("UPDATE tenx_configs SET config_detail = replace(replace(config_detail, 'ext4', ''), '\"fsType\"', '\"password\"')")
    said += [modules.platform_config.get(RBD), modules.platform_config.list(), modules.platform_config.diff(RBD)]
    said += [modules.platform_config.layout()]
    pillar(lambda found: found["platform"]["agent"].update(user=""))
    assert state("present", RBD).result is False
    assert state("absent", RBD).result is True
    assert shown(json.dumps(said, default=str)) == []
    assert shown(salts_log.read_text(errors="replace")) == []
    assert len(salts_log.read_text(errors="replace")) > 10000, "the log is as detailed as it can be"
    log = server.said()[before:]
    assert "fastpath function call" in log, "a document came this way, and the server logs it"
    assert "INSERT INTO" in log
    assert "lo_get" in log
    assert shown(log) == []
    assert shown(str(started)) == []
    assert SECOND not in str(table.all())
    assert RELAY in str(table.all()), "the search finds what is there"


COLUMNS = "id uuid, config_type {}, config_detail text, create_time timestamptz, remark text"
FAILING = {
    # What a table that is right can still refuse.
    "too long": (lambda table: table.make(COLUMNS.format("varchar(2)")), "value too long for type character varying(2)", False),
    "foreign key": (
        lambda table: (
            table.server.sql("CREATE TABLE kinds (kind text PRIMARY KEY)"),
            table.make(COLUMNS.format("text REFERENCES kinds")),
        ),
        "violates foreign key constraint",
        False,
    ),
    # Forced: tables that are refused before anything is written, were they not; their messages show the row.
    "check": (
        lambda table: (table.make(), table.server.sql("ALTER TABLE tenx_configs ADD CHECK (length(config_detail) < 5)")),
        "DETAIL:  Failing row contains",
        True,
    ),
    "not null": (
        lambda table: (table.make(), table.server.sql("ALTER TABLE tenx_configs ADD COLUMN needed int NOT NULL")),
        "DETAIL:  Failing row contains",
        True,
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_write_that_fails(server, louder, states, table, monkeypatch, what):
    """The server logs the statement that failed, and no password with it."""
    make, why, forced = FAILING[what]
    make(table)
    if forced:
        monkeypatch.setattr(tables, "check", lambda facts, extra: None)
    before = len(server.said())
    ran = [states.platform_config.present(RBD), states.platform_config.present(MAIL, config_type="mail")]
    log = server.said()[before:]
    assert [one.result for one in ran] == [False, False]
    assert shown(str([(one.comment, one.changes) for one in ran])) == []
    assert "nothing was written: " in ran[0].comment
    assert why in log
    assert 'STATEMENT:  INSERT INTO "public"."tenx_configs"' in log
    assert shown(log) == []
    assert table.all() == {}
    # The same row as psycopg2 writes it: this is what it is about.
    detail = json.dumps({"agent": {"user": "tenx-agent", "password": CARELESS}})
    values = (RBD, "rbd", detail)
    with pytest.raises(psycopg2.Error):
        server.sql("INSERT INTO tenx_configs (id, config_type, config_detail) VALUES (%s, %s, %s)", values)
    assert CARELESS in server.said()[before:]


def test_what_copy_shows(server, table):
    """Why a document does not come by COPY: its line is the CONTEXT of an error."""
    table.make(COLUMNS.format("text") + ", needed int NOT NULL")
    before = len(server.said())
    with server.connect() as one, one.cursor() as cursor:
        line = Path(server.folder / "line")
        line.write_text(f"{RBD}\trbd\t{CARELESS}\n")
        with open(line) as file, pytest.raises(psycopg2.Error):
            cursor.copy_from(file, "tenx_configs", columns=("id", "config_type", "config_detail"))
    one.close()
    assert CARELESS in server.said()[before:]


@pytest.mark.parametrize("end", ["it goes on", "the server ends it"])
def test_while_a_write_waits(server, louder, platform, table, end):
    """Neither the list of sessions nor another one's view of large objects shows it; what is broken off leaves nothing."""
    table.make()
    before = len(server.said())
    other = server.connect()
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO tenx_configs (id, config_type, config_detail) VALUES (%s, 'rbd', '{}')", (RBD,))
    work = Work(rows.write, platform, "rbd", RBD, lambda row: json.dumps({"agent": {"password": AGENT}}))
    (pid,) = waiting(server)
    queries = server.postgres("SELECT coalesce(query, '') FROM pg_stat_activity")
    assert any("lo_get" in query for (query,) in queries)
    assert shown(str(queries)) == []
    assert any("INSERT waiting" in text for text in arguments())
    assert shown(str(arguments())) == []
    assert server.postgres("SELECT count(*) FROM pg_largeobject_metadata", NAME) == [(0,)]
    if end == "it goes on":
        other.rollback()
        assert work.result() is True
        assert AGENT in str(table.all())
    else:
        server.postgres(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(errors.DatabaseUnreachable) as told:
            work.result()
        assert "Nothing half is written" in str(told.value)
        assert shown(str(told.value)) == []
        other.rollback()
        assert table.all() == {}
    other.close()
    assert server.postgres("SELECT count(*) FROM pg_largeobject_metadata", NAME) == [(0,)]
    assert shown(server.said()[before:]) == []
