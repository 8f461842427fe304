"""A node with a PostgreSQL server of the pillar's: Salt without a master inside, connections from this host."""

import json
import secrets
import time

import psycopg2
from masterless import Host

from labkit import bridge

ARCHIVE = "/srv/postgresql.jar"


class Database(Host):
    """A fresh node whose pillar declares a server; ``declare`` changes the pillar, ``apply`` applies it."""

    def __init__(self, lab_home, number, **declared):
        super().__init__(lab_home, number)
        self.host = bridge.address(self.node.network)
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

    def declare(self, **changed):
        """Set keys of the pillar's ``postgresql:``; None takes one away."""
        self.declared.update(changed)
        self.declared = {key: value for key, value in self.declared.items() if value is not None}
        self.pillar({"postgresql": self.declared})

    def apply(self, sls="postgresql", test=False):
        """Apply the states and return the :class:`masterless.Results`."""
        return super().apply(sls, test)

    def applied(self, sls="postgresql"):
        """Apply the states, all of which must succeed."""
        return super().applied(sls)

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
