"""Many writers of one row at once: none loses what another has written, and none waits for ever."""

import json
import os
import signal
import threading

import platform_checks
import psycopg2
import pytest
from platform_checks import Work, waiting
from platform_server import AGENT, RBD
from saltplatform import database, document, errors, rows

# Fixtures.
loaders, no_table, patient = platform_checks.loaders, platform_checks.no_table, platform_checks.patient
platform, pool, server, table = platform_checks.platform, platform_checks.pool, platform_checks.server, platform_checks.table

WRITERS = 50


def together(count, work):
    """Do it so many times at once; the numbers from 0 on are its argument."""
    begin = threading.Barrier(count)

    def one(number):
        begin.wait(300)
        return work(number)

    return [doing.result() for doing in [Work(one, number) for number in range(count)]]


def adding(key, value=1):
    """A writer who adds a field to whatever is there."""

    def decide(row):
        found = document.read(row.detail) if row else {}
        return document.text({**found, key: value})

    return decide


@pytest.mark.parametrize("there", [False, True])
def test_fifty_writers(server, platform, table, there):
    """Each adds a field of its own, to a row that is not there yet, and to one that is."""
    table.make()
    if there:
        table.put({"old": 0})
    assert together(WRITERS, lambda number: rows.write(platform, "rbd", RBD, adding(f"w{number}", number))) == [True] * WRITERS
    expected = {f"w{number}": number for number in range(WRITERS)}
    assert table.detail() == {**({"old": 0} if there else {}), **expected}
    assert len(table.all()) == 1


def test_ours_and_the_platforms(server, loaders, table):
    """Salt applies the pillar while the platform, in statements of its own, adds fields and spoils fsType, as it did in the notes."""
    table.make()
    table.put({"config": {"fsType": ""}})

    def both(number):
        if number % 2:
            field = json.dumps({f"p{number}": number, "config": {"fsType": "", "kept": "x"}})
            return server.sql("UPDATE tenx_configs SET config_detail = (config_detail::jsonb || %s::jsonb)::text", (field,))
        try:
            return loaders.modules.platform_config.apply(RBD)
        except Exception as error:  # noqa: BLE001
            # A second look that finds the platform's next write says so; anything else is a fault.
            assert "a second look shows that somebody else has changed it since" in str(error)
            return None

    together(WRITERS, both)
    loaders.modules.platform_config.apply(RBD)
    found = table.detail()
    assert {key: value for key, value in found.items() if key[0] == "p"} == {f"p{number}": number for number in range(1, WRITERS, 2)}
    assert (found["config"]["fsType"], found["config"]["kept"]) == ("ext4", "x")
    assert found["agent"] == {"user": "tenx-agent", "password": AGENT}


def test_a_row_that_comes_meanwhile_is_merged(server, platform, table):
    """Somebody else's row appears between our looking and our writing: we are asked again, with it in our hands."""
    table.make()
    other = server.connect()
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO tenx_configs (id, config_type, config_detail) VALUES (%s, 'rbd', '{\"theirs\": 1}')", (RBD,))
    asked = []

    def decide(row):
        asked.append(row and row.detail)
        return adding("ours")(row)

    work = Work(rows.write, platform, "rbd", RBD, decide)
    waiting(server)
    other.commit()
    other.close()
    assert work.result() is True
    assert asked == [None, '{"theirs": 1}']
    assert table.detail() == {"theirs": 1, "ours": 1}


def held(server):
    """Somebody else's session that holds the row."""
    other = server.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM tenx_configs FOR UPDATE")
    return other


def test_a_row_that_stays_locked(server, platform, table, monkeypatch):
    table.make()
    table.put({"old": 0})
    monkeypatch.setattr(database, "LOCK", 1)
    other = held(server)
    with pytest.raises(errors.DatabaseTimeout, match="locked by somebody else"):
        rows.write(platform, "rbd", RBD, adding("ours"))
    other.close()
    assert table.detail() == {"old": 0}


def test_a_server_that_hangs(server, platform, table, monkeypatch):
    """Its process is stopped: it neither answers nor ends the connection."""
    table.make()
    table.put({"old": 0})
    monkeypatch.setattr(database, "SESSION", 20)
    other = held(server)
    work = Work(rows.write, platform, "rbd", RBD, adding("ours"))
    (pid,) = waiting(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(errors.DatabaseTimeout, match="did not end its work within 20 s and was left"):
            work.result()
    finally:
        os.kill(pid, signal.SIGCONT)
        other.close()
    assert table.detail() == {"old": 0}


ALTERED = [
    "ALTER TABLE tenx_configs ADD CHECK (config_detail = '')",
    "CREATE INDEX detail ON tenx_configs (config_detail)",
    "CREATE TRIGGER t BEFORE INSERT ON tenx_configs FOR EACH ROW EXECUTE PROCEDURE suppress_redundant_updates_trigger()",
]


def test_a_table_cannot_change_under_a_write(server, platform, table):
    """What was looked at is what is written into: nobody adds in between what would show the row."""
    table.make()
    refused = []

    def decide(row):
        for statement in ALTERED:
            with pytest.raises(psycopg2.Error) as told:
                server.sql(f"SET lock_timeout = '1s'; {statement}")
            refused.append(told.value.pgcode)
        return "{}"

    assert rows.write(platform, "rbd", RBD, decide) is True
    assert refused == ["55P03"] * len(ALTERED), "they waited for a lock"
