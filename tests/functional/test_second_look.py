"""These states look again after they have written: what another client undoes between the write and that look is no success.

Not among them are those whose work nobody undoes so quickly (flattened, purged, retained, rolled_back, and the two that format); the way
through converge.converge is theirs as well, and tests/unit/test_converge.py shows it.
"""

import uuid

import pytest
from saltrbd import converge
from saltrbd.run import run


@pytest.fixture
def undone(monkeypatch):
    """Let something happen after a state's last step, before its second look: ``undone(lambda: rbd_cli("rm", spec))``."""

    def arrange(step):
        look = converge._second_look

        def undo_and_look(*args):
            monkeypatch.setattr(converge, "_second_look", look)
            step()
            return look(*args)

        monkeypatch.setattr(converge, "_second_look", undo_and_look)

    return arrange


@pytest.fixture
def not_confirmed(states, undone):
    """Run a state whose work is undone at once: it fails and tells of no change; let alone, it succeeds."""

    def check(function, *args, undo, **kwargs):
        module, _, name = function.partition(".")
        state = getattr(getattr(states, module), name)
        assert state(*args, test=True, **kwargs).result is None
        undone(undo)
        ran = state(*args, **kwargs)
        assert ran.result is False and ran.changes == {}, (ran.result, ran.changes, ran.comment)
        assert "A second look does not confirm the change: " in ran.comment
        again = state(*args, **kwargs)
        assert again.result is True and again.changes, again.comment
        return ran.comment

    return check


def test_an_image(spec, rbd_cli, not_confirmed):
    told = not_confirmed("rbd_image.present", spec, size="8M", undo=lambda: rbd_cli("rm", "--no-progress", spec))
    assert f"still to change {spec} (image: present" in told
    shrink = ["resize", "--no-progress", "--allow-shrink", "--size", "8M", spec]
    assert f"still to change {spec} (size: 8M to 16M)" in not_confirmed(
        "rbd_image.present", spec, size="16M", undo=lambda: rbd_cli(*shrink)
    )
    not_confirmed("rbd_image.present", spec, metadata={"a": "b"}, undo=lambda: rbd_cli("image-meta", "rm", spec, "a"))
    features = ["layering", "exclusive-lock"]
    not_confirmed(
        "rbd_image.present", spec, features=[*features, "deep-flatten"], undo=lambda: rbd_cli("feature", "enable", spec, "object-map")
    )


def test_an_image_that_goes(spec, rbd_cli, not_confirmed):
    rbd_cli("create", spec, "--size", "8M")
    identity = rbd_cli.json("info", spec)["id"]
    pool = spec.partition("/")[0]
    not_confirmed("rbd_image.absent", spec, undo=lambda: rbd_cli("trash", "restore", f"{pool}/{identity}"))


def test_snapshots_and_clones(spec, rbd_cli, not_confirmed):
    rbd_cli("create", spec, "--size", "8M")
    snapshot = f"{spec}@s"
    not_confirmed("rbd_snapshot.present", snapshot, undo=lambda: rbd_cli("snap", "rm", "--no-progress", snapshot))
    not_confirmed("rbd_snapshot.protected", snapshot, undo=lambda: rbd_cli("snap", "unprotect", snapshot))
    not_confirmed("rbd_clone.present", f"{spec}c", parent=snapshot, undo=lambda: rbd_cli("rm", "--no-progress", f"{spec}c"))
    rbd_cli("rm", "--no-progress", f"{spec}c")
    not_confirmed("rbd_snapshot.unprotected", snapshot, undo=lambda: rbd_cli("snap", "protect", snapshot))
    not_confirmed("rbd_snapshot.absent", snapshot, undo=lambda: rbd_cli("snap", "create", "--no-progress", snapshot))


def test_a_namespace(pool, rbd_cli, not_confirmed):
    not_confirmed("rbd_namespace.present", f"{pool}/gone", undo=lambda: rbd_cli("namespace", "remove", f"{pool}/gone"))
    not_confirmed("rbd_namespace.absent", f"{pool}/gone", undo=lambda: rbd_cli("namespace", "create", f"{pool}/gone"))


def test_a_device_and_a_mount(spec, rbd_cli, modules, not_confirmed, tmp_path):
    rbd_cli("create", spec, "--size", "64M")
    point = str(tmp_path / "mnt")
    not_confirmed("rbd_device.mapped", spec, persist=False, undo=lambda: modules.rbd_device.unmap(spec))
    modules.rbd_filesystem.format(spec, fs_type="ext4")
    not_confirmed("rbd_filesystem.mounted", point, image=spec, persist=False, undo=lambda: run(["umount", point], 30))
    device = modules.rbd_device.info(spec)["device"]
    not_confirmed("rbd_filesystem.unmounted", point, undo=lambda: run(["mount", device, point], 30))
    not_confirmed("rbd_device.unmapped", spec, undo=lambda: modules.rbd_device.map(spec, persist=False))


def test_another_name(spec, rbd_cli, not_confirmed):
    rbd_cli("create", spec, "--size", "8M")
    not_confirmed("rbd_image.renamed", f"{spec}n", old_name=spec, undo=lambda: rbd_cli("rename", f"{spec}n", spec))


def test_a_client_that_is_locked_out(modules, not_confirmed):
    address = f"192.0.2.7:0/{uuid.uuid4().int % 10**9 + 1}"
    not_confirmed("rbd_device.fenced", address, seconds=600, undo=lambda: modules.rbd_device.unfence(address))
    not_confirmed("rbd_device.unfenced", address, undo=lambda: modules.rbd_device.fence(address, seconds=600))
