"""salt/orch/site.sls applies what salt/top.sls does, to the same minions, in the order that the stages have."""

import fnmatch

import jinja2
import pytest
import yaml


@pytest.fixture(scope="module")
def stages(repo):
    """(targets, names of states) of each stage, in their order."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["yaml_dquote"] = lambda text: '"' + text.replace('"', '\\"') + '"'
    environment.filters["json"] = jinja2.filters.do_tojson
    environment.tests["match"] = lambda text, start: text.startswith(start)
    data = yaml.safe_load(environment.from_string((repo / "salt/orch/site.sls").read_text()).render())
    found = []
    for name, body in data.items():
        if "salt.state" in body:
            options = {key: value for row in body["salt.state"] for key, value in row.items()}
            assert options["failhard"] is True, name
            found.append((options["tgt"].split(" or "), options["sls"]))
    return found


@pytest.mark.parametrize("minion", ["management", "node1"])
def test_the_same_as_the_top_file(repo, stages, minion):
    top = yaml.safe_load((repo / "salt/top.sls").read_text())["base"]
    wanted = [name for target, names in top.items() if fnmatch.fnmatch(minion, target) for name in names]
    applied = [name for targets, names in stages if any(fnmatch.fnmatch(minion, target) for target in targets) for name in names]
    assert sorted(applied) == sorted(wanted)


def test_the_order(stages):
    order = [name for _, names in stages for name in names]
    assert list(dict.fromkeys(order)) == ["ceph", "postgresql", "salt_master", "salt_api", "salt_minion", "rbd", "graphite", "diamond"]
