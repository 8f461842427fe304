"""salt/postgresql rendered for every system of the map and every source that it has; what comes out is kept in postgresql_states/.

``RENEW_RENDERED=1`` writes these files anew; look at the difference before it is committed.
"""

import datetime
import json
import os
from pathlib import Path

import pytest
from saltrbd.errors import InvalidPillar
from saltrbd.postgresql import pillar, systems
from test_postgresql_pillar import ARCHIVE, GRAINS

KEPT = Path(__file__).parent / "postgresql_states"
SLS = ("supported", "programs", "repository", "archive", "cluster", "service", "objects", "backup", "clean")
PILLAR = {
    "memory": "2G",
    "processors": 2,
    "pg_hba": [{"type": "hostssl", "database": "app", "user": "app", "address": "192.0.2.0/24"}],
    "roles": {"readers": {"login": False}, "app": {"password": "never shown", "groups": ["readers"]}},
    "databases": {"app": {"owner": "app", "extensions": ["hstore"]}},
    "archive": ARCHIVE,
}


@pytest.fixture(autouse=True)
def the_day(monkeypatch):
    """What is past its end depends on it."""
    real = systems.ended
    monkeypatch.setattr(systems, "ended", lambda version, today=None: real(version, today or datetime.date(2026, 11, 1)))


@pytest.fixture(scope="module")
def render(repo, tmp_path_factory):
    import salt.config
    import salt.utils.templates
    import salt.utils.yaml

    folder = tmp_path_factory.mktemp("minion")
    minion = {"id": "tests", "root_dir": str(folder), "file_client": "local", "file_roots": {"base": [str(repo / "salt")]}}
    (folder / "minion").write_text(json.dumps(minion))
    opts = dict(salt.config.minion_config(str(folder / "minion")), saltenv="base")

    def rendered(layout, name):
        functions = {"postgresql_server.layout": lambda: layout, "file.dirname": os.path.dirname}
        context = {"opts": opts, "saltenv": "base", "sls": f"postgresql.{name}", "grains": {}, "pillar": {}, "salt": functions}
        path = repo / "salt/postgresql" / f"{name}.sls"
        text = salt.utils.templates.render_jinja_tmpl(path.read_text(), context, tmplpath=str(path))
        return salt.utils.yaml.safe_load(text) or {}

    return rendered


def declarations(system):
    packaged = systems.SYSTEMS[system].packaged
    for source, version in (("archive", "9.5"), ("pgdg", "9.5"), ("pgdg", "17"), ("distribution", packaged)):
        if version:
            yield f"{source} {version}", dict(PILLAR, source=source, version=version)


def laid_out(section, system):
    grains = {"mem_total": 4096, "num_cpus": 4, "osarch": "x86_64", **GRAINS[system]}
    try:
        return dict(pillar.read(section, grains, ["192.0.2.7/24"]), mistakes=None)
    except InvalidPillar as error:
        return {"mistakes": str(error)}


def check_requisites(states, includes):
    """Every requisite names a state that is there."""
    there = {(function.partition(".")[0], key) for key, body in states.items() for function in body}
    for key, body in states.items():
        for arguments in body.values():
            for argument in arguments:
                for requisite in ("require", "watch", "require_in"):
                    for wanted in argument.get(requisite, []) if isinstance(argument, dict) else []:
                        assert set(wanted.items()) <= there, (key, wanted)


@pytest.mark.parametrize("system", systems.SYSTEMS)
def test_rendered(render, system):
    found = {}
    for name, section in declarations(system):
        layout = laid_out(section, system)
        rendered = {sls: render(layout, sls) for sls in SLS}
        if layout["mistakes"]:
            found[name] = {"refused": layout["mistakes"]}
            assert list(rendered["supported"]) == ["the pillar postgresql"]
            assert not any(set(rendered[sls]) - {"include"} for sls in SLS[1:-1])
            continue
        # What an SLS includes is rendered with it, and nothing else.
        wanted = ["supported", "programs", "cluster", "service", "objects", "backup"]
        wanted += {"archive": ["archive"], "pgdg": ["repository"], "distribution": []}[section["source"]]
        states = {key: body for sls in wanted for key, body in rendered[sls].items() if key != "include"}
        check_requisites(states, wanted)
        check_requisites(rendered["clean"], [])
        assert "never shown" not in json.dumps([rendered, layout])
        places = {key: layout[key] for key in ("bin_dir", "data_dir", "conf_dir", "service", "packages", "initdb", "repository", "ended")}
        found[name] = {"places": places, "states": states, "clean": rendered["clean"]}
    path = KEPT / f"{system.replace(' ', '-')}.json"
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if os.environ.get("RENEW_RENDERED"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, "RENEW_RENDERED=1 writes the kept files anew; then look at their difference"
