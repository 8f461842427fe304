"""A PostgreSQL server of the tests' own on loopback, which logs all that a server can log."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest
from saltrbd.postgresql import archive

from labkit import commands, postgresql
from labkit.home import Home

# What the platform's database and its owner are called, and the password of both roles there are.
NAME, PASSWORD = "platform", "PlantedDatabasePassword5521"

# Everything that could show a value. The parameters of bound statements are logged whole from 13 on, and have no setting before.
LOUD = {
    "log_statement": "all",
    "log_min_error_statement": "error",
    "log_min_duration_statement": "0",
    "log_error_verbosity": "verbose",
    "log_connections": "on",
    "log_duration": "on",
    "log_lock_waits": "on",
    "track_activity_query_size": "16384",
}
# As much again, for the statements of one user.
LOUDER = (
    "log_min_messages = debug5",
    "log_min_error_statement = debug5",
    "debug_print_parse = on",
    "debug_print_rewritten = on",
    "debug_print_plan = on",
)
LOUD_13 = {"log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1"}
EXPLAIN = {
    "shared_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_verbose": "on",
}


def programs(version, tmp_path_factory):
    """Return the folder with initdb, pg_ctl and postgres of a version: ``debian``, or one of labkit's archives."""
    if version == "debian":
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            pytest.fail("Debian's PostgreSQL is not installed; ./lab test installs it.", pytrace=False)
        return found[-1].parent
    known = postgresql.ARCHIVES[version]
    try:
        path = postgresql.archive(Home(), version)
    except postgresql.NotReachable as problem:
        pytest.skip(str(problem))
    # The server's user must reach it, which it cannot where pytest keeps its folders.
    folder = Path(tempfile.mkdtemp(prefix="rbd-lab-postgresql-"))
    folder.chmod(0o755)
    declared = {"bin_dir": str(folder / "pg/bin"), "version": version, "archive": {"source": path.name, "sha256": known.sha256}}
    archive.install(declared, str(path))
    return folder / "pg/bin"


class Server:
    """A cluster in a new folder; ``log`` is the path of all that it says."""

    def __init__(self, programs):
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="rbd-lab-postgresql-"))
        self.data, self.log = self.folder / "data", self.folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        shutil.chown(self.folder, "postgres", "postgres")
        password = self.folder / "password"
        password.write_text(PASSWORD)
        shutil.chown(password, "postgres")
        how = ["--auth-local=reject", "--auth-host=md5", "--encoding=UTF8", "--locale=C", "--nosync"]
        commands.run(self._argv("initdb", "-D", self.data, "-U", "postgres", f"--pwfile={password}", *how), cwd="/", timeout=300)
        password.unlink()
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 120,
        }
        settings.update(LOUD)
        if int((self.data / "PG_VERSION").read_text().partition(".")[0]) >= 13:
            settings.update(LOUD_13)
        if (programs.parent / "lib/auto_explain.so").exists():
            settings.update(EXPLAIN)
        with open(self.data / "postgresql.conf", "a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        self.start()
        self.postgres(f"CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}'")
        self.postgres(f"CREATE DATABASE {NAME} OWNER {NAME}")

    def start(self):
        """Start it as a child of the tests, which ends with them whatever becomes of them."""
        with open(self.log, "ab") as log:
            argv = self._argv("postgres", "-D", self.data)
            self.process = subprocess.Popen(argv, cwd="/", stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 300
        while True:
            try:
                return self.connect("postgres", "postgres").close()
            except psycopg2.OperationalError:
                assert self.process.poll() is None, self.said()
                assert time.monotonic() < until, self.said()
                time.sleep(0.1)

    def remove(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(300)
        shutil.rmtree(self.folder)

    def connect(self, user=NAME, dbname=NAME):
        return psycopg2.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORD, dbname=dbname, connect_timeout=60)

    def sql(self, statement, values=None, **connection):
        """Carry a statement out and return its rows."""
        with self.connect(**connection) as one, one.cursor() as cursor:
            cursor.execute(statement, values)
            found = cursor.fetchall() if cursor.description else []
        one.close()
        return found

    def postgres(self, statement, dbname="postgres"):
        """Carry a statement out as the superuser, outside of a transaction."""
        one = self.connect("postgres", dbname)
        try:
            one.autocommit = True
            with one.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            one.close()

    def said(self):
        """Return the server's log."""
        return self.log.read_text(errors="replace")

    def _argv(self, program, *words):
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=QUIT"]
        return [str(word) for word in [*become, self.programs / program, *words]]


def declared(port, **sections):
    """Return the pillar's ``platform:`` for a server, with one row of each type; ``sections`` take the place of its own."""
    return {
        "database": {"port": port, "dbname": NAME, "user": NAME, "password": PASSWORD},
        "agent": {"url": "https://storage.example.net:8011", "user": "tenx-agent", "password": AGENT},
        "settings": {
            "rbd": [{"id": RBD, "name": "tenx", "calamari_url": "192.168.0.11:5000"}],
            "mail": [
                {
                    "id": MAIL,
                    "host": "smtp.example.net",
                    "port": 587,
                    "security": "starttls",
                    "user": "storage@example.net",
                    "password": RELAY,
                    "sender": "storage@example.net",
                }
            ],
        },
        **sections,
    }


RBD, MAIL = "5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b10", "0b9d7c36-2f41-4c0a-8c58-7a1e5d2b9f33"
AGENT, RELAY = "PlantedAgentPassword7713", "PlantedRelayPassword9924"
CEPH = {
    "monitors": ["192.168.0.11:6789", "192.168.0.12:6789", "192.168.0.13:6789"],
    "pool": "tenx-k8s",
    "user": "admin",
    "keyring": "/etc/ceph/ceph.client.admin.keyring",
}


def clear(server):
    """Take the platform's tables away."""
    for (name,) in server.sql("SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"):
        server.postgres(f'DROP TABLE "{name}" CASCADE', NAME)


def running_server(version, tmp_path_factory):
    """Yield a server; for fixtures."""
    folder = programs(version, tmp_path_factory)
    server = Server(folder)
    yield server
    server.remove()
    if str(folder).startswith(tempfile.gettempdir() + os.sep):
        shutil.rmtree(folder.parent.parent)
