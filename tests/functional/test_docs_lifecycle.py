"""How docs/lifecycle.md ends a volume is what ends one."""

import re

import pytest

MADE = """
{pool}/db:
  rbd_image.present: [{{size: 64M}}]
  rbd_device.mapped: []
  rbd_filesystem.formatted: [{{fs_type: ext4}}]
{folder}/db:
  rbd_filesystem.mounted: [{{image: {pool}/db}}]
{pool}/db@before-upgrade:
  rbd_snapshot.protected: []
{pool}/db-test:
  rbd_clone.present: [{{parent: {pool}/db@before-upgrade}}]
  rbd_device.mapped: []
{folder}/db-test:
  rbd_filesystem.mounted: [{{image: {pool}/db-test}}]
"""


@pytest.fixture
def end(repo, pool, tmp_path):
    """The page's SLS, on this file's pool and mount points."""
    text = (repo / "docs/lifecycle.md").read_text().partition("## A volume that is not wanted any more")[2]
    return re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1].replace("rbd/", f"{pool}/").replace("/mnt/", f"{tmp_path}/")


def test_a_volume_and_its_clone_are_ended(end, state_run, pool, tmp_path, table, rbd_cli):
    lines = table.read_bytes()
    made = state_run(MADE.format(pool=pool, folder=tmp_path))
    assert [ran.result for ran in made] == [True] * 8, [ran.comment for ran in made]
    assert table.read_bytes() != lines
    dry, real, again = state_run(end, test=True), state_run(end), state_run(end)
    assert [ran.result for ran in real] == [True] * 8, [ran.comment for ran in real]
    assert [ran.result for ran in dry] == [None] * 8
    assert [ran.changes for ran in dry] == [ran.changes for ran in real]
    assert [ran.changes for ran in again] == [{}] * 8
    assert (rbd_cli("ls", pool), table.read_bytes()) == ("", lines)
    assert [item["name"] for item in rbd_cli.json("trash", "ls", pool)] == ["db"]
