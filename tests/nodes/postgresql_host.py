"""A node with a PostgreSQL server of the pillar's: Salt without a master inside, connections from this host."""

import json
import secrets
import shutil
import time

import psycopg2

from labkit import bridge, nodes
from labkit.home import REPO

STATES = "/srv/states"
PILLAR = "/srv/pillar"
ARCHIVE = "/srv/postgresql.jar"


class Results(dict):
    """What a run of states returned, by the states' ids."""

    def failed(self):
        return {key: row["comment"] for key, row in self.items() if row["result"] is False}

    def changed(self):
        return {key for key, row in self.items() if row["changes"] or row["result"] is None}


class Database:
    """A fresh node whose pillar declares a server; ``declare`` changes the pillar, ``apply`` applies it."""

    def __init__(self, lab_home, number, **declared):
        (self.node,) = nodes.up(lab_home, [number])
        self.host = bridge.address(self.node.network)
        for name in ("salt", "_modules", "_states", "_utils"):
            shutil.copytree(REPO / name, self.node.root / STATES[1:] / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        minion = {
            "id": self.node.name,
            "file_client": "local",
            "file_roots": {"base": [f"{STATES}/salt"]},
            "pillar_roots": {"base": [PILLAR]},
            # At debug, Salt itself writes the rendered pillar into its log.
            "log_level_logfile": "info",
        }
        self.node.write("/etc/salt/minion", json.dumps(minion))
        self.node.write(f"{PILLAR}/top.sls", json.dumps({"base": {"*": ["postgresql"]}}))
        self.password = secrets.token_urlsafe(20)
        self.declared = {
            "memory": "1G",
            "pg_hba": [
                {"type": "local", "database": "all", "user": "all", "method": "peer"},
                {"type": "hostssl", "database": "app", "user": "app", "address": f"{self.host}/32"},
            ],
            "roles": {"readers": {"login": False}, "app": {"password": self.password, "groups": ["readers"]}},
            "databases": {"app": {"owner": "app", "extensions": ["hstore"]}},
        }
        self.declare(**declared)
        self.node.run("salt-call", "--local", "saltutil.sync_all", timeout=120)

    def declare(self, **changed):
        """Set keys of the pillar's ``postgresql:``; None takes one away."""
        self.declared.update(changed)
        self.declared = {key: value for key, value in self.declared.items() if value is not None}
        self.node.write(f"{PILLAR}/postgresql.sls", json.dumps({"postgresql": self.declared}), 0o600)

    def call(self, *words, timeout=600):
        """Return what an execution function returns."""
        _, out, _ = self.node.run("salt-call", "--local", "--out=json", *words, timeout=timeout, check=False)
        return json.loads(out)["local"]

    def apply(self, sls="postgresql", test=False):
        """Apply the states and return the :class:`Results`."""
        answer = self.call("state.apply", sls, f"test={test}")
        assert isinstance(answer, dict), answer
        rows = sorted(answer.values(), key=lambda row: row["__run_num__"])
        # A state with several names has the same id for each of them.
        return Results((row["__id__"] if row["__id__"] != row["name"] else row["name"], row) for row in rows)

    def applied(self, sls="postgresql"):
        """Apply the states, all of which must succeed."""
        found = self.apply(sls)
        assert not found.failed()
        return found

    @property
    def port(self):
        return self.declared.get("port", 5432)

    def connect(self, password=None, **options):
        """Connect from this host over TLS, with the server's certificate checked against its address."""
        certificate = self.node.folder / "server.crt"
        certificate.write_text(self.node.run("cat", self.call("postgresql_server.layout")["tls"]["certificate"])[1])
        options = {"sslmode": "verify-full", "sslrootcert": str(certificate), **options}
        return psycopg2.connect(
            host=self.node.address,
            port=self.port,
            dbname="app",
            user="app",
            password=password or self.password,
            connect_timeout=10,
            **options,
        )

    def query(self, sql, **options):
        """Return the rows of a statement by the role app."""
        with self.connect(**options) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def postgres(self, sql, database="postgres"):
        """Carry out a statement as the operating system's user postgres."""
        argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "-XAtq", "-h", "/var/run/postgresql"]
        return self.node.run(*argv, "-p", str(self.port), "-d", database, stdin_text=sql)[1].strip()

    def refusal(self, **options):
        """Return what the server says to a connection that it refuses."""
        try:
            self.connect(**options).close()
        except psycopg2.OperationalError as error:
            return str(error)
        raise AssertionError("the server let it in")

    def refusal_inside(self):
        """Return what the server says to the right password from the node's own address, which no rule names."""
        program = (
            "import json, sys, psycopg2\n"
            "try:\n    psycopg2.connect(**json.load(sys.stdin))\nexcept psycopg2.OperationalError as error:\n    print(error)\n"
        )
        where = {
            "host": self.node.address,
            "port": self.port,
            "dbname": "app",
            "user": "app",
            "password": self.password,
            "connect_timeout": 10,
        }
        return self.node.run(f"{self.node.venv}/bin/python", "-c", program, stdin_text=json.dumps(where))[1]

    def postmaster(self):
        """Return the pid of the server's first process."""
        return self.call("postgresql_server.running")["pid"]

    def wait(self, seconds=30):
        """Wait until the server lets the role app in."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.connect().close()
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
