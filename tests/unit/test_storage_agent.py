"""What the storage agent lets through, as tables; what follows from the pillar; the hash of its account."""

import importlib.util
import json
from unittest import mock

import pytest
from passlib.apache import HtpasswdFile
from saltplatform import storage_agent
from saltrbd.errors import InvalidPillar

RULES = {"functions": ["rbd_image.list", "rbd_image.create"], "targets": ["node*", "store-1"], "most_calls": 2, "most_minions": 2}
CALL = {"client": "local", "tgt": "node1", "fun": "rbd_image.list"}


@pytest.fixture(scope="module")
def guard(repo):
    """The file that salt-api loads."""
    found = importlib.util.spec_from_file_location("guard", repo / "salt/storage_agent/files/storage_agent.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def call(**changes):
    return {**CALL, **changes}


@pytest.mark.parametrize(
    "lowstate",
    [
        [CALL],
        [CALL, call(fun="rbd_image.create")],
        [call(tgt="node*")],
        [call(tgt="store-1", tgt_type="glob", full_return=True)],
        [call(tgt=["node1", "node2.example"], tgt_type="list")],
        [
            call(
                arg=["rbd/tenant/db@snap-1", 512, True, None], kwarg={"size": "10G", "features": ["layering"], "config": {"rbd_cache": 1.5}}
            )
        ],
        [call(kwarg={"options": ["queue_depth=256"], "label": ""})],
    ],
)
def test_passed_on(guard, lowstate):
    assert guard.refused(lowstate, RULES) is None


@pytest.mark.parametrize(
    ("lowstate", "status", "words"),
    [
        # Shapes.
        (None, 400, "a list of them"),
        ("x", 400, "a list of them"),
        ([], 400, "a list of them"),
        ([CALL, "x"], 400, "a list of them"),
        ([CALL] * 3, 400, "at most 2 calls"),
        # One that is refused stops all.
        ([CALL, call(fun="cmd.run")], 403, "'cmd.run'"),
        # Functions.
        ([call(fun="state.apply")], 403, "'state.apply'"),
        ([call(fun="rbd_image.list_")], 403, "'rbd_image.list_'"),
        ([call(fun="rbd_image.lis")], 403, "'rbd_image.lis'"),
        ([call(fun="rbd_imagexlist")], 403, "'rbd_imagexlist'"),
        ([call(fun="rbd_image.list\n")], 403, "list\\n"),
        ([call(fun="rbd_image.list,cmd.run")], 403, "'rbd_image.list,cmd.run'"),
        ([call(fun=["rbd_image.list", "cmd.run"], arg=[[], ["id"]])], 403, "platform:agent:functions"),
        ([call(fun=["rbd_image.list"])], 403, "platform:agent:functions"),
        ([call(fun="saltutil.find_job")], 403, "'saltutil.find_job'"),
        ([call(fun=None)], 403, "None"),
        ([{key: CALL[key] for key in ("client", "tgt")}], 403, "None"),
        # Clients, and what rides beside a call.
        *(
            ([call(client=name)], 403, repr(name))
            for name in ("local_async", "local_subset", "local_batch", "runner", "wheel", "ssh", None)
        ),
        *(
            ([call(**{key: "x"})], 400, f"'{key}'")
            for key in (
                "ret",
                "jid",
                "token",
                "eauth",
                "username",
                "password",
                "timeout",
                "module_executors",
                "metadata",
                "delimiter",
                "batch",
            )
        ),
        ([call(raw_shell=True)], 400, "'raw_shell'"),
        ([call(full_return="yes")], 400, "full_return"),
        # Targets.
        ([call(tgt="management")], 403, "'management'"),
        ([call(tgt="*")], 403, "'*'"),
        ([call(tgt="n*")], 403, "'n*'"),
        ([call(tgt="node[1-2]")], 403, "'node[1-2]'"),
        ([call(tgt="node1,management")], 403, "'node1,management'"),
        ([call(tgt="node1 or management")], 403, "'node1 or management'"),
        ([call(tgt="node1\n")], 403, "node1\\n"),
        ([call(tgt="xnode1")], 403, "'xnode1'"),
        ([call(tgt=None)], 403, "None"),
        ([call(tgt={"node1": 1})], 403, "target"),
        ([call(tgt=["node1"])], 403, "target"),
        *(
            ([call(tgt="node1", tgt_type=kind)], 403, repr(kind))
            for kind in (
                "compound",
                "pcre",
                "grain",
                "grain_pcre",
                "pillar",
                "pillar_pcre",
                "nodegroup",
                "range",
                "ipcidr",
                "node",
                None,
                "GLOB",
            )
        ),
        ([call(tgt_type=["list"])], 403, "tgt_type"),
        ([call(tgt=["node1", "management"], tgt_type="list")], 403, "'management'"),
        ([call(tgt=["node*"], tgt_type="list")], 403, "'node*'"),
        ([call(tgt="node1,management", tgt_type="list")], 400, "list of 1 to 2"),
        ([call(tgt=[], tgt_type="list")], 400, "list of 1 to 2"),
        ([call(tgt=["node1", "node2", "node3"], tgt_type="list")], 400, "list of 1 to 2"),
        # Arguments.
        *(([call(arg=[f"a{char}b"])], 400, "letters, digits") for char in " ;&|`$()<>\\'\"*?[]{}~#!%^\n\t\0\x7fé"),
        *(([call(kwarg={"name": f"a{char}b"})], 400, "letters, digits") for char in ";`$\n"),
        ([call(kwarg={"images": ["fine", {"name": "$(id)"}]})], 400, "$(id)"),
        ([call(arg=["--force"])], 400, "begins with -"),
        ([call(arg=["x" * 1025])], 400, "too long"),
        ([call(arg=["size=1"])], 400, "kwarg"),
        ([call(arg="x")], 400, "arg must be a list"),
        ([call(kwarg=["x"])], 400, "kwarg an object"),
        ([call(kwarg={"__kwarg__": True})], 400, "'__kwarg__'"),
        ([call(arg=[{"__kwarg__": True, "name": "x"}])], 400, "'__kwarg__'"),
        ([call(kwarg={"a b": 1})], 400, "'a b'"),
        ([call(arg=[10**40])], 400, "too big"),
        ([call(arg=[float("inf")])], 400, "too big"),
        ([call(arg=[[[[[["x"]]]]]])], 400, "nested"),
        ([call(arg=["x"] * 300)], 400, "200 values"),
    ],
)
def test_refused(guard, lowstate, status, words):
    found = guard.refused(lowstate, RULES)
    assert found and found[0] == status
    assert words in found[1] and found[1].isprintable() and len(found[1]) < 300


@pytest.mark.parametrize(
    ("lowstate", "passed"),
    [
        ([{"username": "a", "password": "b"}], True),
        ([{"username": "a", "password": "b c;$", "eauth": "pam"}], True),
        (None, False),
        ([], False),
        ([{"username": "a"}], False),
        ([{"username": "a", "password": "b"}] * 2, False),
        ([{"username": "a", "password": "b", "token_expire": 10**9}], False),
        ([{"username": "a", "password": "b", "token": "x"}], False),
        ([{"username": ["a"], "password": "b"}], False),
        ([{"username": "a", "password": ""}], False),
    ],
)
def test_logins(guard, lowstate, passed):
    assert (guard.refused_login(lowstate) is None) == passed


def test_salts_own_permissions_let_more_through():
    """Why there is a guard: where this fails one day, Salt has mended it."""
    from salt.utils.minions import CkMinions

    allowed = storage_agent.read({"platform": {"agent": AGENT}})["master"]["external_auth"]["file"]["tenx-agent"]
    with mock.patch.object(CkMinions, "__init__", lambda self: None):
        checker = CkMinions()
    checker.opts = {}
    checker.check_minions = lambda *_, **__: {"minions": ["node1"]}

    def authorized(functions, arguments):
        return checker.auth_check(allowed, functions, arguments, "node1", minions=["node1"], whitelist=["saltutil.find_job"])

    assert authorized("rbd_image.list", [])
    assert not authorized("rbd_image.list_", [])
    assert not authorized("cmd.run", ["id"])
    assert authorized(["rbd_image.list", "cmd.run"], [[], ["id"]])
    assert authorized(["saltutil.find_job", "cmd.run"], [[], ["id"]])


AGENT = {
    "url": "https://192.0.2.1:8011",
    "user": "tenx-agent",
    "password": "a password of many letters",
    "certificate": "/etc/ssl/agent.pem",
    "key": "/etc/ssl/agent.key",
    "targets": ["node*"],
}


@pytest.mark.parametrize(
    ("changes", "listen"),
    [
        ({}, "192.0.2.1:8011"),
        ({"url": "https://storage.example"}, "0.0.0.0:8011"),
        ({"url": "https://storage.example:9000/", "address": "192.0.2.7"}, "192.0.2.7:9000"),
        ({"url": "https://[2001:db8::1]:8011"}, "[2001:db8::1]:8011"),
        ({"url": "http://192.0.2.1:8011", "tls": False}, "192.0.2.1:8011"),
    ],
)
def test_where_it_listens(changes, listen):
    found = storage_agent.read({"platform": {"agent": {**AGENT, **changes}}})
    assert found["listen"] == [listen]
    assert found["tls"] == ("tls" not in changes) == ("certificate" in found)


def test_what_the_master_gets():
    found = storage_agent.read({"platform": {"agent": AGENT}})
    assert AGENT["password"] not in json.dumps(found)
    master = found["master"]
    assert (master["rest_cherrypy"], master["netapi_enable_clients"]) == (None, ["local"])
    (entry,) = master["external_auth"]["file"]["tenx-agent"]
    assert list(entry) == ["node*"] and "rbd_image\\.create\\Z" in entry["node*"]
    assert master["storage_agent"]["functions"] == list(storage_agent.FUNCTIONS)
    assert not any(
        word in name for name in storage_agent.FUNCTIONS for word in ("state", "remove", "trash", "purge", "format", "export", "resize")
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://192.0.2.1:8011"}, "write https://"),
        ({"tls": False}, "write http://"),
        ({"tls": "no"}, "tls must be true or false"),
        *(
            ({"url": url}, "url must be https://HOST:8011")
            for url in (None, "", "storage:8011", "https://", "https://a:b@c", "https://h:x", "https://h/x")
        ),
        *(({"user": name}, "user must be") for name in ("", None, "a:b", "a b", "admins%", "*", "^filename", 7)),
        *(({"password": word}, "password must be") for word in ("", None, "short", "two\nlines of a password", "x" * 201, 123456789012)),
        *(
            ({"functions": names}, "functions must be")
            for names in (
                [],
                "rbd_image.list",
                ["state.apply"],
                ["rbd_image.*"],
                ["rbd_image"],
                ["rbd_image.list", "cmd.run"],
                [".*"],
                None,
            )
        ),
        *(({"targets": names}, "targets must be") for names in ([], None, "node*", ["node* or management"], ["G@os:Debian"], ["@runner"])),
        *(({"certificate": path}, "certificate must be") for path in (None, "agent.pem", "/etc/a b", "/etc/x;include /etc/shadow")),
        ({"key": None}, "key must be"),
        ({"address": "storage"}, "address must be"),
        ({"loopback_port": 8011}, "loopback_port must be"),
        ({"timeout": "1m"}, "timeout must be"),
        ({"limits": {"logins": 0}}, "limits:logins"),
        ({"limits": {"rate": 1}}, "limits can have"),
        ({"users": {}}, "unknown key 'users'"),
    ],
)
def test_mistakes(changes, words):
    with pytest.raises(InvalidPillar) as told:
        storage_agent.read({"platform": {"agent": {**AGENT, **changes}}})
    assert words in str(told.value)
    assert not any(str(secret) in str(told.value) for secret in (changes.get("password"), AGENT["password"]) if secret)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InvalidPillar) as told:
        storage_agent.read({"platform": {"agent": {"url": "x", "user": "", "password": "y"}}})
    assert all(f"platform:agent:{key} must be" in str(told.value) for key in ("url", "user", "password", "targets", "certificate", "key"))


@pytest.mark.parametrize("pillar", [{}, {"platform": None}, {"platform": {"agent": None}}, {"platform": {"agent": "x"}}, {"platform": []}])
def test_no_agent(pillar):
    with pytest.raises(InvalidPillar, match="platform:agent is not in"):
        storage_agent.read(pillar)


def test_nobody_else_comes_in_by_salt_api():
    with pytest.raises(InvalidPillar, match="salt_api:external_auth"):
        storage_agent.read({"platform": {"agent": AGENT}, "salt_api": {"external_auth": {"pam": {}}}})


@pytest.mark.parametrize("password", ["a password of many letters", "quotes ' \" $(x) \\ ünd 日本", "x" * 200])
def test_the_hash_is_what_salts_eauth_reads(tmp_path, password):
    path = tmp_path / "htpasswd"
    path.write_text(storage_agent.line("tenx-agent", password))
    known = HtpasswdFile(str(path))
    assert known.check_password("tenx-agent", password) is True
    assert known.check_password("tenx-agent", password + "x") is False
    assert not known.check_password("other", password)
    assert path.read_text().startswith("tenx-agent:$6$rounds=100000$") and password not in path.read_text()


def test_a_line_stays_as_long_as_it_is_right():
    first = storage_agent.line("a", "a password of many letters")
    assert storage_agent.line("a", "a password of many letters", first) == first
    again = storage_agent.line("a", "a password of many letters")
    assert again != first, "a salt of its own each time"
    for user, password, present in (
        ("a", "another password", first),
        ("b", "a password of many letters", first),
        ("a", "x", "a:x\n"),
        ("a", "x", ""),
    ):
        changed = storage_agent.line(user, password, present)
        assert changed != present and changed.startswith(f"{user}:$6$")
