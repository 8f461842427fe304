"""What every SLS renders to, on every system of the map: ``tests/golden`` keeps it, one file for each SLS.

A unit test compares. ``python -m labkit.golden``, by a Python that has Salt, writes the files anew; look at the difference before it is
committed. Salt's own renderer works with grains, pillar and facts of the minion that are data of this file.
"""

import datetime
import functools
import importlib.util
import json
import os
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from unittest import mock

REPO = Path(__file__).resolve().parent.parent
KEPT = REPO / "tests/golden"
sys.path[:0] = [str(REPO / "_utils")]

DAY = datetime.date(2026, 11, 24)
SUPPORTED = {
    "Debian 11": {"os": "Debian", "os_family": "Debian", "osmajorrelease": 11, "osrelease": "11"},
    "Debian 12": {"os": "Debian", "os_family": "Debian", "osmajorrelease": 12, "osrelease": "12"},
    "Debian 13": {"os": "Debian", "os_family": "Debian", "osmajorrelease": 13, "osrelease": "13"},
    "Ubuntu 22.04": {"os": "Ubuntu", "os_family": "Debian", "osmajorrelease": 22, "osrelease": "22.04"},
    "Ubuntu 24.04": {"os": "Ubuntu", "os_family": "Debian", "osmajorrelease": 24, "osrelease": "24.04"},
    "RHEL family 7": {"os": "CentOS", "os_family": "RedHat", "osmajorrelease": 7, "osrelease": "7.9"},
    "RHEL family 8": {"os": "AlmaLinux", "os_family": "RedHat", "osmajorrelease": 8, "osrelease": "8.10"},
    "RHEL family 9": {"os": "Rocky", "os_family": "RedHat", "osmajorrelease": 9, "osrelease": "9.4"},
}
# Nobody has tried these.
UNSUPPORTED = {
    "Debian 10": {"os": "Debian", "os_family": "Debian", "osmajorrelease": 10, "osrelease": "10"},
    "RHEL family 41": {"os": "Fedora", "os_family": "RedHat", "osmajorrelease": 41, "osrelease": "41"},
    "SUSE 15": {"os": "SUSE", "os_family": "Suse", "osmajorrelease": 15, "osrelease": "15.6"},
}
SYSTEMS = {**SUPPORTED, **UNSUPPORTED}
HARDWARE = {"id": "management", "kernel": "Linux", "mem_total": 4096, "num_cpus": 4, "osarch": "x86_64"}
INTERFACES = {"eth0": {"inet": [{"address": "192.168.0.10", "netmask": "255.255.255.0"}]}}

# Each of these stands in a pillar here and must not stand in what is rendered.
SECRETS = (
    "a role's password",
    "a key of Ceph's",
    "a handler's password",
    "an agent's password",
    "the agent's password",
    "a relay's password",
)

# A pillar with facts of the minion that states ask for; ``only``: the folder of the state tree that it is for, or several, by how their
# names begin.
Case = namedtuple("Case", "pillar facts only", defaults=({}, ""))

NOTHING = Case({})
OPTIONS = {
    "ceph": {
        "fsid": "7d3f2c1e-4b7a-4c0e-9a3d-5f1f0b6f2a10",
        "monitors": ["[v2:192.168.0.11:3300,v1:192.168.0.11:6789]"],
        "user": "volumes",
        "keyring_text": "a key of Ceph's",
    },
    "rbd": {
        "driver": "nbd",
        "namespaces": ["tank/tenant"],
        "volumes": {
            "tenants": {"pool": "tank", "namespace": "tenant", "image": "outer", "size": "1G"},
            "outer": {"size": "1G", "mount": "/srv/outer", "fs_type": "xfs", "label": "outer", "mount_options": ["noatime"]},
            "inner": {"size": "1G", "mount": "/srv/outer/inner", "persist": False, "driver": "krbd", "exclusive": False},
            "unmounted": {"pool": "tank", "size": "1T", "features": ["layering"], "snapshots": {"daily": {"protected": True}}},
        },
        "clones": {"copy": {"parent": "tank/unmounted@daily", "mount": "/srv/copy", "clone_format": 2}},
    },
    "diamond": {
        "source": "package",
        "interval": 30,
        "hostname": "one.example",
        "log_level": "DEBUG",
        "handlers": {"diamond.handler.influxdbHandler.InfluxdbHandler": {"password": "a handler's password"}},
        "collectors": {"NetworkCollector": None, "PostgresqlCollector": {"port": 5433}, "RbdCollector": {"user": "volumes"}},
        "ceph_keyring": "a key of Ceph's",
    },
    "kubernetes": {"folder": "/srv/manifests/rbd"},
    "graphite": {"listen": "192.168.0.10", "port": 2013, "carbon": {"LOG_UPDATES": True}, "clean_data": True},
    "salt_environment": {"version": "3006.28", "folder": "/srv/salt-environments", "packages": [], "build_packages": []},
    "salt_master": {
        "user": "master",
        "interface": "192.168.0.10",
        "pillar_roots": ["/srv/one", "/srv/two"],
        "settings": {"worker_threads": 8},
        "gitfs": {"url": "https://git.example/rbd.git", "ref": "v1"},
    },
    "salt_minion": {"master": ["one", "two"], "settings": {"log_level": "info"}},
    "salt_api": {"certificate": "/etc/ssl/api.pem", "key": "/etc/ssl/api.key", "clients": ["local", "runner"]},
    "postgresql": {
        "version": "17",
        "memory": "2G",
        "processors": 2,
        "pg_hba": [{"type": "hostssl", "database": "app", "user": "app", "address": "192.168.0.0/24"}],
        "roles": {"readers": {"login": False}, "app": {"password": "a role's password", "groups": ["readers"]}},
        "databases": {"app": {"owner": "app", "extensions": ["hstore"]}},
        "backup": {"enabled": False},
        "clean_data": True,
    },
    # In a database elsewhere.
    "platform": {
        "database": {"host": "db.example", "password": "a role's password", "table": "settings.tenx_configs"},
        "agent": {"url": "http://storage.example:8011", "tls": False, "user": "agent", "password": "an agent's password"},
        "settings": {
            "rbd": [
                {"id": f"5f0c8a52-6a5e-4a83-9d2c-3d4c1f6a7b1{number}", "name": f"tenx{number}", "calamari_url": "192.168.0.11:5000"}
                for number in range(2)
            ],
            "mail": [{"id": "0b9d7c36-2f41-4c0a-8c58-7a1e5d2b9f33", "host": "smtp.example", "password": "a relay's password"}],
        },
    },
}
MISTAKES = {
    "ceph": {"fsid": "7d3f2c1e-4b7a-4c0e-9a3d-5f1f0b6f2a10", "monitor": []},
    "rbd": {"volumes": {"data": {"size": "much", "mount": "here"}}},
    "diamond": {"source": "git", "collectors": {"RbdCollector": {}}},
    "salt_environment": {"version": "3005.1", "source": "source"},
    "salt_master": {"gitfs": {"ref": "v1"}},
    "postgresql": {"version": "9.4", "source": "compiled", "port": "high"},
    "platform": {
        "databse": {},
        "agent": {"url": "http://storage.example", "user": "", "password": "short", "functions": ["state.apply"]},
        "settings": {"rbd": [{"id": "1", "nam": "x"}]},
    },
}
# Salt by its project's packages.
PACKAGED = {"salt_environment": {"source": "package"}, "salt_master": {"gitfs": {"url": "https://git.example/rbd.git"}}, "salt_api": {}}
AGENT = {
    "url": "https://storage.example:8011",
    "user": "tenx-agent",
    "password": "the agent's password",
    "certificate": "/etc/ssl/agent.pem",
    "key": "/etc/ssl/agent.key",
    "functions": ["rbd_image.list", "rbd_image.create"],
    "targets": ["node*"],
}
PLAIN_AGENT = {**AGENT, "url": "http://192.168.0.10:8011", "tls": False, "limits": {"logins": 2, "body": 4096}}
PGDG = {"source": "pgdg", "version": "9.5", "roles": OPTIONS["postgresql"]["roles"], "databases": OPTIONS["postgresql"]["databases"]}

# The platform's table in the database app of the same host.
OWN_DATABASE = {**OPTIONS["platform"], "database": {"dbname": "app"}}

FACTS = {
    "file.file_exists": lambda path: False,
    "file.find": lambda path, **_: [],
    "kmod.available": list,
    "kmod.lsmod": list,
    "pkg.version": lambda name: "",
    "service.offline": lambda: False,
    "user.info": lambda name: {},
}
# A node to which the states were applied before.
APPLIED = {"file.file_exists": lambda path: path.endswith((".service", ".path")), "user.info": lambda name: {"home": f"/opt/{name}"}}
# One that has some of Salt's packages, in an older version.
PACKAGES = {**APPLIED, "pkg.version": lambda name: "3008.2" if name in ("salt-common", "salt-minion") else ""}
# One that has been something else before.
OTHER_FACTS = {
    "file.file_exists": lambda path: True,
    "file.find": lambda path, name="*", **_: [f"{path}/{'old.conf' if name == '*' else 'env-old'}"],
    "kmod.available": lambda: ["rbd"],
    "kmod.lsmod": lambda: [{"module": "nbd"}],
    "user.info": lambda name: {"home": f"/home/{name}"},
}


def cases(system, example):
    """Return the :class:`Case` s of a system, by name; ``example`` is the example pillar."""
    from saltrbd.postgresql import systems

    packaged = systems.SYSTEMS[system].packaged if system in systems.SYSTEMS else ""
    return {
        "example": Case(example, APPLIED),
        # Without systemd, as where a container image is built.
        "image": Case(example, {**APPLIED, "service.offline": lambda: True}),
        "options": Case(OPTIONS, OTHER_FACTS),
        "mistakes": Case(MISTAKES),
        "Salt's packages": Case({**PACKAGED, "platform": {"agent": PLAIN_AGENT}}, PACKAGES, only=("salt_", "storage_agent")),
        "storage agent": Case({"platform": {"agent": AGENT}}, APPLIED, only=("salt_", "storage_agent")),
        "image with a storage agent": Case(
            {"platform": {"agent": AGENT}}, {**APPLIED, "service.offline": lambda: True}, only=("salt_", "storage_agent")
        ),
        "pgdg 9.5": Case({"postgresql": PGDG}, only="postgresql"),
        "own database": Case({"postgresql": OPTIONS["postgresql"], "platform": OWN_DATABASE}, only=("platform", "postgresql")),
        "distribution": Case({"postgresql": {"source": "distribution", "version": packaged or "15"}}, only="postgresql"),
    }


class Renderer:
    """Salt's renderer for SLS files of this checkout, as a minion without a master has it."""

    def __init__(self, folder):
        import jinja2
        import salt.config
        import salt.fileclient

        minion = {"id": "management", "root_dir": str(folder), "file_client": "local", "file_roots": {"base": [str(REPO / "salt")]}}
        (Path(folder) / "minion").write_text(json.dumps(minion))
        self._opts = dict(salt.config.minion_config(str(Path(folder) / "minion")), saltenv="base")
        self._client = salt.fileclient.get_file_client(self._opts)
        known, compile_one = {}, jinja2.Environment.compile

        def compiled(environment, source, name=None, filename=None, *more):
            if (source, name) not in known:
                known[source, name] = compile_one(environment, source, name, filename, *more)
            return known[source, name]

        self._compiled = compiled

    def render(self, paths, grains=(), case=NOTHING):
        """Return the states, or the pillar, of SLS files, by their names."""
        import jinja2
        import salt.loader
        from salt.template import compile_template

        opts = {**self._opts, "grains": {**HARDWARE, **dict(grains)}, "pillar": case.pillar}
        renderers = salt.loader.render(opts, self._functions(opts, case.facts), file_client=self._client)
        found = {}
        # Salt compiles the same templates anew for each file; that would be most of the time.
        with mock.patch.object(jinja2.Environment, "compile", self._compiled):
            for path in paths:
                name = name_of(path)
                found[name] = compile_template(str(path), renderers, "jinja|yaml", [], [], saltenv="base", sls=name.replace("/", "."))
        return found

    @staticmethod
    def _functions(opts, facts):
        """Return the execution functions that SLS files call: Salt's and ours by their real code, the minion's facts as data."""
        from salt.modules import slsutil

        functions = {
            "slsutil.merge": slsutil.merge,
            "file.dirname": os.path.dirname,
            "network.interfaces": lambda: INTERFACES,
            "status.time": lambda form: DAY.strftime(form),
            **FACTS,
            **facts,
        }
        for name in ("rbd_volumes", "postgresql_server", "platform_config", "storage_agent", "platform_alerts"):
            loaded = module(REPO / "_modules" / f"{name}.py")
            # No cluster is asked; what the pillar does not declare is not there.
            loaded._existing = lambda wanted: set()
            loaded.__opts__, loaded.__grains__, loaded.__pillar__, loaded.__salt__ = {}, opts["grains"], opts["pillar"], functions
            functions.update(
                {f"{name}.{function}": getattr(loaded, function) for function in ("layout", "names") if hasattr(loaded, function)}
            )
        return functions


@functools.lru_cache(maxsize=None)
def module(path):
    """Return one of our execution or state modules, loaded from its file."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded


def sources():
    """Return the paths of all SLS files: the states', the pillar's."""
    return sorted((REPO / "salt").rglob("*.sls")), sorted((REPO / "pillar").glob("*.sls"))


def name_of(path):
    """Return a file's name in the state tree, such as ``postgresql/init``; that of a pillar's file begins with ``pillar/``."""
    inside = path.relative_to(REPO).with_suffix("")
    return str(inside.relative_to("salt") if inside.parts[0] == "salt" else inside)


def kept(name):
    """Return the path of the file that keeps what an SLS file renders to."""
    return KEPT / f"{name}.yaml"


def everything():
    """Return ``{SLS name: {(case, system): states}}`` of all SLS files, the states as JSON: it keeps their order."""
    from salt.utils import dictupdate
    from saltrbd.postgresql import systems

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(systems, "ended", functools.partial(systems.ended, today=DAY)):
        renderer = Renderer(folder)
        states, pillars = sources()
        pillar = renderer.render(pillars)
        found = {name: {("", ""): json.dumps(data)} for name, data in pillar.items()}
        # The second node's would take the place of the first one's.
        example = {}
        for name in sorted(set(pillar) - {"pillar/top", "pillar/node2"}):
            dictupdate.update(example, pillar[name])
        for system, grains in SYSTEMS.items():
            for called, case in cases(system, example).items():
                wanted = [path for path in states if name_of(path).startswith(case.only)]
                for name, data in renderer.render(wanted, grains, case).items():
                    found.setdefault(name, {})[called, system] = json.dumps(data)
    return found


def grouped(rendered):
    """Return what is kept of one SLS: each different result once, with the cases and systems that it is the result of.

    A system's own name in it is SYSTEM there.
    """
    groups = {}
    for (case, system), states in rendered.items():
        groups.setdefault(states.replace(system, "SYSTEM") if system else states, {}).setdefault(case, []).append(system)
    if "" in {case for case, _ in rendered}:
        return [{"pillar": json.loads(text)} for text in groups]
    return [
        {"cases": {case: "every system" if len(found) == len(SYSTEMS) else found for case, found in by.items()}, "states": json.loads(text)}
        for text, by in groups.items()
    ]


def text(entries):
    """Return the entries as a file has them."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of more than one line as such, and no anchors."""

        def ignore_aliases(self, data):
            return True

    def show(dumper, value):
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, show)
    options = {"sort_keys": False, "allow_unicode": True, "width": 140, "default_flow_style": None}
    return "# Written by python -m labkit.golden.\n" + yaml.dump(entries, Dumper=Dumper, **options)


def main():
    """Write all files anew; those of SLS files that are no more go."""
    found = everything()
    wanted = {kept(name): grouped(rendered) for name, rendered in found.items()}
    for path in set(KEPT.rglob("*.yaml")) - set(wanted):
        path.unlink()
    for path, entries in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(entries))


if __name__ == "__main__":
    main()
