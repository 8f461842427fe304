"""The platform's settings: what the pillar says of them, what a document may hold, how two are merged, what is shown; as tables."""

import copy
import json
import subprocess
import sys

import pytest
from saltplatform import database, document, errors, pillar, schema, shown, table
from saltrbd.errors import InvalidArgument, InvalidPillar

from labkit import golden

RBD, MAIL = "5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10", "0b9d7c36-2f41-4c0a-8c58-7a1e5d2b9f33"
PILLAR = {
    "ceph": {"monitors": ["192.168.0.11:6789"], "pool": "tenx-k8s", "user": "volumes"},
    "platform": {
        "database": {"password": "database's"},
        "agent": {"url": "https://storage.example.net:8011", "user": "agent", "password": "agent's"},
        "settings": {
            "rbd": [{"id": RBD, "name": "tenx", "calamari_url": "192.168.0.11:5000"}],
            "mail": [
                {
                    "id": MAIL,
                    "host": "smtp.example.net",
                    "port": 587,
                    "security": "tls",
                    "user": "a@b.example",
                    "password": "relay's",
                    "sender": "a@b.example",
                }
            ],
        },
    },
}
RIGHT = {
    "name": "tenx",
    "url": "https://storage.example.net:8011",
    "config": {
        "monitors": ["192.168.0.11:6789"],
        "pool": "tenx-k8s",
        "user": "volumes",
        "keyring": "/etc/ceph/ceph.client.volumes.keyring",
        "fsType": "ext4",
    },
    "calamariUrl": "192.168.0.11:5000",
    "agent": {"user": "agent", "password": "agent's"},
}
RIGHT_MAIL = {
    "host": "smtp.example.net",
    "port": 587,
    "security": "tls",
    "user": "a@b.example",
    "sender": "a@b.example",
    "password": "relay's",
}
SCHEMA, MAIL_SCHEMA = schema.of("rbd", "tenx-k8s"), schema.of("mail")


def read(how=lambda found: None):
    found = copy.deepcopy(PILLAR)
    how(found)
    return pillar.read({}, found)


def put(found, path, value):
    """Set what stands at a path of keys; ``...`` takes it away."""
    found = copy.deepcopy(found)
    *way, last = path
    place = found
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return found


def test_documents_of_the_pillar():
    rows = read().rows
    assert [(row.config_type, row.id, row.name, row.detail) for row in rows] == [
        ("rbd", RBD, "tenx", RIGHT),
        ("mail", MAIL, "", RIGHT_MAIL),
    ]
    assert [schema.defects(row.detail, row.schema) for row in rows] == [[], []]


def row_of(found):
    return found["platform"]["settings"]["rbd"][0]


OWN = {"monitors": ["m:6789"], "user": "other", "keyring": "/etc/k", "url": "http://a:1", "fs_type": "xfs"}


def test_a_row_may_say_itself_what_is_the_ceph_sections():
    detail = read(lambda found: row_of(found).update(OWN)).rows[0].detail
    assert (detail["url"], detail["config"]["fsType"]) == ("http://a:1", "xfs")
    assert [detail["config"][key] for key in ("monitors", "user", "keyring")] == [["m:6789"], "other", "/etc/k"]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("a:6789,b:6789", ["a:6789", "b:6789"]),
        (["v1:10.0.0.1:6789/0"], ["10.0.0.1:6789"]),
        (["[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]"], ["10.0.0.1:6789"]),
        (["[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]"], ["[fd00::1]:6789"]),
        (["v2:10.0.0.1:3300"], ["v2:10.0.0.1:3300"]),
        (["[fd00::1]:6789"], ["[fd00::1]:6789"]),
    ],
)
def test_monitors_are_those_of_the_first_protocol(declared, expected):
    row = read(lambda found: found["ceph"].update(monitors=declared)).rows[0]
    assert row.detail["config"]["monitors"] == expected
    assert bool(schema.defects(row.detail, row.schema)) == any(item.startswith("v2:") for item in expected)


HOST_AND_PORT = "must be HOST:PORT, such as 192.0.2.1:5000, not {}"
DEFECTS = [
    (("agent", "user"), "", "$.agent.user", "is empty"),
    (("agent", "user"), ..., "$.agent.user", "is missing"),
    (("agent", "string"), "string", "$.agent.string", "is a key that nobody knows (there are user, password)"),
    (("agent",), "agent's", "$.agent", "must be an object"),
    (("agent", "password"), "", "$.agent.password", "is empty"),
    (("agent", "password"), 5, "$.agent.password", "must be a text"),
    (("agent", "password"), "a\nb", "$.agent.password", "must be one line of text"),
    (("strange key",), 1, "$['strange key']", "is a key that nobody knows (there are name, url, config, calamariUrl, agent)"),
    (("config", "fsType"), ..., "$.config.fsType", "is missing"),
    (("config", "fsType"), "", "$.config.fsType", "must be one of ext4, xfs, not ''"),
    (("config", "pool"), "tenx-pool", "$.config.pool", "must be 'tenx-k8s', as in the pillar, not 'tenx-pool'"),
    (("config", "monitors"), [], "$.config.monitors", "is an empty list"),
    (("config", "monitors"), ..., "$.config.monitors", "is missing"),
    (("config", "monitors"), "a:1", "$.config.monitors", "must be a list"),
    (("config", "monitors"), ["a:6789", "b"], "$.config.monitors[1]", HOST_AND_PORT.format("'b'")),
    (("config", "monitors"), ["a:6789", "a:6789"], "$.config.monitors", "names one twice"),
    (("config", "keyring"), "ceph.keyring", "$.config.keyring", "must be an absolute path, not 'ceph.keyring'"),
    (("config", "keyring"), "", "$.config.keyring", "is empty"),
    (("config", "user"), None, "$.config.user", "must be a text, not None"),
    (("calamariUrl",), "120", "$.calamariUrl", HOST_AND_PORT.format("'120'")),
    (("calamariUrl",), "a:0", "$.calamariUrl", HOST_AND_PORT.format("'a:0'")),
    (("calamariUrl",), "a:65536", "$.calamariUrl", HOST_AND_PORT.format("'a:65536'")),
    (("calamariUrl",), "http://a:1", "$.calamariUrl", HOST_AND_PORT.format("'http://a:1'")),
    (("calamariUrl",), "u:agent's@a:1", "$.calamariUrl", HOST_AND_PORT.partition(", not")[0] + " (what stands there is not shown)"),
    (("calamariUrl",), ..., "$.calamariUrl", "is missing"),
    (
        ("url",),
        "storage:8011",
        "$.url",
        "must be an address such as https://storage.example.net:8011, without a user in it, not 'storage:8011'",
    ),
    (("name",), "", "$.name", "is empty"),
]


@pytest.mark.parametrize(("path", "value", "at", "said"), DEFECTS)
def test_each_defect_has_its_path(path, value, at, said):
    assert schema.defects(put(RIGHT, path, value), SCHEMA) == [(at, said)]


MAIL_DEFECTS = [
    (("port",), 0, "$.port", "must be a number from 1 to 65535, not 0"),
    (("port",), "587", "$.port", "must be a number from 1 to 65535, not '587'"),
    (("port",), True, "$.port", "must be a number from 1 to 65535, not True"),
    (("security",), "ssl", "$.security", "must be one of none, starttls, tls, not 'ssl'"),
    (("sender",), "nobody", "$.sender", "must be a mail address, not 'nobody'"),
    (("host",), "a b", "$.host", "must be a host's name or address, not 'a b'"),
    (("host",), "1.2.3.400", "$.host", "must be a host's name or address, not '1.2.3.400'"),
    (("password",), "", "$.password", "is empty"),
    (("password",), ..., "$.password", "is missing"),
    (("user",), "", "$.password", "must be empty, as user is"),
    (("user",), ..., "$.user", "is missing"),
]


@pytest.mark.parametrize(("path", "value", "at", "said"), MAIL_DEFECTS)
def test_each_defect_of_mail_has_its_path(path, value, at, said):
    assert schema.defects(put(RIGHT_MAIL, path, value), MAIL_SCHEMA) == [(at, said)]


def test_a_relay_without_login_is_right():
    assert schema.defects({**RIGHT_MAIL, "user": "", "password": ""}, MAIL_SCHEMA) == []


def test_all_defects_are_told_and_no_secret():
    wrong = put(put(put(RIGHT, ("agent", "user"), ""), ("config", "monitors"), []), ("secret",), "agent's")
    with pytest.raises(errors.InvalidDocument) as told:
        schema.check("The row rbd/x", wrong, SCHEMA)
    assert sorted(at for at, _ in told.value.defects) == ["$.agent.user", "$.config.monitors", "$.secret"]
    assert "agent's" not in str(told.value)
    assert str(told.value).startswith("The row rbd/x is not written, for it would be wrong: ")


@pytest.mark.parametrize("detail", [RIGHT, RIGHT_MAIL, {**RIGHT, "name": "x", "url": "http://a"}])
def test_what_a_server_shows_of_a_value_is_no_secret(detail):
    """64 bytes, in the DETAIL of a failed constraint; the shortest documents there can be."""
    rows = (
        [read(lambda found: row_of(found).update(name="x", url="http://a", monitors=["a:1"], keyring="/k")).rows[0]]
        + [read(lambda found: found["platform"]["settings"]["mail"][0].update(host="a", port=1, user="u", sender="a@b")).rows[1]]
        + [pillar.Row("", "", "", detail, {})]
    )
    for row in rows:
        assert "password" not in document.text(row.detail)[:64]


STORED = {**RIGHT, "id": 7, "agent": {**RIGHT["agent"], "token": "t"}}


@pytest.mark.parametrize(
    ("old", "unknown", "expected"),
    [
        (None, "keep", RIGHT),
        ({}, "keep", RIGHT),
        (RIGHT, "keep", RIGHT),
        (STORED, "keep", STORED),
        (STORED, "remove", RIGHT),
        ({"agent": "text", "config": []}, "keep", RIGHT),
        ({"agent": {"user": "", "x": None}}, "keep", {**RIGHT, "agent": {**RIGHT["agent"], "x": None}}),
        (RIGHT, "refuse", RIGHT),
    ],
)
def test_merging(old, unknown, expected):
    found = document.merged(old, RIGHT, unknown)
    assert document.same(found, expected)
    # What is the pillar's stays in front, so that no secret comes among the first bytes.
    assert list(found)[: len(RIGHT)] == list(RIGHT)


def test_fields_that_the_pillar_does_not_know_are_refused_with_their_paths():
    with pytest.raises(errors.InvalidDocument) as told:
        document.merged(STORED, RIGHT, "refuse")
    assert [at for at, _ in told.value.defects] == ["$.agent.token", "$.id"]


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '"x"', "null", '{"a": NaN}', '{"a": 1e999}', "[" * 100000, None])
def test_what_is_no_object_cannot_be_read(text):
    with pytest.raises(errors.UnreadableDocument):
        document.read(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [({"a": 1}, {"a": 1.0}, False), ({"a": 1}, {"a": True}, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ({}, {"a": None}, False)],
)
def test_sameness(one, other, same):
    assert document.same(one, other) is same


def test_a_document_is_ascii_and_reads_back():
    detail = {"name": "größe\0\ud800", "n": 12345678901234567890123}
    assert document.read(document.text(detail).encode("ascii").decode()) == detail


CHANGES = [
    (RIGHT, RIGHT, {}),
    (RIGHT, put(RIGHT, ("config", "fsType"), "xfs"), {"$.config.fsType": {"old": "ext4", "new": "xfs"}}),
    (RIGHT, put(RIGHT, ("agent", "password"), "new"), {"$.agent.password": {"old": "(not shown)", "new": "(not shown, another one)"}}),
    (put(RIGHT, ("agent", "password"), ""), RIGHT, {"$.agent.password": {"old": "(empty)", "new": "(not shown)"}}),
    (put(RIGHT, ("agent", "password"), ...), RIGHT, {"$.agent.password": {"old": None, "new": "(not shown)"}}),
    (
        put(RIGHT, ("agent",), "agent's"),
        RIGHT,
        {
            "$.agent.user": {"old": None, "new": "agent"},
            "$.agent.password": {"old": None, "new": "(not shown)"},
            "$.agent": {"old": "(not shown)", "new": None},
        },
    ),
    (STORED, RIGHT, {"$.id": {"old": "(not shown)", "new": None}, "$.agent.token": {"old": "(not shown)", "new": None}}),
    (put(RIGHT, ("url",), "http://u:p@h"), RIGHT, {"$.url": {"old": "(not shown)", "new": RIGHT["url"]}}),
    (
        put(RIGHT, ("config", "monitors"), ["u:p@h:1", "a:1"]),
        RIGHT,
        {"$.config.monitors": {"old": ["(not shown)", "a:1"], "new": ["192.168.0.11:6789"]}},
    ),
    (put(RIGHT, ("config", "user"), {"x": 1}), RIGHT, {"$.config.user": {"old": "(not shown)", "new": "volumes"}}),
    (put(RIGHT, ("config", "user"), 1), put(RIGHT, ("config", "user"), True), {"$.config.user": {"old": 1, "new": True}}),
]


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_changes(old, new, expected):
    assert shown.changes(old, new, SCHEMA) == expected


def test_a_new_row_and_one_that_goes():
    made = shown.changes(None, RIGHT_MAIL, MAIL_SCHEMA)
    assert made["$.password"] == {"old": None, "new": "(not shown)"}
    assert made["$.user"] == {"old": None, "new": "a@b.example"}
    gone = shown.changes(RIGHT_MAIL, None, MAIL_SCHEMA)
    assert {at: (entry["new"], entry["old"]) for at, entry in made.items()} == {
        at: (entry["old"], entry["new"]) for at, entry in gone.items()
    }
    assert "relay's" not in json.dumps([made, gone])


def database_of(found):
    return found["platform"]["database"]


def agent_of(found):
    return found["platform"]["agent"]


MISTAKES = [
    (lambda found: found.update(platform=[]), "platform: must be a mapping"),
    (lambda found: found["platform"].update(databse=1), "platform: unknown key 'databse'"),
    (lambda found: found["platform"].update(agent="agent's"), "platform:agent must be a mapping"),
    (lambda found: agent_of(found).update(url="http://a"), "platform:agent:url begins with http://"),
    (lambda found: agent_of(found).update(tls=False), "platform:agent:url begins with https://, and platform:agent:tls is false"),
    (lambda found: agent_of(found).update(tls="no"), "platform:agent:tls must be true or false, not 'no'"),
    (lambda found: found["platform"].update(database="x"), "platform:database must be a mapping"),
    (lambda found: database_of(found).update(hots="x"), "platform:database: unknown key 'hots'"),
    (lambda found: database_of(found).update(host=1), "platform:database:host must be one line of text, not 1"),
    (lambda found: database_of(found).update(host=""), "platform:database:host must be one line of text, not ''"),
    (lambda found: database_of(found).update(port=0), "platform:database:port must be a number from 1 to 65535, not 0"),
    (lambda found: database_of(found).update(password=7), "platform:database:password must be a text that is not empty"),
    (lambda found: database_of(found).update(sslmode="on"), "platform:database:sslmode must be one of disable, allow, "),
    (lambda found: database_of(found).update(table="T"), "platform:database:table must be a name in small letters"),
    (lambda found: database_of(found).update(table="a.b.c"), "platform:database:table must be a name in small letters"),
    (lambda found: database_of(found).update(table='x"; DROP'), "platform:database:table must be a name in small letters"),
    (lambda found: database_of(found).update(extra_column="A"), "platform:database:extra_column must be a name in small letters"),
    (lambda found: database_of(found).update(extra_column="id"), "platform:database:extra_column must be a name that no other column has"),
    (lambda found: found["platform"].update(settings=[]), "platform:settings must be a mapping"),
    (lambda found: found["platform"]["settings"].update(ceph=[]), "platform:settings: unknown key 'ceph'"),
    (lambda found: found["platform"]["settings"].update(rbd={}), "platform:settings:rbd must be a list of mappings"),
    (lambda found: found["platform"]["settings"].update(rbd=["x"]), "platform:settings:rbd must be a list of mappings"),
    (lambda found: row_of(found).update(string="x"), "platform:settings:rbd[0]: unknown key 'string'"),
    (lambda found: row_of(found).update(id="x"), "platform:settings:rbd[0]:id must be a UUID such as "),
    (lambda found: row_of(found).pop("id"), "platform:settings:rbd[0]:id must be a UUID such as "),
    (lambda found: row_of(found).update(name=MAIL), "platform:settings:rbd[0]:name must not look like an id"),
    (
        lambda found: found["platform"]["settings"]["rbd"].append({"id": RBD.upper(), "name": "y"}),
        f"platform:settings:rbd[1]: another row of the type rbd is '{RBD}' already",
    ),
    (
        lambda found: found["platform"]["settings"]["rbd"].append({"id": MAIL, "name": "tenx"}),
        "platform:settings:rbd[1]: another row of the type rbd is 'tenx' already",
    ),
]


@pytest.mark.parametrize(("how", "said"), MISTAKES)
def test_mistakes_of_the_pillar(how, said):
    with pytest.raises(InvalidPillar) as told:
        read(how)
    assert said in str(told.value)
    assert "agent's" not in str(told.value)
    assert "database's" not in str(told.value)


def test_without_a_platform_nothing_is_declared():
    found = pillar.read({}, {})
    assert (found.rows, found.own, found.table.name) == ([], "", "tenx_configs")


SERVER = {
    "port": 5433,
    "databases": {"configs": {"owner": "configs"}, "bare": {}, "empty": None},
    "roles": {"configs": {"password": "role's"}},
}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, ("127.0.0.1", 5433, "platform", "platform", None, "prefer", "")),
        ({"dbname": "configs"}, ("127.0.0.1", 5433, "configs", "configs", "role's", "prefer", "configs")),
        ({"dbname": "bare"}, ("127.0.0.1", 5433, "bare", "platform", None, "prefer", "bare")),
        ({"dbname": "empty"}, ("127.0.0.1", 5433, "empty", "platform", None, "prefer", "empty")),
        ({"dbname": "configs", "user": "u", "password": "p"}, ("127.0.0.1", 5433, "configs", "u", "p", "prefer", "configs")),
        ({"dbname": "configs", "host": "db.example"}, ("db.example", 5432, "configs", "platform", None, "verify-full", "")),
        ({"host": "db.example", "sslmode": "require", "port": 1}, ("db.example", 1, "platform", "platform", None, "require", "")),
        ({"host": "127.example.net"}, ("127.example.net", 5432, "platform", "platform", None, "verify-full", "")),
        ({"host": "::1"}, ("::1", 5433, "platform", "platform", None, "prefer", "")),
        ({"host": "/run/postgresql"}, ("/run/postgresql", 5433, "platform", "platform", None, "prefer", "")),
    ],
)
def test_the_database(declared, expected):
    found = pillar.read({}, {"platform": {"database": declared}, "postgresql": SERVER})
    names = ("host", "port", "dbname", "user", "password", "sslmode")
    assert (*(found.place[name] for name in names), found.own) == expected


def test_rows_are_found_by_id_and_by_name():
    platform = read()
    assert pillar.find(platform, "tenx", "rbd").id == RBD
    assert pillar.find(platform, RBD.upper(), "rbd").id == RBD
    assert pillar.key(platform, MAIL.upper(), "rbd") == MAIL
    for name, kind in (("tenx", "mail"), (MAIL, "rbd"), ("", "rbd"), (None, "rbd"), ("tenx", "x")):
        with pytest.raises(InvalidArgument):
            pillar.find(platform, name, kind)


COLUMNS = {"id": "uuid", "config_type": "text", "config_detail": "text", "create_time": "timestamp with time zone", "remark": "text"}
INDEX = table.Index("key", ("config_type", "id"), True)


def facts(columns=(), indexes=(INDEX,), kind="r", traps=()):
    return table.Facts(1, "public", "t", kind, {**COLUMNS, **dict(columns)}, list(indexes), list(traps))


TABLES = [
    (facts(), []),
    (facts({"config_type": "character varying", "create_time": "timestamp without time zone"}), []),
    (facts(indexes=[table.Index("key", ("id", "config_type"), True), table.Index("more", ("create_time",), False)]), []),
    (facts(kind="v"), ["it is no ordinary table"]),
    (facts({"x": "text"}), ["it has a column x"]),
    (facts({"id": "text"}), ["its column id is of the type text, not uuid"]),
    (facts({"config_detail": "character varying"}), ["its column config_detail is of the type character varying, not text"]),
    (facts(indexes=[]), ["it has no unique index on config_type, id"]),
    (facts(indexes=[table.Index("key", ("config_type", "id"), False)]), ["it has no unique index on config_type, id"]),
    (facts(indexes=[table.Index("key", ("id",), True)]), ["it has no unique index on config_type, id"]),
    (facts(indexes=[INDEX, table.Index("d", ("config_detail",), False)]), ["its index d is on config_detail"]),
    (facts(indexes=[INDEX, table.Index("e", (None,), False)]), ["its index e is on an expression"]),
    (facts(traps=["it has the trigger t"]), ["it has the trigger t"]),
]


@pytest.mark.parametrize(("found", "expected"), TABLES)
def test_tables(found, expected):
    assert table.differences(found, "remark") == expected
    if expected:
        with pytest.raises(errors.TableRefused, match="is left as it is, and nothing is written into it"):
            table.check(found, "remark")


def test_a_missing_column():
    found = facts()
    del found.columns["create_time"]
    assert table.differences(found, "remark") == ["the column create_time is missing"]
    assert table.differences(facts(), "note") == ["the column note is missing", "it has a column remark"]


WITHOUT = """
import sys
sys.path[:0] = [{repo!r}, {repo!r} + "/_utils"]
sys.modules["psycopg2"] = sys.modules["jsonschema"] = None
from pathlib import Path
from labkit import golden
print(*golden.module(Path({repo!r}) / "_modules/platform_config.py").__virtual__(), sep="|")
"""


def test_without_its_libraries_the_module_says_how_to_get_them(repo):
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(repo=str(repo))], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    loads, _, why = said.stdout.strip().partition("|")
    assert loads == "False"
    assert f"{sys.executable} -m pip install psycopg2-binary jsonschema" in why
    assert "salt-pip install" in why
    assert database.missing_libraries() == ""


class NoSuchServer:
    """A fake: the execution module on a host where the database is to be made by earlier states of the run."""

    def __init__(self, error, own):
        self.functions = {
            "platform_config.diff": self.fail,
            "platform_config.diff_schema": self.fail,
            "platform_config.diff_absent": self.fail,
            "platform_config.predicted": lambda **given: {"row": {"old": None, "new": "present"}},
            "platform_config.predicted_schema": lambda **given: {"id": {"old": None, "new": "uuid"}},
            "platform_config.layout": lambda: {"own": own},
        }
        self.error = error

    def fail(self, **given):
        raise self.error


@pytest.mark.parametrize(
    ("error", "own", "running", "test", "expected"),
    [
        (errors.DatabaseUnreachable("away"), "configs", None, True, None),
        (errors.LoginRefused("no"), "configs", None, True, None),
        (errors.DatabaseUnreachable("away"), "configs", None, False, False),
        (errors.DatabaseUnreachable("away"), "configs", True, True, False),
        (errors.DatabaseUnreachable("away"), "", None, True, False),
        (errors.TableMissing("none"), "configs", None, True, False),
    ],
)
def test_a_dry_run_before_the_database_is_there(repo, error, own, running, test, expected):
    state = golden.module(repo / "_states/platform_config.py")
    state.__salt__, state.__opts__, state.__context__ = NoSuchServer(error, own).functions, {"test": test}, {}
    state.__instance_id__ = object()
    state.__running__ = {"x": {"result": running, "__sls__": "postgresql.objects"}}
    rows = state.present("tenx")
    assert rows["result"] is expected, rows
    assert bool(rows["changes"]) is (expected is None)
    if isinstance(error, errors.TableMissing):
        return
    gone = state.absent("tenx")
    assert (gone["result"], gone["changes"]) == (expected is None, {})
    made = state.schema_present("table")
    assert made["result"] is expected
    # From then on the table counts as there to be written into.
    assert state.present("tenx")["result"] is expected
