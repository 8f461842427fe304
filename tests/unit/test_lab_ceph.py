"""The lab's cluster: its pillar, what its states render to, and the site's pillar around it; ``./lab test nodes`` applies them."""

import base64
import json
import os
import re
import struct

import pytest
import yaml

from labkit import golden, lab_ceph, site_pillar
from labkit.commands import LabError
from labkit.home import REPO

STATES = REPO / "vagrant/salt/lab_ceph/init.sls"
THREE = {f"node{number}": f"192.168.56.{number + 10}" for number in (1, 2, 3)}
FACTS = {"management": "192.168.56.10", "network": "192.168.56.0/24", "osd": {"bytes": 2**33}, "nodes": THREE}


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """What the states of a node come to: ``render("node1", pillar)``, ``{(state, id): arguments}`` in their order."""
    renderer = golden.Renderer(tmp_path_factory.mktemp("minion"))

    def rendered(name, made):
        grains = {**golden.SUPPORTED["Debian 12"], "id": name}
        (data,) = renderer.render([STATES], grains, golden.Case({"lab_ceph": made})).values()
        found = {}
        for id_, states in data.items():
            for state, arguments in states.items():
                found[state, id_] = {key: value for one in arguments for key, value in one.items()}
        return found

    return rendered


def test_a_key_is_as_ceph_makes_them():
    made = {lab_ceph.key() for _ in range(5)}
    assert len(made) == 5
    for key in made:
        kind, _, _, length = struct.unpack("<hiih", base64.b64decode(key)[:12])
        assert (kind, length, len(base64.b64decode(key))) == (1, 16, 28)


@pytest.mark.parametrize(("nodes", "size", "min_size"), [(1, "1", "1"), (2, "2", "1"), (3, "3", "2"), (5, "3", "2")])
def test_copies(nodes, size, min_size):
    settings = lab_ceph.pillar({f"node{number}": "10.0.0.1" for number in range(nodes)}, {"bytes": 1})["settings"]
    assert (settings["osd_pool_default_size"], settings["osd_pool_default_min_size"]) == (size, min_size)


@pytest.mark.parametrize("osd", [{"bytes": 2**33}, {"device": "/dev/disk/by-id/virtio-osd"}])
def test_states(render, osd):
    made = lab_ceph.pillar(THREE, osd)
    told = render("node2", made)
    command = told["cmd.run", "the map of the monitors"]["name"]
    assert command.count("--addv") == 3 and f"--fsid {made['fsid']}" in command
    assert "--addv node2 [v2:192.168.56.12:3300,v1:192.168.56.12:6789]" in command
    assert told["cmd.run", "the OSD"]["name"].split()[1:] == [str(value) for value in osd.values()]
    assert (("file.managed", "/etc/systemd/system/ceph-osd@.service.d/lab.conf") in told) == ("device" in osd)
    assert ("service.running", "ceph-mon@node2") in told and ("service.running", "ceph-mgr@node2") in told
    # What runs a second time changes nothing: each command says by what it is seen that it was done.
    commands = [arguments for (state, _), arguments in told.items() if state == "cmd.run"]
    assert all({"creates", "unless"} & set(arguments) and "timeout" in arguments for arguments in commands[1:])
    # A state that is required is there.
    known = {(state.split(".")[0], id_) for state, id_ in told}
    for arguments in told.values():
        for one in arguments.get("require", []) + arguments.get("require_in", []):
            assert set(one.items()) <= known


def test_two_nodes_have_one_monitor(render):
    """So that the second one may fail: of two monitors neither decides alone, nor does one OSD alone call the other one dead."""
    made = lab_ceph.pillar({"node1": "10.0.0.1", "node2": "10.0.0.2"}, {"bytes": 2**33})
    assert made["monitors"] == {"node1": "10.0.0.1"}
    assert made["settings"]["mon_osd_min_down_reporters"] == "1"
    assert lab_ceph.facts(made)["monitors"] == ["10.0.0.1:6789"]
    first, second = (render(name, made) for name in made["nodes"])
    assert ("service.running", "ceph-mon@node1") in first
    assert not [id_ for _, id_ in second if "monitor" in id_ and "keyring" not in id_] and ("service.running", "ceph-mgr@node2") in second
    assert second["file.managed", "/etc/ceph/ceph.conf"]["contents"].endswith("mon_host = 10.0.0.1:6789\n")


def test_the_pool_is_the_first_nodes(render):
    made = lab_ceph.pillar(THREE, {"bytes": 2**33})
    assert [name for name in THREE if ("cmd.run", "the pool") in render(name, made)] == ["node1"]


def test_no_key_is_rendered(render):
    made = lab_ceph.pillar(THREE, {"bytes": 2**33})
    keys = re.findall(r"key = (\S+)", made["monitors_keyring"] + made["users_keyring"])
    assert len(keys) == 4
    text = str(render("node1", made))
    assert not [key for key in keys if key in text]


def test_another_minion_is_refused(render):
    told = render("management", lab_ceph.pillar(THREE, {"bytes": 2**33}))
    (arguments,) = told.values()
    assert arguments["name"] == "management is none of the nodes in lab_ceph:nodes: node1, node2, node3."


def test_the_pillar_is_written_once(tmp_path):
    folder = tmp_path / "site/pillar"
    assert site_pillar.write(FACTS, folder) is True
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(written) == {path.name for path in (REPO / "pillar").glob("*.sls")} | {"lab_ceph.sls"}
    pillar = {name: yaml.safe_load(text) for name, text in written.items()}
    cluster = pillar["lab_ceph.sls"]["lab_ceph"]
    assert "lab_ceph" in pillar["top.sls"]["base"]["node*"] and "lab_ceph" not in pillar["top.sls"]["base"]["management"]
    assert pillar["ceph.sls"]["ceph"]["fsid"] == cluster["fsid"]
    assert pillar["ceph.sls"]["ceph"]["monitors"] == [f"{address}:6789" for address in THREE.values()]
    assert pillar["ceph.sls"]["ceph"]["keyring_text"] == cluster["keyrings"]["volumes"]
    # Who is not to have them does not get the keys of the whole cluster.
    assert "allow *" not in "".join(text for name, text in written.items() if name != "lab_ceph.sls")
    assert pillar["graphite.sls"]["graphite"]["listen"] == "192.168.56.10"
    # The example's own are still there.
    assert pillar["rbd.sls"] == yaml.safe_load((REPO / "pillar/rbd.sls").read_text())
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in folder.iterdir())
    (folder / "rbd.sls").write_text("rbd: {}\n")
    assert site_pillar.write(FACTS, folder) is False
    assert {path.name: path.read_text() for path in folder.iterdir()} == {**written, "rbd.sls": "rbd: {}\n"}


def test_other_nodes_are_refused(tmp_path):
    site_pillar.write(FACTS, tmp_path)
    with pytest.raises(LabError, match=r"with the nodes node1 \(192\.168\.56\.11\).* and nodes\.yaml now has node1 \(10\.0\.3\.11\)\."):
        site_pillar.write({**FACTS, "nodes": {"node1": "10.0.3.11"}}, tmp_path)


def test_what_was_interrupted_is_made_anew(tmp_path):
    site_pillar.write(FACTS, tmp_path)
    before = json.loads((tmp_path / "ceph.sls").read_text())
    os.unlink(tmp_path / "lab_ceph.sls")
    assert site_pillar.write(FACTS, tmp_path) is True
    assert json.loads((tmp_path / "ceph.sls").read_text()) != before
