"""The site in containers, by the host's kernel: its volumes are mapped by what that kernel has. One story, in the tests' order."""

import lab_checks
import pytest


@pytest.fixture(scope="module")
def lab(begin):
    """A management host and three Ceph nodes."""
    return begin("lxc", 3)


def test_up(lab):
    lab_checks.keys_are_preseeded(lab)
    lab_checks.is_whole(lab)
    lab_checks.changes_nothing(lab)


def test_provision_again_changes_nothing(lab):
    said = lab.vagrant("provision")
    for sentence in ("written:", "The master knows", "is installed in", "is written to"):
        assert sentence not in said, said
    lab_checks.changes_nothing(lab)


def test_reload(lab):
    lab.vagrant("reload")
    lab_checks.is_whole(lab)
    lab_checks.changes_nothing(lab)


def test_destroy(lab):
    lab_checks.leaves_nothing(lab)
