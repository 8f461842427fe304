"""The platform's table and rows on a server of the tests' own: made, kept, changed, removed, refused; dry and real, and twice."""

import datetime
import json
from pathlib import Path

import platform_checks
import pytest
from platform_server import AGENT, CEPH, MAIL, NAME, PASSWORD, RBD, RELAY

# Fixtures.
loaders, no_table, patient = platform_checks.loaders, platform_checks.no_table, platform_checks.patient
pillar, server, table = platform_checks.pillar, platform_checks.server, platform_checks.table

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


DEFECTS = {
    "agent user empty": (lambda found: found["platform"]["agent"].update(user=""), "$.agent.user is empty"),
    "agent user missing": (lambda found: found["platform"]["agent"].pop("user"), "$.agent.user is missing"),
    "unknown key": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(string="string"),
        "platform:settings:rbd[0]: unknown key 'string'",
    ),
    "fsType empty": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(fs_type=""),
        "$.config.fsType must be one of ext4, xfs, not ''",
    ),
    "ceph's empty": (lambda found: found["ceph"].update(fs_type=""), "$.config.fsType must be one of ext4, xfs, not ''"),
    "another pool": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(pool="tenx-pool"),
        "$.config.pool must be 'tenx-k8s', as in the pillar, not 'tenx-pool'",
    ),
    "calamariUrl": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(calamari_url="120"),
        "$.calamariUrl must be HOST:PORT, such as 192.0.2.1:5000, not '120'",
    ),
    "monitor without port": (
        lambda found: found["ceph"].update(monitors=["192.168.0.11:6789", "192.168.0.12"]),
        "$.config.monitors[1] must be HOST:PORT, such as 192.0.2.1:5000, not '192.168.0.12'",
    ),
    "no monitors": (lambda found: found["ceph"].update(monitors=[]), "$.config.monitors is an empty list"),
    "keyring": (
        lambda found: found["ceph"].update(keyring="ceph.client.admin.keyring"),
        "$.config.keyring must be an absolute path, not 'ceph.client.admin.keyring'",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("there", [True, False])
def test_each_defect_is_refused_with_its_path(defect, there, states, refuses, pillar, table):
    states.platform_config.schema_present("table")
    if there:
        table.put(RIGHT)
    before = table.all()
    how, said = DEFECTS[defect]
    pillar(how)
    comment = refuses("platform_config.present", RBD)
    assert said in comment
    assert AGENT not in comment
    assert table.all() == before


def test_all_defects_are_told_together(states, refuses, pillar):
    states.platform_config.schema_present("table")
    pillar(lambda found: (found["platform"]["agent"].update(user=""), found["ceph"].update(monitors=[], keyring="x", fs_type="")))
    comment = refuses("platform_config.present", RBD)
    assert [path in comment for path in ("$.agent.user", "$.config.monitors", "$.config.keyring", "$.config.fsType")] == [True] * 4


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


@pytest.mark.parametrize("stored", ["", "{", "[1]", '{"x": NaN}'])
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
def test_another_table_is_refused_and_never_altered(what, refuses, table, server):
    how, said = TABLES[what]
    how(table)
    before = server.sql(DEFINED)
    for function, arguments in (("schema_present", ["table"]), ("present", ["tenx"]), ("absent", ["tenx"])):
        comment = refuses(f"platform_config.{function}", *arguments)
        assert said in comment
        assert "is left as it is, and nothing is written into it" in comment
    assert server.sql(DEFINED) == before


def test_without_a_table(refuses, unchanged):
    assert "There is no table tenx_configs in the database platform; platform_config.schema_present makes it." in refuses(
        "platform_config.present", "tenx"
    )
    unchanged("platform_config.absent", "tenx")


def test_a_row_that_is_not_declared(refuses, made):
    said = "platform:settings:rbd declares no row whose id or name is "
    assert said in refuses("platform_config.present", "nobody")
    assert said in refuses("platform_config.present", OTHER)
    assert said in refuses("platform_config.absent", "nobody")
    assert "config_type must be one of rbd, mail, not 'x'" in refuses("platform_config.present", "tenx", config_type="x")


def test_no_server(refuses, pillar, server):
    pillar(lambda found: found["platform"]["database"].update(port=1))
    for function in ("schema_present", "present", "absent"):
        comment = refuses(f"platform_config.{function}", "tenx")
        assert f"The database platform at 127.0.0.1:1 (user {NAME}) cannot be reached: " in comment
        assert PASSWORD not in comment


def test_a_wrong_password(refuses, pillar, modules, server):
    pillar(lambda found: found["platform"]["database"].update(password="WrongPassword2204"))
    comment = refuses("platform_config.schema_present", "table")
    assert "password authentication failed" in comment
    assert "It is the user and the password of platform:database" in comment
    assert "WrongPassword" not in comment + server.said()


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


@pytest.fixture
def tree(repo, loaders):
    """The state tree's platform beside the tests' own states."""
    folder = Path(loaders.opts["file_roots"]["base"][0])
    links = [folder / name for name in ("platform", "postgresql", "booted.jinja", "systems.jinja", "systems.yaml")]
    for link in links:
        link.symlink_to(repo / "salt" / link.name)
    yield
    for link in links:
        link.unlink()


def _apply(loaders, sls, test=False):
    ran = loaders.modules.state.apply(sls, test=test)
    assert not ran.failed, ran.errors
    return list(ran)


def test_the_state_tree(tree, loaders, table, server):
    predicted = _apply(loaders, "platform", test=True)
    assert [result.result for result in predicted] == [None, None, None], [result.comment for result in predicted]
    real = _apply(loaders, "platform")
    assert [result.result for result in real] == [True, True, True], [result.comment for result in real]
    assert [result.changes for result in predicted] == [result.changes for result in real]
    assert set(table.all()) == {("rbd", RBD), ("mail", MAIL)}
    for test in (True, False):
        assert [(result.result, result.changes) for result in _apply(loaders, "platform", test=test)] == [(True, {})] * 3
    table.put({}, identity=OTHER)
    assert [result.result for result in _apply(loaders, "platform.clean", test=True)] == [None, None]
    assert [result.result for result in _apply(loaders, "platform.clean")] == [True, True]
    assert [(result.result, result.changes) for result in _apply(loaders, "platform.clean")] == [(True, {})] * 2
    assert set(table.all()) == {("rbd", OTHER)}, "the table stays, and what is not declared"


@pytest.mark.parametrize("sls", ["platform", "platform.clean"])
def test_a_pillar_with_mistakes_is_refused_as_a_whole(tree, loaders, pillar, sls):
    pillar(lambda found: (found["platform"].update(databse={}), found["platform"]["settings"]["mail"][0].update(id=7)))
    for test in (True, False):
        (ran,) = _apply(loaders, sls, test)
        assert ran.result is False
        assert "platform: unknown key 'databse'" in ran.comment
        assert "platform:settings:mail[0]:id must be a UUID" in ran.comment
