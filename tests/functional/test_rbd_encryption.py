"""Encrypted images, end to end: format, open, mount, grow, clone; each refusal; the plain text is nowhere."""

import logging
import os
from pathlib import Path

import pytest
from image_checks import MIRROR
from luks_checks import PASSPHRASES, key, loaders  # noqa: F401 -- the fixture loaders
from state_checks import both, refused, unchanged

PLAIN = b"The quick brown fox is nowhere in the cluster. "


@pytest.fixture
def point(tmp_path):
    return str(tmp_path / "new" / "point")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["luks2", "luks1"])
def test_made_by_librbd_opened_and_read_again(kind, state_run, states, modules, rbd_cli, spec, point, objects):
    """The dry run on nothing predicts the whole run; what is written is not in any object; it is there again after unmapping."""
    text = f"""
volume:
  rbd_image.present: [{{name: {spec}}}, {{size: 64M}}]
encrypted:
  rbd_encryption.formatted: [{{name: {spec}}}, {{encryption: {{format: {kind}, pillar: 'keys:one'}}}}]
device:
  rbd_device.mapped: [{{name: {spec}}}, {{encryption: {{format: {kind}, pillar: [keys, one]}}}}, {{persist: False}}]
filesystem:
  rbd_filesystem.formatted: [{{name: {spec}}}, {{fs_type: ext4}}]
mount:
  rbd_filesystem.mounted: [{{name: {point}}}, {{image: {spec}}}, {{persist: False}}]
"""
    dry = state_run(text, test=True)
    assert [one.result for one in dry] == [None] * 5, [one.comment for one in dry]
    real = state_run(text)
    assert [one.result for one in real] == [True] * 5, [one.comment for one in real]
    assert [one.changes for one in dry] == [one.changes for one in real]
    assert real[1].changes == {spec: {"encryption": {"old": None, "new": kind}}}
    for test in (True, False):
        assert [(one.result, one.changes) for one in state_run(text, test=test)] == [(True, {})] * 5
    write(point + "/file", PLAIN * 40000)
    found = objects(spec)
    assert any(one.startswith(b"LUKS") for one in found) and sum(map(len, found)) > len(PLAIN) * 40000
    assert not any(PLAIN in one or b"lost+found" in one for one in found)
    both(states.rbd_filesystem.unmounted, point)
    both(states.rbd_device.unmapped, spec)
    assert modules.rbd_encryption.info(spec)["format"] == kind
    unchanged(states.rbd_encryption.formatted, spec, encryption=key("one", kind))
    other = "luks1" if kind == "luks2" else "luks2"
    assert f"is encrypted as {kind}, not {other}" in refused(states.rbd_encryption.formatted, spec, encryption=key("one", other))
    both(states.rbd_device.mapped, spec, encryption=key("one", kind), persist=False)
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    assert Path(point, "file").read_bytes() == PLAIN * 40000


def test_what_does_not_open(states, modules, encrypted, rbd_cli, spec):
    assert "does not exist" in refused(states.rbd_encryption.formatted, spec, encryption=key())
    encrypted()
    said = refused(states.rbd_device.mapped, spec, encryption=key("two"), persist=False)
    assert said == (
        f"The passphrase in the pillar keys:two does not open the LUKS header of {spec}. Put the one in with which it was encrypted."
    )
    assert modules.rbd_encryption.opens(spec, key()) is True
    assert modules.rbd_encryption.opens(spec, key("two")) is False
    said = refused(states.rbd_device.mapped, spec, encryption=key(), persist=True)
    assert "its passphrase is not kept on this node: declare persist: False" in said
    assert "is encrypted as luks2, not luks1" in refused(states.rbd_device.mapped, spec, encryption=key(kind="luks1"), persist=False)
    for name in ("empty", "nowhere"):
        said = refused(states.rbd_device.mapped, spec, encryption=key(name), persist=False)
        assert f"The pillar keys:{name}: the passphrase is missing" in said
    said = refused(states.rbd_device.mapped, spec, encryption="stray-secret", persist=False)
    assert "encryption must be a mapping" in said and "stray" not in said
    both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    assert "mapped behind its luks2 header, not as it is stored" in refused(states.rbd_device.mapped, spec, persist=False)
    both(states.rbd_device.unmapped, spec)
    both(states.rbd_device.mapped, spec, persist=False)
    said = refused(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    assert "mapped as it is stored, not behind its luks2 header" in said
    assert "carries crypto_LUKS" in refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_an_image_that_is_not_blank_is_never_encrypted(states, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    assert "carries no LUKS header" in refused(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    both(states.rbd_device.mapped, spec, persist=False)
    assert "it is mapped at /dev/" in refused(states.rbd_encryption.formatted, spec, encryption=key())
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    both(states.rbd_device.unmapped, spec)
    assert "librbd knows of data in it, first at byte 0, and it carries ext4" in refused(
        states.rbd_encryption.formatted, spec, encryption=key()
    )
    rbd_cli("snap", "create", f"{spec}@s")
    rbd_cli("clone", "--rbd-default-clone-format", "2", f"{spec}@s", f"{spec}c")
    assert "a clone is opened with its parent's passphrase" in refused(states.rbd_encryption.formatted, f"{spec}c", encryption=key())
    rbd_cli("create", f"{spec}s", "--size", "8M")
    assert "with its header it needs 17M or more" in refused(states.rbd_encryption.formatted, f"{spec}s", encryption=key())
    rbd_cli("create", f"{spec}j", "--size", "64M", "--image-feature", "layering,exclusive-lock,journaling")
    assert "feature journaling" in refused(states.rbd_encryption.formatted, f"{spec}j", encryption=key())


@pytest.mark.timeout(600)
def test_a_mirror_daemon_is_in_nobodys_way(states, modules, held, pool, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    rbd_cli("mirror", "pool", "enable", pool, "image")
    rbd_cli("mirror", "image", "enable", spec, "snapshot")
    number = held(spec, MIRROR)
    assert [str(found["client"]) for found in modules.rbd_device.users(spec)["mirrors"]] == [number]
    both(states.rbd_encryption.formatted, spec, encryption=key())
    assert [str(found["client"]) for found in modules.rbd_device.users(spec)["mirrors"]] == [number]


@pytest.mark.parametrize(("fs_type", "size"), [("ext4", 64), ("xfs", 360)])
def test_a_filesystem_behind_the_header_grows_and_is_cloned(
    fs_type, size, states, modules, encrypted, rbd_cli, spec, point, tmp_path, driver
):
    encrypted(size=size)
    both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    device = modules.rbd_device.info(spec)
    assert (device["encryption"], device["size"]) == ("luks2", (size - 16) << 20)
    both(states.rbd_filesystem.formatted, spec, fs_type=fs_type)
    assert "so that nothing mounts it at boot: declare persist: False" in refused(states.rbd_filesystem.mounted, point, image=spec)
    both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    write(point + "/file", PLAIN)
    if driver == "fuse" and fs_type == "ext4" and not modules.rbd_filesystem.mount_point(point)["can_grow"]:
        both(states.rbd_filesystem.unmounted, point)  # this host lacks the capability to grow a mounted one
    both(states.rbd_image.present, spec, size=f"{size + 64}M")
    result = both(states.rbd_filesystem.mounted, point, image=spec, persist=False)
    assert result.changes[point]["size"]["new"] == f"{size + 48}M"
    assert modules.rbd_device.info(spec)["size"] == (size + 48) << 20
    assert modules.rbd_image.info(spec)["size"] == (size + 64) << 20
    both(states.rbd_snapshot.protected, f"{spec}@s", consistency="filesystem")
    both(states.rbd_clone.present, f"{spec}c", parent=f"{spec}@s")
    assert "does not open the LUKS header" in refused(states.rbd_device.mapped, f"{spec}c", encryption=key("two"), persist=False)
    both(states.rbd_device.mapped, f"{spec}c", encryption=key(), persist=False)
    both(states.rbd_filesystem.mounted, f"{tmp_path}/clone", image=f"{spec}c", persist=False)
    assert Path(tmp_path, "clone", "file").read_bytes() == PLAIN
    both(states.rbd_device.mapped, f"{spec}@s", encryption=key(), persist=False)
    both(states.rbd_filesystem.mounted, f"{tmp_path}/snapshot", image=f"{spec}@s", persist=False)
    assert Path(tmp_path, "snapshot", "file").read_bytes() == PLAIN


def test_only_behind_a_header_of_our_own_is_an_image_blank(states, encrypted, spec):
    encrypted(ours=False)
    both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    assert "its LUKS header is none that rbd_encryption.formatted wrote" in refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    encrypted(f"{spec}b", size=40)
    both(states.rbd_device.mapped, f"{spec}b", encryption=key(), persist=False)
    device = os.path.realpath(states.rbd_device.mapped(f"{spec}b", encryption=key(), persist=False).comment and _device(f"{spec}b"))
    with open(device, "r+b", buffering=0) as file:
        file.seek(9 << 20)
        file.write(b"somebody's")
        os.fsync(file.fileno())
    assert "librbd knows of data in it, first at byte 2" in refused(states.rbd_filesystem.formatted, f"{spec}b", fs_type="ext4")


BEHIND = """
device:
  rbd_device.mapped: [{{name: {spec}}}, {{encryption: {{pillar: 'keys:one'}}}}, {{persist: False}}]
filesystem:
  rbd_filesystem.formatted: [{{name: {spec}}}, {{fs_type: ext4}}]
"""


@pytest.mark.parametrize("features", ["layering", "layering,exclusive-lock,object-map,fast-diff"])
def test_the_dry_run_looks_behind_a_header_that_is_not_open(features, state_run, states, encrypted, rbd_cli, other_client, spec):
    """As after a run that ended between the header and the filesystem. librbd's diff by the map would show the header as data."""
    encrypted(features=features)
    dry = state_run(BEHIND.format(spec=spec), test=True)
    assert [one.result for one in dry] == [None, None], [one.comment for one in dry]
    # Somebody's data at the very end of the image.
    other_client(spec, "image.write(b'data', (64 << 20) - 4)")
    dry = state_run(BEHIND.format(spec=spec), test=True)
    assert [one.result for one in dry] == [None, False] and "librbd knows of data in it, first at byte" in dry[1].comment
    real = state_run(BEHIND.format(spec=spec))
    assert [one.result for one in real] == [True, False] and "librbd knows of data in it, first at byte" in real[1].comment
    both(states.rbd_device.unmapped, spec)
    other_client(spec, "image.discard(60 << 20, 4 << 20)")
    dry, real = state_run(BEHIND.format(spec=spec), test=True), state_run(BEHIND.format(spec=spec))
    assert [one.result for one in real] == [True, True], [one.comment for one in real]
    assert [one.changes for one in dry] == [one.changes for one in real]


def test_the_dry_run_knows_a_header_of_somebody_else(state_run, encrypted, spec):
    encrypted(ours=False)
    for test in (True, False):
        ran = state_run(BEHIND.format(spec=spec), test=test)
        assert [one.result for one in ran] == [None if test else True, False]
        assert "its LUKS header is none that rbd_encryption.formatted wrote" in ran[1].comment


def _device(spec):
    from saltrbd import device_find

    return next(mapping.device for mapping in device_find.on_host() if str(mapping.spec) == spec)


def test_no_passphrase_is_left_anywhere(state_run, states, modules, encrypted, spec, caplog):
    caplog.set_level(logging.DEBUG)
    encrypted()
    text = f"it:\n  rbd_device.mapped: [{{name: {spec}}}, {{encryption: {{pillar: 'keys:one'}}}}, {{persist: False}}]\n"
    dry, refusal = state_run(text, test=True), state_run(text.replace("one", "two"))
    both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    secrets = [value.encode() for value in PASSPHRASES.values() if value]
    assert refusal[0].result is False and spec in caplog.text
    told = "".join(str(shown) for shown in (caplog.text, dry[0].full_return, refusal[0].full_return, modules.rbd_device.list()))
    assert not any(secret in told.encode() for secret in secrets)
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                content = (folder / name).read_bytes()
            except OSError:
                continue
            assert not any(secret in content for secret in secrets), folder
    for path in Path("/run/rbd-volumes").rglob("*"):
        if path.is_file() and path.name != "export":
            assert not any(secret in path.read_bytes() for secret in secrets), path
