"""What lies in the trash counts: a parent there is a parent, and no other image is taken for it."""

import pytest
from saltrbd import device_plan, kernel


@pytest.fixture
def line(spec, rbd_cli):
    """A clone of a clone; the first parent lies in the trash, and another image has its name and its snapshot's: the clone's spec."""
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock,journaling")
    rbd_cli("snap", "create", "--no-progress", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}-1", "--image-feature", "layering")
    rbd_cli("snap", "create", "--no-progress", f"{spec}-1@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}-1@s", f"{spec}-2", "--image-feature", "layering")
    rbd_cli("trash", "mv", spec)
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering")
    rbd_cli("snap", "create", "--no-progress", f"{spec}@s")
    return f"{spec}-2"


def test_parents_for_the_kernel(line, spec, modules, ceph):
    """The kernel opens every parent by its id, and cannot map one with journaling."""
    found = device_plan._parents(ceph, modules.rbd_image.info(line), {})
    assert [(str(above), "journaling" in names) for above, names in found] == [(f"{spec}-1", False), (spec, True)]
    assert "journaling" in kernel.parents_refusal(line, found, ["layering", "exclusive-lock", "operations"])


def test_another_image_of_the_parents_name_is_not_the_parent(line, spec, refuses, unchanged, rbd_cli):
    told = refuses("rbd_clone.present", f"{spec}-1", parent=f"{spec}@s")
    assert f"{spec}-1 is a clone of an image that was called {spec}" in told
    rbd_cli("snap", "rm", "--no-progress", f"{spec}@s")
    rbd_cli("rm", "--no-progress", spec)
    unchanged("rbd_clone.present", f"{spec}-1", parent=f"{spec}@s")


def test_the_tree(line, spec, modules):
    text = modules.rbd_image.tree(spec.split("/")[0]).splitlines()
    (at,) = [number for number, found in enumerate(text) if found.startswith(f"{spec}-1  ")]
    assert f"clone of format 2 of {spec}@s in the trash (id " in text[at]
    assert text[at + 2].startswith(f"    {line}  8M, clone of format 2")


def test_a_clone_in_the_trash_keeps_its_parent(line, spec, refuses, rbd_cli):
    rbd_cli("trash", "mv", line)
    assert f"the clone {line} (in the trash, id " in refuses("rbd_image.absent", f"{spec}-1")
    assert f"{line} (in the trash, id " in refuses("rbd_snapshot.absent", f"{spec}-1@s")
