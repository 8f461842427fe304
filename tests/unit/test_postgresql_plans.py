"""Decisions about a server: configuration, roles, databases, passwords, archives."""

import io
import tarfile
import zipfile

import pytest
from saltrbd.errors import InvalidArchive, Refused
from saltrbd.postgresql import archive, configuration, databases, passwords, roles, values


def row(setting, vartype="integer", unit=None, context="user"):
    return {"setting": setting, "vartype": vartype, "unit": unit, "context": context, "pending_restart": False, "sourcefile": None}


SAME = [
    (row("16384", unit="8kB"), "128MB", True),
    (row("16384", unit="8kB"), "131072kB", True),
    (row("16384", unit="8kB"), "16384", True),
    (row("16384", unit="8kB"), "129MB", False),
    (row("300", unit="s"), "5min", True),
    (row("0.9", "real"), "0.90", True),
    (row("-1"), "-1", True),
    (row("on", "bool"), "yes", True),
    (row("off", "bool"), "on", False),
    (row("off", "bool"), "perhaps", False),
    (row("scram-sha-256", "enum"), "SCRAM-SHA-256", True),
    (row("on", "enum"), "true", True),
    (row("ISO, DMY", "string"), "iso, dmy", True),
    (row("ISO, DMY", "string"), "dmy", True),
    (row("ISO, MDY", "string"), "dmy", False),
    (row("localhost,192.0.2.7", "string", context="postmaster"), "localhost, 192.0.2.7", True),
    (row("localhost,192.0.2.7", "string", context="postmaster"), "localhost", False),
]


@pytest.mark.parametrize(("live", "wanted", "same"), SAME)
def test_same(live, wanted, same):
    assert values.same(live, wanted) is same


def test_what_is_written_is_read_back():
    settings = {"a": "it's", "log_line_prefix": "%m [%p] ", "my.own": "", "z": "a, b"}
    assert values.read(values.file(settings)) == settings
    assert values.read("a = 'b'\n") is None


def place(**more):
    settings = {"work_mem": "4MB", "shared_buffers": "128MB"}
    return {"version": "9.5", "settings": settings, "pg_hba": ["x"], "pg_ident": [], "restart": True, **more}


def known(**more):
    return {"settings": {"work_mem": "4MB", "shared_buffers": "128MB"}, "pg_hba": ["x"], "pg_ident": [], **more}


def live(work_mem="4096", shared_buffers="16384", **more):
    rows = {"work_mem": row(work_mem, unit="kB"), "shared_buffers": row(shared_buffers, unit="8kB", context="postmaster")}
    return {"settings": rows, "loaded": 100, "started": 50, "written": 90, "replaced": 0, **more}


def held_by_alter_system():
    found = live(work_mem="8192")
    found["settings"]["work_mem"]["sourcefile"] = "/data/postgresql.auto.conf"
    return found


def pending():
    found = live()
    found["settings"]["shared_buffers"]["pending_restart"] = True
    return found


PLANS = [
    ("nothing to do", place(), known(), live(), set(), ""),
    (
        "nothing runs, nothing is written yet",
        place(),
        {"settings": None, "pg_hba": None, "pg_ident": None},
        None,
        {"settings", "pg_hba", "pg_ident"},
        "",
    ),
    ("a rule", place(pg_hba=["y"]), known(), live(), {"pg_hba", "action"}, "reload"),
    ("a setting", place(), known(settings={"work_mem": "1MB", "shared_buffers": "128MB"}), live("1024"), {"work_mem", "action"}, "reload"),
    ("one that needs a restart", place(), known(), live(shared_buffers="1"), {"action"}, "restart"),
    ("the restart is not wished", place(restart=False), known(), live(shared_buffers="1"), set(), ""),
    ("written, not read", place(), known(), live(written=200), {"action"}, "reload"),
    ("read, not restarted", place(), known(), pending(), {"action"}, "restart"),
    ("new binaries", place(), known(), live(replaced=60), {"action"}, "restart"),
    ("drift of the server", place(), known(), live("1024"), {"action"}, "reload"),
    ("a setting goes", place(), known(settings={**place()["settings"], "fsync": "on"}), live(), {"fsync", "action"}, "reload"),
]


@pytest.mark.parametrize(("name", "wanted", "there", "running", "changed", "action"), PLANS, ids=[item[0] for item in PLANS])
def test_configuration(name, wanted, there, running, changed, action):
    found = configuration.plan(wanted, there, running)
    assert (set(found.changes), found.action, found.refusals) == (changed, action, [])
    assert ("restart is needed" in found.why) == (name == "the restart is not wished")


def test_configuration_refusals():
    assert "ALTER SYSTEM RESET work_mem" in configuration.plan(place(), known(), held_by_alter_system()).refusals[0]
    wanted = place(settings={**place()["settings"], "work_memo": "1", "my.own": "x"})
    assert configuration.plan(wanted, known(), live()).refusals == ["PostgreSQL 9.5 has no setting work_memo"]


# The example of RFC 7677, whose password is pencil.
STORED = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
MATCHES = [
    (STORED, "pencil", True, True),
    (STORED, "pencils", True, False),
    (passwords.md5("app", "pencil"), "pencil", False, True),
    (passwords.md5("app", "pencil"), "pencil", True, False),
    (None, "pencil", True, False),
    ("SCRAM-SHA-256$x", "pencil", True, False),
]


@pytest.mark.parametrize(("stored", "password", "scram", "matches"), MATCHES)
def test_passwords(stored, password, scram, matches):
    assert passwords.matches(stored, "app", password, scram) is matches
    made = passwords.make("app", password, scram)
    assert passwords.matches(made, "app", password, scram)
    assert password not in made


ROLE = {"login": True, "superuser": False, "connection_limit": -1, "groups": ["b", "a"]}


def test_roles():
    there = {"login": True, "superuser": True, "connection_limit": -1, "groups": ["a", "c"], "stored": None}
    scram = {"scram": True}
    assert roles.plan(scram, "app", ROLE, None, {**there, "superuser": False, "groups": ["a", "b"]}) == {}
    changes = roles.plan(scram, "app", ROLE, "pencil", there)
    assert set(changes) == {"superuser", "groups", "password"}
    assert "pencil" not in str(changes)
    first, *rest = roles.statements(scram, 'a"pp', ROLE, "pencil", there, changes)
    assert first.startswith('ALTER ROLE "a""pp" LOGIN NOSUPERUSER CONNECTION LIMIT -1 ENCRYPTED PASSWORD \'SCRAM-SHA-256$')
    assert rest == ['GRANT "b" TO "a""pp"', 'REVOKE "c" FROM "a""pp"']


DATABASE = {"owner": "app", "encoding": "UTF8", "locale": "C", "extensions": ["hstore"]}


def test_databases():
    assert set(databases.plan("app", DATABASE, None, None)) == set(DATABASE)
    assert databases.plan("app", DATABASE, {**DATABASE, "extensions": ["plpgsql", "hstore"]}, {"hstore"}) == {}
    changes = databases.plan("app", DATABASE, {**DATABASE, "owner": "postgres", "extensions": ["plpgsql"]}, {"hstore"})
    assert changes == {"owner": {"old": "postgres", "new": "app"}, "extensions": {"old": ["plpgsql"], "new": ["plpgsql", "hstore"]}}
    with pytest.raises(Refused, match="its locale is en_US.UTF-8 and cannot become C"):
        databases.plan("app", DATABASE, {**DATABASE, "locale": "en_US.UTF-8"}, {"hstore"})
    with pytest.raises(Refused, match="not installed on this node: hstore"):
        databases.plan("app", DATABASE, None, set())


PROGRAM = "#!/bin/sh\necho 'postgres (PostgreSQL) 9.5.99'\n"


def tarball(members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o4777
            info.linkname = content if kind != tarfile.REGTYPE else ""
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content.encode()))
    return data.getvalue()


BINARIES = [(f"bin/{name}", tarfile.REGTYPE, PROGRAM) for name in ("initdb", "pg_ctl", "postgres")]


def an_archive(tmp_path, members, jar=False):
    path = tmp_path / "postgresql"
    path.write_bytes(tarball(members))
    if jar:
        with zipfile.ZipFile(tmp_path / "jar", "w") as outer:
            outer.write(path, "postgres-linux-x86_64.txz")
            outer.writestr("postgres-darwin-x86_64.txz", "")
        path = tmp_path / "jar"
    declared = {"source": str(path), "sha256": archive.digest(path)}
    return path, {"bin_dir": str(tmp_path / "opt/bin"), "archive": declared, "version": "9.5"}


@pytest.mark.parametrize("jar", [False, True])
@pytest.mark.parametrize("prefix", ["", "./", "pgsql/"])
def test_archive(tmp_path, jar, prefix):
    members = [(prefix + name, *rest) for name, *rest in [*BINARIES, ("lib/a.so", tarfile.SYMTYPE, "../bin/initdb")]]
    path, there = an_archive(tmp_path, members, jar)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/old").touch()
    archive.install(there, str(path))
    assert archive.installed(there) == there["archive"]["sha256"]
    assert sorted(item.name for item in (tmp_path / "opt").iterdir()) == [archive.MARKER, "bin", "lib"]
    assert (tmp_path / "opt/bin/postgres").stat().st_mode & 0o7777 == 0o755


BAD = [
    ("outside", [*BINARIES, ("../evil", tarfile.REGTYPE, "x")], "not unpacked"),
    ("absolute", [*BINARIES, ("/etc/evil", tarfile.REGTYPE, "x")], "not unpacked"),
    ("device", [*BINARIES, ("null", tarfile.CHRTYPE, "x")], "not unpacked"),
    ("link out", [*BINARIES, ("lib", tarfile.SYMTYPE, "../../etc")], "leads out of it"),
    ("no programs", BINARIES[:1], "holds no bin/pg_ctl, bin/postgres"),
    ("another version", [*BINARIES[:2], ("bin/postgres", tarfile.REGTYPE, PROGRAM.replace("9.5", "9.50"))], "is not PostgreSQL 9.5"),
]


@pytest.mark.parametrize(("name", "members", "said"), BAD, ids=[item[0] for item in BAD])
def test_bad_archives(tmp_path, name, members, said):
    path, there = an_archive(tmp_path, members)
    with pytest.raises(InvalidArchive, match=said):
        archive.install(there, str(path))
    assert archive.installed(there) == ""
    assert not (tmp_path / "evil").exists()


def test_an_archive_with_another_hash(tmp_path):
    path, there = an_archive(tmp_path, BINARIES)
    there["archive"]["sha256"] = "0" * 64
    with pytest.raises(InvalidArchive, match="not 0000"):
        archive.install(there, str(path))
