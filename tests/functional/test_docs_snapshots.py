"""What docs/snapshots.md shows runs as it stands there."""

import re

import pytest

SHOWN = ("db", "logs", "db-test")


@pytest.fixture(scope="module")
def shown(pool, repo, rbd_cli):
    """The page's SLS blocks, on this file's pool, with the images that they name."""
    for name in SHOWN[:2]:
        rbd_cli("create", f"{pool}/{name}", "--size", "8M")
    rbd_cli("snap", "create", f"{pool}/db@before-upgrade")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{pool}/db@before-upgrade", f"{pool}/db-test")
    text = (repo / "docs/snapshots.md").read_text()
    return [block.replace("rbd/", f"{pool}/") for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def test_every_sls_runs_dry_and_real_and_twice(shown, state_run):
    assert len(shown) == 4
    changed = set()
    for block in shown:
        dry, real, again = state_run(block, test=True), state_run(block), state_run(block)
        assert [ran.result for ran in real] == [True] * len(real), real[0].comment
        assert [ran.changes for ran in dry] == [ran.changes for ran in real]
        assert [ran.changes for ran in again] == [{}] * len(real)
        changed |= {ran.state_id.split("_|-")[1] for ran in real if ran.changes}
    assert changed == {"tonight's snapshot", "the copy stands alone"}
