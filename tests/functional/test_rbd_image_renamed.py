"""rbd_image.renamed, and images that were renamed while they were mapped: on the real cluster, dry and for real."""

from pathlib import Path

import pytest
from saltrbd import fstab


@pytest.fixture
def new(spec):
    return f"{spec}-new"


def renamed(old, new, **more):
    return {new: {"name": {"old": old, "new": new}, **more}}


def test_renamed(spec, new, converges, unchanged, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    identity = rbd_cli.json("info", spec)["id"]
    rbd_cli("snap", "create", "--no-progress", f"{spec}@s")
    rbd_cli("snap", "protect", f"{spec}@s")
    for number in ("1", "2"):
        rbd_cli("clone", "--rbd-default-clone-format", number, f"{spec}@s", f"{spec}-c{number}")
    assert converges("rbd_image.renamed", new, old_name=spec).changes == renamed(spec, new)
    assert rbd_cli.json("info", new)["id"] == identity
    assert spec.split("/")[1] not in rbd_cli.json("ls", spec.split("/")[0])
    for number in (1, 2):
        assert rbd_cli.json("info", f"{spec}-c{number}")["parent"]["image"] == new.split("/")[1]
        unchanged("rbd_clone.present", f"{spec}-c{number}", parent=f"{new}@s", clone_format=number)
    assert "not of" in refuses("rbd_clone.present", f"{spec}-c1", parent=f"{spec}@s")


def test_in_a_namespace(other_pool, converges, rbd_cli):
    rbd_cli("create", f"{other_pool}/n/one", "--size", "8M")
    converges("rbd_image.renamed", f"{other_pool}/n/two", old_name=f"{other_pool}/n/one")
    assert rbd_cli.json("ls", f"{other_pool}/n") == ["two"]


def test_refused(spec, new, other_pool, refuses, modules, rbd_cli):
    assert refuses("rbd_image.renamed", new, old_name=spec) == f"Neither {spec} nor {new} exists, so nothing can be renamed."
    for name in (spec, new):
        rbd_cli("create", name, "--size", "8M")
    assert refuses("rbd_image.renamed", new, old_name=spec) == f"{spec} is not renamed, because {new} exists too."
    with pytest.raises(Exception, match="exists too"):
        modules.rbd_image.rename(spec, new)
    assert "are the same" in refuses("rbd_image.renamed", spec, old_name=spec)
    assert "keeps its pool and namespace" in refuses("rbd_image.renamed", f"{other_pool}/x", old_name=spec)
    rbd_cli("rm", "--no-progress", new)
    identity = rbd_cli.json("info", spec)["id"]
    rbd_cli("trash", "mv", spec)
    assert f"An image {spec} lies in the trash (id {identity})" in refuses("rbd_image.renamed", new, old_name=spec)


def test_users_are_in_the_way(spec, new, held, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    client = held(spec)
    assert f"(client.{client}, host tests)" in refuses("rbd_image.renamed", new, old_name=spec)
    held.let_go()
    converges("rbd_image.renamed", new, old_name=spec)


AT_ONCE = """
no mount, its line stays:
  rbd_filesystem.unmounted:
    - name: {point}
    - persist: True
no device:
  rbd_device.unmapped:
    - name: {old}
another name:
  rbd_image.renamed:
    - name: {new}
    - old_name: {old}
the same image:
  rbd_image.present:
    - name: {new}
    - size: 64M
a device again:
  rbd_device.mapped:
    - name: {new}
    - driver: {driver}
its clone:
  rbd_clone.present:
    - name: {old}-c
    - parent: {new}@s
mounted again:
  rbd_filesystem.mounted:
    - name: {point}
    - image: {new}
"""


def test_a_mapped_image_is_refused_until_it_is_unmapped(spec, new, states, state_run, refuses, rbd_cli, driver, tmp_path, table):
    point = tmp_path / "mnt"
    rbd_cli("create", spec, "--size", "64M")
    device = states.rbd_device.mapped(spec, driver=driver)
    assert device.result is True, device.comment
    assert states.rbd_filesystem.formatted(spec, fs_type="ext4").result is True
    assert states.rbd_filesystem.mounted(str(point), image=spec).result is True
    (point / "edit").write_text("edit1")
    told = refuses("rbd_image.renamed", new, old_name=spec)
    assert "In the way are: its device /dev/" in told
    assert "the lock 'saltrbd' held by the host tests" in told
    rbd_cli("snap", "create", "--no-progress", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}-c")
    text = AT_ONCE.format(old=spec, new=new, driver=driver, point=point)
    dry, real = state_run(text, test=True), state_run(text)
    assert [ran.comment for ran in real if ran.result is not True] == []
    assert [ran.changes for ran in dry] == [ran.changes for ran in real]
    assert [bool(ran.changes) for ran in real] == [True, True, True, False, True, False, True]
    assert set(real[2].changes[new]) == {"name", "fstab"}
    assert set(real[-1].changes[str(point)]) == {"mounted", "options"}
    assert (point / "edit").read_text() == "edit1"
    assert states.rbd_filesystem.unmounted(str(point)).result is True


def test_lines_in_fstab_follow(spec, new, states, converges, unchanged, rbd_cli, driver, tmp_path, table):
    point = tmp_path / "mnt"
    rbd_cli("create", spec, "--size", "64M")
    assert states.rbd_device.mapped(spec, driver=driver).result is True
    assert states.rbd_filesystem.formatted(spec, fs_type="ext4").result is True
    assert states.rbd_filesystem.mounted(str(point), image=spec, mount_options=["noatime"]).result is True
    (before,) = fstab.lines_for(table.read_bytes(), str(point))
    assert states.rbd_filesystem.unmounted(str(point), persist=True).result is True
    assert states.rbd_device.unmapped(spec).result is True
    ran = converges("rbd_image.renamed", new, old_name=spec)
    (after,) = fstab.lines_for(table.read_bytes(), str(point))
    assert ran.changes == renamed(spec, new, fstab={"old": " ".join(before), "new": " ".join(after)})
    assert after.device == before.device.replace(spec.split("/")[1], new.split("/")[1])
    assert after.options.startswith("noatime,_netdev,nofail,x-systemd.requires=rbd-volume@")
    # On another host, which only has the line: there the image is renamed already.
    fstab.update(str(point), before)
    assert set(converges("rbd_image.renamed", new, old_name=spec).changes[new]) == {"fstab"}
    # What the states of the new name want is what is there.
    assert states.rbd_device.mapped(new, driver=driver).result is True
    ran = states.rbd_filesystem.mounted(str(point), image=new, mount_options=["noatime"])
    assert (ran.result, "fstab" in ran.changes[str(point)]) == (True, False), ran.comment
    unchanged("rbd_filesystem.mounted", str(point), image=new, mount_options=["noatime"])
    assert states.rbd_filesystem.unmounted(str(point)).result is True


def test_renamed_by_others_while_mapped(spec, new, states, modules, converges, rbd_cli, driver, tmp_path):
    """The daemon, or the kernel, goes on under the old name; the device is found by the image's id."""
    rbd_cli("create", spec, "--size", "64M")
    assert states.rbd_device.mapped(spec, driver=driver).result is True
    device = modules.rbd_device.info(spec)["device"]
    Path(device).write_bytes(b"before" * 100)
    rbd_cli("rename", spec, new)
    ran = converges("rbd_device.mapped", new, driver=driver)
    assert "link" in ran.changes[new]
    shown = modules.rbd_device.info(new)
    assert (shown["device"], shown["fault"]) == (device, None)
    Path(device).write_bytes(b"after" * 100)
    converges("rbd_device.unmapped", new)
    rbd_cli("export", "--no-progress", new, str(tmp_path / "image"))
    assert (tmp_path / "image").read_bytes()[:10] == b"afterafter"
