"""The platform's table and rows on a server of the tests' own: made, kept, changed, removed, refused; dry and real, and twice."""

import datetime
import json

import platform_checks
import pytest
from platform_server import AGENT, CEPH, MAIL, NAME, RBD, RELAY
from salt.exceptions import CommandExecutionError

# Fixtures.
loaders, no_table, patient = platform_checks.loaders, platform_checks.no_table, platform_checks.patient
pillar, pool, server, table = platform_checks.pillar, platform_checks.pool, platform_checks.server, platform_checks.table

RIGHT = {
    "name": "tenx",
    "url": "https://storage.example.net:8011",
    "config": {**CEPH, "fsType": "ext4"},
    "calamariUrl": "192.168.0.11:5000",
    "agent": {"user": "tenx-agent", "password": AGENT},
}
OTHER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def made(states):
    """The table and both rows, as the states make them."""
    assert states.platform_config.schema_present("table").result is True
    assert states.platform_config.present(RBD).result is True
    assert states.platform_config.present(MAIL, config_type="mail").result is True


def test_a_life(converges, unchanged, table, modules, pillar, made, states):
    """Created, left alone, changed, removed: one row, and no other; its time changes with it alone."""
    table.put({"name": "another"}, identity=OTHER)
    table.put({"x": 1}, config_type="somebody's", identity=RBD)
    before = table.all()
    assert json.loads(before["rbd", RBD][0]) == RIGHT
    unchanged("platform_config.schema_present", "table")
    unchanged("platform_config.present", "tenx")
    unchanged("platform_config.present", RBD.upper())
    assert table.all() == before, "not even written again"
    pillar(lambda found: found["platform"]["settings"]["rbd"][0].update(fs_type="xfs"))
    real = converges("platform_config.present", "tenx")
    assert real.changes == {"rbd/tenx": {"$.config.fsType": {"old": "ext4", "new": "xfs"}}}
    after = table.all()
    assert after["rbd", RBD][1] > before["rbd", RBD][1]
    assert {key: row for key, row in after.items() if key != ("rbd", RBD)} == {
        key: row for key, row in before.items() if key != ("rbd", RBD)
    }
    assert table.detail() == {**RIGHT, "config": {**RIGHT["config"], "fsType": "xfs"}}
    gone = converges("platform_config.absent", "tenx")
    assert gone.changes["rbd/tenx"]["row"] == {"old": "present", "new": None}
    assert set(table.all()) == set(before) - {("rbd", RBD)}
    converges("platform_config.absent", OTHER)
    assert set(table.all()) == {("mail", MAIL), ("somebody's", RBD)}


def test_created(converges, unchanged, server, table, modules):
    converges("platform_config.schema_present", "table")
    real = converges("platform_config.present", "tenx")
    assert real.changes["rbd/tenx"]["$.agent.password"] == {"old": None, "new": "(not shown)"}
    assert real.changes["rbd/tenx"]["$.config.monitors"] == {"old": None, "new": CEPH["monitors"]}
    converges("platform_config.present", MAIL, config_type="mail")
    assert table.detail("mail", MAIL)["password"] == RELAY
    assert server.sql("SELECT remark FROM tenx_configs") == [("",), ("",)]
    assert modules.platform_config.get("tenx")["config_detail"] == {**RIGHT, "agent": {"user": "tenx-agent", "password": "(not shown)"}}
    assert modules.platform_config.get(MAIL) is None, "there is no row of the type rbd with this id"
    assert [(row["config_type"], row["id"], row["defects"]) for row in modules.platform_config.list()] == [
        ("mail", MAIL, {}),
        ("rbd", RBD, {}),
    ]
    assert modules.platform_config.diff("tenx") == {}


def test_a_new_secret_is_told_and_not_shown(made, converges, pillar, table):
    pillar(lambda found: found["platform"]["agent"].update(password="AnotherSecret1188"))
    real = converges("platform_config.present", "tenx")
    assert real.changes == {"rbd/tenx": {"$.agent.password": {"old": "(not shown)", "new": "(not shown, another one)"}}}
    assert "Another secret: $.agent.password." in real.comment
    assert "AnotherSecret" not in real.comment
    assert table.detail()["agent"]["password"] == "AnotherSecret1188"


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_the_time_of_a_change_is_told_in_utc(server, table, states, modules, kind):
    """Whatever the server's time zone is, and whether or not the column keeps one."""
    server.postgres(f"ALTER ROLE {NAME} SET timezone = 'Asia/Tokyo'")
    try:
        table.make(f"id uuid, config_type text, config_detail text, create_time {kind}, remark text")
        before = datetime.datetime.now(datetime.timezone.utc).isoformat()
        assert states.platform_config.present("tenx").result is True
        told = modules.platform_config.get("tenx")["create_time"]
    finally:
        server.postgres(f"ALTER ROLE {NAME} RESET ALL")
    assert before < told.replace("Z", "+00:00") < datetime.datetime.now(datetime.timezone.utc).isoformat()


# A row as the notes' operator had it, with two fields that the platform added itself.
NOTED = {
    "name": "tenx",
    "url": "http://old:8011",
    "agent": {"user": "", "password": "OldAgentPassword3316", "string": "string"},
    "config": {"monitors": [], "pool": "tenx-pool", "user": "admin", "keyring": "ceph.keyring", "poolId": 7},
    "calamariUrl": "120",
    "lastSeen": {"token": "PlatformToken6642"},
}


def test_what_is_wrong_in_the_table_is_told_and_mended(states, converges, table, modules):
    states.platform_config.schema_present("table")
    table.put(NOTED)
    told = modules.platform_config.get("tenx")
    assert sorted(told["defects"]) == [
        "$.agent.string",
        "$.agent.user",
        "$.calamariUrl",
        "$.config.fsType",
        "$.config.keyring",
        "$.config.monitors",
        "$.config.pool",
        "$.config.poolId",
        "$.lastSeen",
    ]
    assert told["config_detail"]["agent"] == {"user": "", "password": "(not shown)", "string": "(not shown)"}
    assert told["config_detail"]["lastSeen"] == "(not shown)"
    real = converges("platform_config.present", "tenx")
    assert real.changes["rbd/tenx"]["$.config.pool"] == {"old": "tenx-pool", "new": "tenx-k8s"}
    assert "OldAgentPassword" not in str(real.changes) + real.comment
    # What the platform added is kept, each in its place.
    kept = {**RIGHT, "agent": {**RIGHT["agent"], "string": "string"}, "config": {**RIGHT["config"], "poolId": 7}}
    assert table.detail() == {**kept, "lastSeen": NOTED["lastSeen"]}


def test_what_the_platform_added_is_removed_on_request(states, converges, refuses, table):
    states.platform_config.schema_present("table")
    table.put(NOTED)
    before = table.all()
    comment = refuses("platform_config.present", "tenx", unknown="refuse")
    assert [path in comment for path in ("$.agent.string is a key", "$.config.poolId is a key", "$.lastSeen is a key")] == [True] * 3
    assert table.all() == before
    real = converges("platform_config.present", "tenx", unknown="remove")
    assert real.changes["rbd/tenx"]["$.lastSeen"] == {"old": "(not shown)", "new": None}
    assert table.detail() == RIGHT
    assert "must be one of keep, remove, refuse, not 'drop'" in refuses("platform_config.present", "tenx", unknown="drop")


@pytest.mark.parametrize("stored", ["{", "[1]"])
def test_what_is_no_object_is_kept_unless_removed(states, converges, refuses, table, stored):
    states.platform_config.schema_present("table")
    table.put(stored)
    assert "unknown: remove puts the pillar's in its place" in refuses("platform_config.present", "tenx")
    assert table.all()["rbd", RBD][0] == stored
    converges("platform_config.present", "tenx", unknown="remove")
    assert table.detail() == RIGHT


TABLES = {
    "another column": (
        lambda table: table.make("id uuid, config_type text, config_detail text, create_time timestamptz, remark text, x int"),
        "a column x",
    ),
    "a missing column": (
        lambda table: table.make("id uuid, config_type text, config_detail text, remark text"),
        "the column create_time is missing",
    ),
    "another type": (
        lambda table: table.make("id text, config_type text, config_detail jsonb, create_time timestamptz, remark text"),
        "its column config_detail is of the type jsonb, not text",
    ),
    "no index": (lambda table: table.make(key=False), "it has no unique index on config_type, id"),
    "a wider index": (
        lambda table: (table.make(key=False), table.server.sql("CREATE UNIQUE INDEX wide ON tenx_configs (config_type, id, remark)")),
        "it has no unique index on config_type, id",
    ),
    "a partial index": (
        lambda table: (
            table.make(key=False),
            table.server.sql("CREATE UNIQUE INDEX part ON tenx_configs (config_type, id) WHERE remark = ''"),
        ),
        "its index part has a condition",
    ),
    "a late index": (
        lambda table: (table.make(key=False), table.server.sql("ALTER TABLE tenx_configs ADD UNIQUE (config_type, id) DEFERRABLE")),
        "it has no unique index on config_type, id",
    ),
    "an index on the document": (
        lambda table: (table.make(), table.server.sql("CREATE INDEX detail ON tenx_configs (config_detail)")),
        "its index detail is on config_detail",
    ),
    "a check": (
        lambda table: (table.make(), table.server.sql("ALTER TABLE tenx_configs ADD CONSTRAINT long CHECK (length(config_detail) > 5)")),
        "it has the constraint long",
    ),
    "a trigger": (
        lambda table: (
            table.make(),
            table.server.sql(
                "CREATE TRIGGER noticed BEFORE UPDATE ON tenx_configs FOR EACH ROW EXECUTE PROCEDURE suppress_redundant_updates_trigger()"
            ),
        ),
        "it has the trigger noticed",
    ),
    "row security": (
        lambda table: (table.make(), table.server.sql("ALTER TABLE tenx_configs ENABLE ROW LEVEL SECURITY")),
        "it has row security",
    ),
    "a view": (
        lambda table: table.server.sql("CREATE TABLE t (id uuid); CREATE VIEW tenx_configs AS SELECT * FROM t"),
        "it is no ordinary table",
    ),
}
DEFINED = """SELECT attname, atttypid::regtype::text, attnotnull FROM pg_attribute WHERE attrelid = 'tenx_configs'::regclass AND attnum > 0
UNION ALL SELECT indexrelid::regclass::text, '', indisunique FROM pg_index WHERE indrelid = 'tenx_configs'::regclass ORDER BY 1"""


@pytest.mark.parametrize("what", TABLES)
def test_another_table_is_refused_and_never_altered(what, modules, table, server):
    """By each function that the states call, those of the dry run and those of the real one."""
    how, said = TABLES[what]
    how(table)
    before = server.sql(DEFINED)
    for function in ("diff_schema", "apply_schema", "diff", "apply", "diff_absent", "remove"):
        arguments = [] if "schema" in function else ["tenx"]
        with pytest.raises(CommandExecutionError) as told:
            modules[f"platform_config.{function}"](*arguments)
        assert said in str(told.value)
        assert "is left as it is, and nothing is written into it" in str(told.value)
    assert server.sql(DEFINED) == before


def test_another_table_fails_each_state(refuses, table):
    table.make(key=False)
    for function, arguments in (("schema_present", ["table"]), ("present", ["tenx"]), ("absent", ["tenx"])):
        assert "it has no unique index on config_type, id" in refuses(f"platform_config.{function}", *arguments)


def test_without_a_table(refuses, unchanged):
    assert "There is no table tenx_configs in the database platform; platform_config.schema_present makes it." in refuses(
        "platform_config.present", "tenx"
    )
    unchanged("platform_config.absent", "tenx")


def test_no_permission(refuses, table, server, pillar, modules):
    """Found by the dry run too: a user who may only read, one who may make no table, a schema that is not there."""
    table.make()
    table.put(NOTED)
    server.postgres("REVOKE INSERT, UPDATE, DELETE ON tenx_configs FROM platform", NAME)
    assert refuses("platform_config.present", "tenx") == (
        "The database user platform lacks INSERT, UPDATE on the table public.tenx_configs; its owner grants it."
    )
    assert "lacks DELETE on the table" in refuses("platform_config.absent", "tenx")
    assert modules.platform_config.get("tenx")["defects"]
    pillar(lambda found: found["platform"]["database"].update(table="pg_catalog.tenx_configs"))
    assert "The user may not make tables in the schema pg_catalog of the database platform" in refuses(
        "platform_config.schema_present", "x"
    )
    pillar(lambda found: found["platform"]["database"].update(table="nowhere.tenx_configs"))
    assert "There is no schema nowhere in the database platform" in refuses("platform_config.schema_present", "x")
