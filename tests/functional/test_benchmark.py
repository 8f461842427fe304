"""The speed that README.md publishes stands in the rows and columns that benchmarks/volumes.py measures on the real cluster.

How fast it is here shows nothing: the published figures are of another machine.
"""

import os
import re
import subprocess
import sys

import pytest

COUNT = 2


def rows_of(text):
    """The tables of a text as {first cell: [the others]}."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


@pytest.mark.timeout(300)
def test_the_published_rows_are_those_that_are_measured(repo, cluster):
    published = (repo / "README.md").read_text().partition("## Speed")[2].partition("## ")[0]
    argv = [sys.executable, str(repo / "benchmarks/volumes.py"), "--count", str(COUNT), "--rounds", "1"]
    env = {**os.environ, "CEPH_CONF": cluster.conf, "CEPH_KEYRING": cluster.keyring}
    env["CEPH_ARGS"] = f"--keyring {cluster.keyring}"
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=280, env=env).stdout
    theirs, ours = rows_of(published), rows_of(said)
    head = next(name for name in ours if name.endswith(" images"))
    assert head == f"{COUNT} images" and theirs.pop("200 images") == ours.pop(head)
    assert list(theirs) == list(ours)
    seconds = re.compile(r"([0-9.]+) s\b")
    for name in theirs:
        assert [bool(seconds.search(cell)) for cell in theirs[name]] == [bool(seconds.search(cell)) for cell in ours[name]], name
        # Two decimals: what is quick may be 0.00.
        assert all(float(number) >= 0 for cell in ours[name] for number in seconds.findall(cell)), name
    # Each ratio that is published is that of the seconds beside it.
    for name, cells in theirs.items():
        command, raw, package = (float(found.group(1)) if (found := seconds.search(cell)) else None for cell in cells[:3])
        for other, ratio in ((command, cells[3]), (raw, cells[4])):
            assert (ratio == "") == (other is None), name
            assert other is None or abs(other / package - float(ratio)) <= 0.05 + 0.02 * float(ratio), name
