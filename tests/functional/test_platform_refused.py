"""What is refused whatever the server is, and the state tree: on Debian's server alone."""

from pathlib import Path

import platform_checks
import pytest
from platform_server import AGENT, MAIL, NAME, PASSWORD, RBD

# Fixtures.
loaders, no_table, patient = platform_checks.loaders, platform_checks.no_table, platform_checks.patient
pillar, pool, server, table = platform_checks.pillar, platform_checks.pool, platform_checks.debian, platform_checks.table

OTHER = "11111111-2222-4333-8444-555555555555"


DEFECTS = {
    "agent user empty": (lambda found: found["platform"]["agent"].update(user=""), "$.agent.user is empty"),
    "agent user missing": (lambda found: found["platform"]["agent"].pop("user"), "$.agent.user is missing"),
    "unknown key": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(string="string"),
        "platform:settings:rbd[0]: unknown key 'string'",
    ),
    "fsType empty": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(fs_type=""),
        "$.config.fsType must be one of ext4, xfs, not ''",
    ),
    "ceph's empty": (lambda found: found["ceph"].update(fs_type=""), "$.config.fsType must be one of ext4, xfs, not ''"),
    "another pool": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(pool="tenx-pool"),
        "$.config.pool must be 'tenx-k8s', as in the pillar, not 'tenx-pool'",
    ),
    "calamariUrl": (
        lambda found: found["platform"]["settings"]["rbd"][0].update(calamari_url="120"),
        "$.calamariUrl must be HOST:PORT, such as 192.0.2.1:5000, not '120'",
    ),
    "monitor without port": (
        lambda found: found["ceph"].update(monitors=["192.168.0.11:6789", "192.168.0.12"]),
        "$.config.monitors[1] must be HOST:PORT, such as 192.0.2.1:5000, not '192.168.0.12'",
    ),
    "no monitors": (lambda found: found["ceph"].update(monitors=[]), "$.config.monitors is an empty list"),
    "keyring": (
        lambda found: found["ceph"].update(keyring="ceph.client.admin.keyring"),
        "$.config.keyring must be an absolute path, not 'ceph.client.admin.keyring'",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_refused_with_its_path(defect, states, refuses, pillar, table):
    states.platform_config.schema_present("table")
    table.put({"agent": {"user": "", "string": "string"}})
    before = table.all()
    how, said = DEFECTS[defect]
    pillar(how)
    comment = refuses("platform_config.present", RBD)
    assert said in comment
    assert AGENT not in comment
    assert table.all() == before


def test_all_defects_are_told_together(states, refuses, pillar):
    states.platform_config.schema_present("table")
    pillar(lambda found: (found["platform"]["agent"].update(user=""), found["ceph"].update(monitors=[], keyring="x", fs_type="")))
    comment = refuses("platform_config.present", RBD)
    assert [path in comment for path in ("$.agent.user", "$.config.monitors", "$.config.keyring", "$.config.fsType")] == [True] * 4


def test_a_row_that_is_not_declared(refuses, table):
    table.make()
    said = "platform:settings:rbd declares no row whose id or name is "
    assert said in refuses("platform_config.present", "nobody")
    assert said in refuses("platform_config.present", OTHER)
    assert said in refuses("platform_config.absent", "nobody")
    assert "config_type must be one of rbd, mail, not 'x'" in refuses("platform_config.present", "tenx", config_type="x")


def test_no_server(refuses, pillar, server):
    pillar(lambda found: found["platform"]["database"].update(port=1))
    for function in ("schema_present", "present", "absent"):
        comment = refuses(f"platform_config.{function}", "tenx")
        assert f"The database platform at 127.0.0.1:1 (user {NAME}) cannot be reached: " in comment
        assert PASSWORD not in comment


def test_a_wrong_password(refuses, pillar, modules, server):
    pillar(lambda found: found["platform"]["database"].update(password="WrongPassword2204"))
    comment = refuses("platform_config.schema_present", "table")
    assert "password authentication failed" in comment
    assert "It is the user and the password of platform:database" in comment
    assert "WrongPassword" not in comment + server.said()


@pytest.fixture
def tree(repo, loaders):
    """The state tree's platform beside the tests' own states."""
    folder = Path(loaders.opts["file_roots"]["base"][0])
    links = [folder / name for name in ("platform", "postgresql", "booted.jinja", "systems.jinja", "systems.yaml")]
    for link in links:
        link.symlink_to(repo / "salt" / link.name)
    yield
    for link in links:
        link.unlink()


def _apply(loaders, sls, test=False):
    ran = loaders.modules.state.apply(sls, test=test)
    assert not ran.failed, ran.errors
    return list(ran)


def test_the_state_tree(tree, loaders, table, server):
    predicted = _apply(loaders, "platform", test=True)
    assert [result.result for result in predicted] == [None, None, None], [result.comment for result in predicted]
    real = _apply(loaders, "platform")
    assert [result.result for result in real] == [True, True, True], [result.comment for result in real]
    assert [result.changes for result in predicted] == [result.changes for result in real]
    assert set(table.all()) == {("rbd", RBD), ("mail", MAIL)}
    for test in (True, False):
        assert [(result.result, result.changes) for result in _apply(loaders, "platform", test=test)] == [(True, {})] * 3
    table.put({}, identity=OTHER)
    assert [result.result for result in _apply(loaders, "platform.clean", test=True)] == [None, None]
    assert [result.result for result in _apply(loaders, "platform.clean")] == [True, True]
    assert [(result.result, result.changes) for result in _apply(loaders, "platform.clean")] == [(True, {})] * 2
    assert set(table.all()) == {("rbd", OTHER)}, "the table stays, and what is not declared"


@pytest.mark.parametrize("sls", ["platform", "platform.clean"])
def test_a_pillar_with_mistakes_is_refused_as_a_whole(tree, loaders, pillar, sls):
    pillar(lambda found: (found["platform"].update(databse={}), found["platform"]["settings"]["mail"][0].update(id=7)))
    for test in (True, False):
        (ran,) = _apply(loaders, sls, test)
        assert ran.result is False
        # The state is called by what it has to say.
        assert "platform: unknown key 'databse'" in ran.name
        assert "platform:settings:mail[0]:id must be a UUID" in ran.name
