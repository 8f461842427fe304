"""What the pillar's postgresql: says, for every system of the map: places, rules, tuning, and every mistake."""

import datetime

import pytest
from saltrbd.errors import InvalidPillar
from saltrbd.postgresql import hba, pillar, systems, tuning

from labkit.golden import SUPPORTED

ARCHIVE = {"source": "salt://postgresql.jar", "sha256": "a" * 64}


def read(section, system="Debian 12", own=("192.0.2.7/24",)):
    return pillar.read(section, {"mem_total": 4096, "num_cpus": 4, "osarch": "x86_64", **SUPPORTED[system]}, own)


def archived(**more):
    return dict({"source": "archive", "archive": ARCHIVE}, **more)


@pytest.mark.parametrize("system", SUPPORTED)
def test_archive_works_everywhere(system):
    found = read(archived(), system)
    assert (found["bin_dir"], found["service"], found["version"]) == ("/opt/postgresql-9.5/bin", "postgresql-9.5", "9.5")
    assert "past its end of life (2021-02-11)" in found["ended"]


PLACES = [
    (
        "RHEL family 7",
        "pgdg",
        "9.5",
        "/usr/pgsql-9.5/bin/postgresql95-setup",
        "/var/lib/pgsql/9.5/data",
        "postgresql-9.5",
        "postgresql95-server",
    ),
    (
        "RHEL family 8",
        "pgdg",
        "16",
        "/usr/pgsql-16/bin/postgresql-16-setup",
        "/var/lib/pgsql/16/data",
        "postgresql-16",
        "postgresql16-server",
    ),
    ("RHEL family 9", "distribution", "13", "/usr/bin/postgresql-setup", "/var/lib/pgsql/data", "postgresql", "postgresql-server"),
    ("Debian 12", "pgdg", "9.5", "/usr/bin/pg_createcluster", "/var/lib/postgresql/9.5/main", "postgresql@9.5-main", "postgresql-9.5"),
    (
        "Ubuntu 24.04",
        "distribution",
        "16",
        "/usr/bin/pg_createcluster",
        "/var/lib/postgresql/16/main",
        "postgresql@16-main",
        "postgresql-16",
    ),
]


@pytest.mark.parametrize(("system", "source", "version", "setup", "data", "service", "package"), PLACES)
def test_places(system, source, version, setup, data, service, package):
    found = read({"source": source, "version": version}, system)
    assert (found["initdb"][0], found["data_dir"], found["service"], found["packages"][0]) == (setup, data, service, package)
    assert ("postgresql-contrib-9.5" in found["packages"]) == (system == "Debian 12")


REPOSITORIES = [
    ("Debian 12", "9.5", "apt-archive", "bookworm-pgdg-archive"),
    ("Debian 13", "17", "//apt.", "trixie-pgdg"),
    ("RHEL family 7", "9.5", "/9.5/redhat/rhel-7-x86_64", ""),
    ("RHEL family 9", "17", "/17/redhat/rhel-9-x86_64", ""),
]


@pytest.mark.parametrize(("system", "version", "url", "suite"), REPOSITORIES)
def test_repositories(system, version, url, suite):
    found = read({"version": version}, system)["repository"]
    assert url in found["url"]
    assert found["suite"] == suite
    own = read({"version": version, "repository": {"url": "https://packages.example/pg", "suite": "s"}}, system)["repository"]
    assert (own["url"], own["suite"], own["key"]) == ("https://packages.example/pg", "s", found["key"])


@pytest.mark.parametrize(
    ("version", "day", "ended"),
    [("15", "2027-11-11", False), ("15", "2027-11-12", True), ("9.5", "2021-02-11", False), ("9.5", "2026-11-24", True)],
)
def test_end_of_life(version, day, ended):
    assert bool(systems.ended(version, datetime.date.fromisoformat(day))) == ended


REFUSED = [
    ("Debian 12", {"source": "distribution"}, "Debian 12 packages PostgreSQL 15, not 9.5"),
    ("RHEL family 7", {"source": "distribution", "version": "13"}, "RHEL family 7 packages no PostgreSQL from 9.5 on"),
    ("RHEL family 9", {"source": "pgdg"}, "PGDG has PostgreSQL 10 to 18 for RHEL family 9, not 9.5; another source is archive"),
    ("Debian 12", {"version": 9.5, "source": "archive"}, "archive:source must name"),
    ("Debian 12", {"version": "9.4"}, "version must be one of 9.5, 9.6, 10"),
    ("Debian 12", {"source": "git"}, "source must be one of pgdg, distribution, archive"),
    ("Debian 12", {"sorce": "pgdg"}, "unknown key 'sorce'"),
    ("Debian 12", {1: "x", "sorce": "pgdg"}, "postgresql: unknown keys 'sorce', 1 (there are archive, backup, "),
    ("Debian 12", {"settings": {1: "x", "work_mem": "4MB"}}, "1 is no name of a setting"),
    ("Debian 12", {"roles": {True: {}, "app": {5: 5}}}, "True is no name"),
    ("Debian 12", {"port": "5432"}, "postgresql:port must be a number"),
    ("Debian 12", {"settings": {"port": 1}}, "port is set by these states themselves (postgresql:port says it)"),
    ("Debian 12", {"settings": {"work_mem": "4MB\nx"}}, "work_mem must be one line"),
    ("Debian 12", {"settings": {"Work": 1}}, "'Work' is no name of a setting"),
    ("Debian 12", {"memory": "4 GB"}, "postgresql:memory must be a size"),
    ("Debian 12", {"tls": {"certificate": "x"}}, "needs certificate and key"),
    ("Debian 12", {"tls": {"enabled": False}}, "hostssl"),
    ("Debian 12", {"roles": {"postgres": {}}}, "Salt's own way in"),
    ("Debian 12", {"roles": {"app": {"password": ""}}}, "app:password: it must be a text"),
    ("Debian 12", {"roles": {"app": {"password": "pä"}}}, "only printable characters of ASCII"),
    (
        "Debian 12",
        {"roles": {"app": {"pasword": "x"}}},
        "postgresql:roles:app: unknown key 'pasword' (there are connection_limit, createdb, ",
    ),
    ("Debian 12", {"databases": {"app": {"extensions": "hstore"}}}, "must be a list of names"),
    ("Debian 12", {"backup": {"keep_days": 0}}, "from 1 to 3650"),
    ("Debian 12", {"backup": {"folder": "backups"}}, "absolute path"),
    ("Debian 12", {"backup": {"calendar": "daily\n[X]"}}, "calendar event"),
]


@pytest.mark.parametrize(("system", "section", "said"), REFUSED)
def test_mistakes(system, section, said):
    with pytest.raises(InvalidPillar) as caught:
        read(section, system)
    assert said in str(caught.value)


def test_every_mistake_is_told_at_once():
    with pytest.raises(InvalidPillar) as caught:
        read({"port": 0, "memory": 1, "roles": [], "pg_hba": [{"type": "x"}]})
    assert all(word in str(caught.value) for word in ("port", "memory", "roles", "rule 1"))


def test_an_unknown_system_is_refused():
    with pytest.raises(InvalidPillar, match="Debian 10 is not supported; supported are Debian 11, "):
        pillar.read({}, {"os": "Debian", "os_family": "Debian", "osmajorrelease": 10})


def test_no_password_in_what_the_states_see():
    found = read(archived(roles={"app": {"password": "geheim-1"}}, tls={"certificate": "CERT-1", "key": "KEY-1"}))
    assert found["roles"]["app"]["has_password"] is True
    assert not any(secret in str(found) for secret in ("geheim-1", "KEY-1"))


RULES = [
    ({"type": "hostssl", "address": "10.0.0.0/8"}, "hostssl  all  all  10.0.0.0/8  md5"),
    ({"type": "host", "address": "all", "user": ["a", "b c"], "method": "cert"}, 'host  all  a,"b c"  all  cert'),
    ({"type": "local", "database": "x", "method": "peer", "options": {"map": "m"}}, 'local  x  all  peer  map="m"'),
]


@pytest.mark.parametrize(("rule", "line"), RULES)
def test_rules(rule, line):
    rules, wrong = hba.check([rule], False)
    assert (hba.lines(rules), wrong) == (["local  all  postgres  peer", line], [])


def test_a_rule_without_a_method_takes_what_the_server_knows():
    (_, rule), _ = hba.check([{"type": "hostssl", "address": "::1/128"}], True)
    assert rule["method"] == "scram-sha-256"


WRONG_RULES = [
    ("x", "must be a mapping"),
    ({"type": "host", "address": "10.0.0.1/8"}, "address must be"),
    ({"type": "host", "address": "10.0.0.0/8", "method": "trust"}, "lets everybody in"),
    ({"type": "host", "address": "10.0.0.0/8", "method": "password"}, "clear text"),
    ({"type": "host", "address": "10.0.0.0/8", "method": "scram-sha-256"}, "came with PostgreSQL 10"),
    ({"type": "host", "address": "10.0.0.0/8", "method": "peer"}, "type local"),
    ({"type": "local", "address": "10.0.0.0/8", "method": "peer"}, "no address"),
    ({"type": "local"}, "must name its method"),
    ({"type": "host", "address": "a b"}, "address must be"),
    ({"type": "host", "address": "10.0.0.0/8", "user": 'a"b'}, "user must be a name"),
    ({"type": "host", "address": "10.0.0.0/8", "users": "a"}, "unknown key 'users' (there are "),
    ({"type": "host", 1: "a", "users": "a"}, "unknown keys 'users', 1 (there are address, database, method, options, type, user)"),
    ({"type": "host", "address": "10.0.0.0/8", "method": ["md5"]}, "there is no method ['md5']"),
    ({"type": "host", "address": "10.0.0.0/8", "options": {1: "a", "b": "c"}}, "options must be a mapping of words"),
]


@pytest.mark.parametrize(("rule", "said"), WRONG_RULES)
def test_wrong_rules(rule, said):
    _, wrong = hba.check([rule], False)
    assert len(wrong) == 1
    assert said in wrong[0]


OWN = ["127.0.0.1/8", "192.0.2.7/24", "198.51.100.7/255.255.255.0", "2001:db8::7/64", "fe80::1/64"]
LISTEN = [
    ([], ["localhost"]),
    (["127.0.0.1/32", "::1/128", "samehost"], ["localhost"]),
    (["192.0.2.9/32"], ["localhost", "192.0.2.7"]),
    (["192.0.2.0/24", "2001:db8::9/128"], ["localhost", "192.0.2.7", "2001:db8::7"]),
    (["192.0.0.0/16"], ["*"]),
    (["203.0.113.0/24"], ["*"]),
    (["0.0.0.0/0"], ["*"]),
    (["all"], ["*"]),
    (["client.example"], ["*"]),
]


@pytest.mark.parametrize(("addresses", "listened"), LISTEN)
def test_listen(addresses, listened):
    rules, wrong = hba.check([{"type": "hostssl", "address": address} for address in addresses], True)
    assert wrong == []
    assert hba.listen(rules, OWN) == listened


def test_who_is_rejected_needs_no_address():
    rules, _ = hba.check([{"type": "host", "address": "all", "method": "reject"}], True)
    assert hba.listen(rules, OWN) == ["localhost"]


TUNED = [
    ("9.5", 512, 1, {"shared_buffers": "128MB", "work_mem": "4MB", "max_worker_processes": 8}),
    ("16", 4096, 4, {"shared_buffers": "1024MB", "work_mem": "10MB", "maintenance_work_mem": "256MB", "max_parallel_workers": 4}),
    ("16", 262144, 64, {"shared_buffers": "8192MB", "work_mem": "256MB", "maintenance_work_mem": "2048MB", "max_worker_processes": 64}),
]


@pytest.mark.parametrize(("version", "mib", "processors", "wanted"), TUNED)
def test_tuning(version, mib, processors, wanted):
    found = tuning.settings(version, mib * tuning.MIB, processors)
    assert {key: found[key] for key in wanted} == wanted
    assert ("max_parallel_workers" in found) == (version == "16")


def test_what_is_declared_wins():
    found = read(archived(memory="1G", settings={"work_mem": "7MB", "max_connections": 10, "fsync": True}))["settings"]
    assert (found["work_mem"], found["max_connections"], found["fsync"]) == ("7MB", "10", "on")
    assert found["shared_buffers"] == "256MB"
    assert found["password_encryption"] == "on"
    assert read({"version": "15"})["settings"]["password_encryption"] == "scram-sha-256"
