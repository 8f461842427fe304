"""Every SLS rendered for every system of the map: as it is kept in tests/golden, and as Salt can run it."""

import importlib
import inspect
import json
import tempfile

import pytest
import yaml
from saltrbd.postgresql import systems

from labkit import golden

SLS = [golden.name_of(path) for paths in golden.sources() for path in paths]
STATES = [name for name in SLS if not name.startswith("pillar/") and name != "top"]


@pytest.fixture(scope="module")
def everything():
    return golden.everything()


def test_the_map(repo):
    known = yaml.safe_load((repo / "salt/systems.yaml").read_text())
    assert list(known) == list(golden.SUPPORTED) == list(systems.SYSTEMS)
    assert {name: systems.name(grains) for name, grains in golden.SYSTEMS.items()} == {name: name for name in golden.SYSTEMS}


def test_each_sls_has_its_file():
    assert sorted(golden.KEPT.rglob("*.yaml")) == sorted(map(golden.kept, SLS)), "python -m labkit.golden writes them"


@pytest.mark.parametrize("name", SLS)
def test_rendered(everything, name):
    kept = yaml.safe_load(golden.kept(name).read_text())
    # As JSON, so that the order of the states counts.
    assert json.dumps(kept, indent=1) == json.dumps(golden.grouped(everything[name]), indent=1), (
        "python -m labkit.golden writes the kept files anew; then look at their difference"
    )


def test_no_secret_and_no_path_of_this_machine(everything, repo):
    text = "".join(states for by in everything.values() for states in by.values())
    assert [secret for secret in (*golden.SECRETS, str(repo), tempfile.gettempdir()) if secret in text] == []


def included(everything, name, key):
    """Return what an SLS and all that it includes declare, each as (SLS, id, {function: arguments})."""
    seen, ahead, found = set(), [name], []
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        states = json.loads(everything[name][key])
        for other in states.pop("include", []):
            path = other.replace(".", "/")
            ahead.append(path if path in everything else f"{path}/init")
        found += [(name, identity, body if isinstance(body, dict) else {body: []}) for identity, body in states.items()]
    return found, {name[: -len("/init")] if name.endswith("/init") else name for name in seen}


REQUISITES = ("require", "require_in", "watch", "watch_in", "onchanges")


@pytest.mark.parametrize("name", STATES)
def test_requisites_and_ids(everything, name):
    """What a state waits for is declared with it; no id is declared twice."""
    # The demo is of the example pillar's volumes.
    for key in everything[name] if not name.startswith("demo/") else [("example", "Debian 12")]:
        found, files = included(everything, name, key)
        there = {(function.partition(".")[0], identity) for _, identity, body in found for function in body}
        there |= {("sls", file.replace("/", ".")) for file in files}
        # The state is found by its name too.
        there |= {
            (function.partition(".")[0], argument["name"])
            for _, _, body in found
            for function, arguments in body.items()
            for argument in arguments
            if isinstance(argument, dict) and "name" in argument
        }
        assert len({identity for _, identity, _ in found}) == len(found)
        for sls, identity, body in found:
            for argument in [argument for arguments in body.values() for argument in arguments]:
                for requisite in REQUISITES:
                    for wanted in argument.get(requisite, []) if isinstance(argument, dict) else []:
                        ((module, other),) = wanted.items()
                        assert (module, other.replace("[", "").replace("]", "")) in there, (key, sls, identity, wanted)


# States whose file has another name.
FILES = {"salt": "saltmod"}


def parameters(repo, function):
    """Return the parameters of a state function; None where it takes any."""
    module, _, name = function.partition(".")
    ours = repo / "_states" / f"{module}.py"
    loaded = golden.module(ours) if ours.exists() else importlib.import_module(f"salt.states.{FILES.get(module, module)}")
    found = inspect.signature(getattr(loaded, name)).parameters.values()
    return None if any(one.kind is one.VAR_KEYWORD for one in found) else {one.name for one in found}


def test_functions_and_their_arguments(everything, repo):
    from salt.state import STATE_INTERNAL_KEYWORDS

    used = {}
    for name in STATES:
        for states in everything[name].values():
            for body in json.loads(states).values():
                for function, arguments in body.items() if isinstance(body, dict) else []:
                    keys = [key for argument in arguments if isinstance(argument, dict) for key in argument]
                    used.setdefault(function, set()).update(keys)
    wrong = {}
    for function, keys in used.items():
        known = parameters(repo, function)
        wrong[function] = set() if known is None else keys - known - STATE_INTERNAL_KEYWORDS - {"name", "names"}
    assert {function: keys for function, keys in wrong.items() if keys} == {}
    assert {"rbd_image.present", "postgresql_server.configured", "pkg.installed"} <= set(used)


def test_salts_own_states_neither_format_nor_mount(everything):
    """They make a filesystem over another one, and may wait at a prompt; what is formatted and mounted here goes through rbd_filesystem."""
    used, words = set(), ""
    for name in STATES:
        for states in everything[name].values():
            words += states
            for body in json.loads(states).values():
                used |= set(body) if isinstance(body, dict) else set()
    assert {"rbd_filesystem.formatted", "rbd_filesystem.mounted"} <= used
    assert [function for function in used if function.split(".")[0] in ("blockdev", "mount", "lvm", "mdadm_raid", "partition")] == []
    assert not any(word in words for word in ("mkfs", "mke2fs", "fsfreeze"))


# What a clean twin leaves, and why.
DATA = {
    "/srv/one": "the pillar",
    "/srv/two": "the pillar",
    "/srv/site/pillar": "the pillar",
    "/srv/pillar": "the pillar",
    "/etc/salt": "keys",
    "/etc/salt/pki": "keys",
    "/etc/salt/pki/master": "keys",
    "/etc/salt/pki/minion": "keys",
    "/etc/salt/pki/api": "a key",
    "/var/cache/salt/master": "jobs",
    "/var/log/salt": "logs",
    "/var/backups/postgresql": "dumps",
    "/var/lib/postgresql/9.5": "the cluster; what is in it goes by postgresql_server.removed",
    "/etc/postgresql/9.5/main/start.conf": "the cluster's configuration",
    "/etc/postgresql/15/main/start.conf": "the cluster's configuration",
    "/etc/postgresql/17/main/start.conf": "the cluster's configuration",
    "/mnt/test0001/edit": "what an application would write",
    "/mnt/transcript/edit": "it goes with its volume",
}
WRITES = (
    "file.managed",
    "file.directory",
    "file.symlink",
    "file.serialize",
    "file.recurse",
    "salt_config.managed",
    "storage_agent.account",
)


def names(declared, functions):
    """Return what the states of these functions are about; ``declared`` as of ``included``."""
    found = set()
    for _, identity, body in declared:
        for function, arguments in body.items():
            given = {key: value for argument in arguments for key, value in argument.items()}
            if function in functions:
                found |= set(given.get("names") or [given.get("name", identity)])
    return found


# A part of the master's beside that of the nodes has a twin of its own.
CLEAN = {"init": "clean", "master": "master_clean"}
TWINS = [
    (name, case)
    for name in STATES
    if name.split("/")[1] in CLEAN
    for case, about in golden.cases("Debian 12", {}).items()
    if case != "mistakes" and name.startswith(about.only)
]


@pytest.mark.parametrize(("name", "case"), TWINS)
@pytest.mark.parametrize("system", ["Debian 12", "RHEL family 7"])
def test_a_clean_twin_takes_away_what_was_put_there(everything, name, case, system):
    key, (folder, part) = (case, system), name.split("/")
    (declared, _), (clean, _) = (included(everything, one, key) for one in (name, f"{folder}/{CLEAN[part]}"))
    gone = names(clean, ("file.absent",))
    left = {path for path in names(declared, WRITES) if not any(path == other or path.startswith(f"{other}/") for other in gone)}
    if folder.startswith("salt_") or folder in ("alerts", "demo", "platform", "storage_agent"):
        # What it includes has a twin of its own.
        left &= names([one for one in declared if one[0].startswith(f"{folder}/")], WRITES)
    assert left - set(DATA) == set()
    served = names([one for one in declared if one[0].startswith(f"{folder}/")], ("service.running",))
    assert served - names(clean, ("service.dead",)) == set()
