"""What is quoted of a check that found damage."""

from saltrbd import fscheck
from saltrbd.run import Result


def test_the_same_damage_reads_the_same():
    lines = [
        "        - agno = {}",
        "Inode allocation btrees are too corrupted, skipping phases 6 and 7",
        "        - agno = {}",
        "No modify flag set.",
    ]
    said = {fscheck._last("xfs_repair", Result(1, "\n".join(lines).format(*order), "")) for order in ((0, 1), (1, 0))}
    assert said == {
        "xfs_repair ended with code 1: Inode allocation btrees are too corrupted, skipping phases 6 and 7 / No modify flag set."
    }
