"""No filesystem is made over anything: what is refused, with the content unchanged, and what counts as blank."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from blank_checks import MB, SIGNATURES, TOOLS, size_of, tool, write
from saltrbd import blank, client, device_find, errors, settings
from saltrbd import spec as specs
from state_checks import both, refused


@pytest.fixture
def ceph(cluster, pool):
    """The client that the modules use."""
    values = {"conf": cluster.conf, "user": cluster.user, "keyring": cluster.keyring, "fsid": cluster.fsid, "pool": pool}
    found = client.get(settings.load({"id": "tests"}, {"ceph": values}))
    yield found
    found.close()


@pytest.fixture
def mapped(states, modules, rbd_cli, spec):
    """Create an image and map it: ``mapped("64M", "--stripe-unit", ...)``; returns (spec, device)."""

    def make(size="64M", *words, name=spec):
        rbd_cli("create", name, "--size", size, *words)
        assert states.rbd_device.mapped(name).result is True
        return name, modules.rbd_device.list()[name]["device"]

    return make


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_refused(name, states, mapped, digest):
    kind, size, make = SIGNATURES[name]
    spec, device = mapped(size)
    make(device)
    tool("blockdev", "--flushbufs", device)
    before = digest(spec)
    for fs_type in ("xfs", "ext4"):
        if fs_type == kind:
            continue
        said = refused(states.rbd_filesystem.formatted, spec, fs_type=fs_type)
        assert spec in said and kind in said and fs_type in said
    assert digest(spec) == before
    assert states.rbd_device.unmapped(spec).result is True
    # The dry run before the device is there reads the same through librbd.
    ran = [
        states.rbd_device.mapped(spec, test=True),
        states.rbd_filesystem.formatted(spec, fs_type="xfs" if kind != "xfs" else "ext4", test=True),
    ]
    assert ran[1].result is False


def refuses_data(states, spec, digest):
    before = digest(spec)
    said = refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    assert digest(spec) == before
    return said


def first_byte(said):
    return int(re.search(r"first at byte (\d+)", said).group(1))


def test_data_in_the_middle(states, mapped, digest):
    spec, device = mapped("512M")
    write(device, 200 * MB, b"data")
    said = refuses_data(states, spec, digest)
    assert 199 * MB <= first_byte(said) <= 200 * MB
    assert f"blkdiscard {device}" in said and "trash" in said


def test_data_in_the_last_sector(states, mapped, digest):
    spec, device = mapped("512M")
    write(device, 512 * MB - 512, b"x" * 512)
    assert first_byte(refuses_data(states, spec, digest)) >= 508 * MB


def test_written_zeros_count_as_data(states, mapped, digest, rbd_cli):
    spec, device = mapped()
    write(device, 8 * MB, bytes(MB))
    assert "Written zeros count as data" in refuses_data(states, spec, digest)


def test_written_and_not_yet_synced(states, mapped, digest):
    """librbd's diff is empty while the write is in the page cache of a device that somebody holds open."""
    spec, device = mapped()
    with open(device, "r+b", buffering=0) as file:
        file.seek(20 * MB)
        file.write(b"y" * 8192)
        said = refused(states.rbd_filesystem.formatted, spec, fs_type="ext4")
        assert f"pid {os.getpid()}" not in said  # our own process may look at it
    before = digest(spec)
    assert before != hashlib.sha256(bytes(64 * MB)).hexdigest()
    assert "first at byte" in said and digest(spec) == before


def test_another_process_has_the_device_open(states, mapped, digest):
    spec, device = mapped()
    with subprocess.Popen(["sleep", "60"], stdin=open(device, "rb")) as process:
        assert f"pid {process.pid} (sleep) has it open" in refuses_data(states, spec, digest)
        process.kill()
    assert both(states.rbd_filesystem.formatted, spec, fs_type="ext4").result is True


def test_a_clone_of_data(states, mapped, modules, rbd_cli, digest, spec):
    parent, device = mapped(name=spec + "p")
    write(device, 0, b"data of the parent")
    rbd_cli("snap", "create", parent + "@s")
    rbd_cli("snap", "protect", parent + "@s")
    rbd_cli("clone", parent + "@s", spec)
    assert states.rbd_device.mapped(spec).result is True
    assert f"it is a clone of {parent}@s" in refuses_data(states, spec, digest)
    rbd_cli("flatten", "--no-progress", spec)
    assert "librbd knows of data" in refuses_data(states, spec, digest)
    assert states.rbd_device.unmapped(spec).result is True


def roll_back(states, rbd_cli, spec, device, snapshot):
    tool("blockdev", "--flushbufs", device)
    assert states.rbd_device.unmapped(spec).result is True
    rbd_cli("snap", "rollback", "--no-progress", f"{spec}@{snapshot}")
    assert states.rbd_device.mapped(spec).result is True


def test_rolled_back(states, mapped, rbd_cli, digest):
    spec, device = mapped()
    write(device, 4 * MB, b"data")
    rbd_cli("snap", "create", spec + "@data")
    tool("blkdiscard", device)
    roll_back(states, rbd_cli, spec, device, "data")
    assert "librbd knows of data" in refuses_data(states, spec, digest)


def test_an_unreadable_device(states, modules, mapped, digest):
    spec, device = mapped()
    os.kill(modules.rbd_device.list()[spec]["pid"], signal.SIGKILL)
    time.sleep(0.5)
    for test in (True, False):
        found = states.rbd_filesystem.formatted(spec, fs_type="ext4", test=test)
        assert (found.result, found.changes) == (False, {})
        assert "its daemon is dead" in found.comment
    assert digest(spec) == hashlib.sha256(bytes(64 * MB)).hexdigest()


def test_a_device_that_cannot_be_read_is_not_blank(states, mapped, ceph, monkeypatch):
    """The proof itself, on a device that answers with errors: blkid finds nothing there."""
    spec, device = mapped()
    mapping = device_find.mapped(ceph, specs.parse(spec))
    os.kill(mapping.pid, signal.SIGKILL)
    while device_find.find(ceph, specs.parse(spec)).fault is None:
        time.sleep(0.1)
    assert subprocess.run([shutil.which("blkid", path=TOOLS), "-p", device], check=False, capture_output=True).returncode == 2
    with pytest.raises(errors.NotBlank, match="does not serve that image any more"):
        blank.prove(ceph, mapping)
    monkeypatch.setattr(device_find, "is_there", lambda mapping: True)  # a fake: the daemon dies after that look
    with pytest.raises(errors.NotBlank, match="Input/output error"):
        blank.prove(ceph, mapping)


def test_another_user_of_the_image(states, mapped, cluster, digest):
    spec, _ = mapped()
    pool, _, name = spec.partition("/")
    hold = (
        "import rados, rbd, sys\n"
        "cluster = rados.Rados(conffile=sys.argv[1], name='client.' + sys.argv[2], conf={'keyring': sys.argv[3]})\n"
        "cluster.connect()\n"
        "with cluster.open_ioctx(sys.argv[4]) as ioctx, rbd.Image(ioctx, sys.argv[5]) as image:\n"
        "    print(cluster.get_instance_id(), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    argv = ["/usr/bin/python3", "-c", hold, cluster.conf, cluster.user, cluster.keyring, pool, name]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        number = process.stdout.readline().strip()
        said = refuses_data(states, spec, digest)
        process.stdin.close()
    assert "it is in use by 127.0.0.1:0/" in said and f"(client.{number}, host tests)" in said
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_a_mapping_that_others_may_write_too(states, rbd_cli, spec, digest):
    rbd_cli("create", spec, "--size", "64M")
    assert states.rbd_device.mapped(spec, exclusive=False).result is True
    assert "not mapped exclusively by this host" in refuses_data(states, spec, digest)


def test_a_mapping_that_cannot_write(states, rbd_cli, spec, digest):
    rbd_cli("create", spec, "--size", "64M")
    assert states.rbd_device.mapped(spec, read_only=True).result is True
    assert "mapped read-only" in refuses_data(states, spec, digest)


def test_an_image_that_was_shrunk_under_its_device(states, mapped, rbd_cli, digest):
    spec, _ = mapped()
    rbd_cli("resize", "--no-progress", "--allow-shrink", "--size", "32M", spec)
    assert "the device has 64M, the image 32M" in refuses_data(states, spec, digest)


# What counts as blank.


def discarded(device):
    write(device, 0, os.urandom(MB))
    write(device, 40 * MB, os.urandom(MB))
    tool("blkdiscard", device)


def test_fresh(states, mapped):
    spec, device = mapped()
    result = both(states.rbd_filesystem.formatted, spec, fs_type="ext4", label="fresh")
    assert result.changes == {spec: {"filesystem": {"old": None, "new": "ext4"}, "label": {"old": None, "new": "fresh"}}}
    assert b'LABEL="fresh"' in tool("blkid", "-p", device)


def test_discarded_everywhere(states, mapped, rbd_cli):
    spec, device = mapped()
    discarded(device)
    assert both(states.rbd_filesystem.formatted, spec, fs_type="ext4").result is True


def test_a_map_that_is_not_valid_is_not_trusted(states, mapped, rbd_cli, modules, digest):
    """Object map and fast-diff that are enabled again know of nothing until they are rebuilt."""
    spec, device = mapped()
    write(device, 20 * MB, b"data")
    rbd_cli("feature", "disable", spec, "object-map,fast-diff")
    rbd_cli("feature", "enable", spec, "object-map,fast-diff")
    assert modules.rbd_image.info(spec)["flags"]
    assert "librbd knows of data" in refuses_data(states, spec, digest)
    tool("blkdiscard", device)
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_shrunk_and_grown_after_a_discard(states, mapped, rbd_cli):
    spec, device = mapped()
    discarded(device)
    assert states.rbd_device.unmapped(spec).result is True
    rbd_cli("resize", "--no-progress", "--allow-shrink", "--size", "32M", spec)
    rbd_cli("resize", "--no-progress", "--size", "96M", spec)
    assert states.rbd_device.mapped(spec).result is True
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_rolled_back_to_nothing(states, mapped, rbd_cli, digest):
    spec, device = mapped()
    rbd_cli("snap", "create", spec + "@nothing")
    write(device, 4 * MB, b"data")
    roll_back(states, rbd_cli, spec, device, "nothing")
    assert digest(spec) == hashlib.sha256(bytes(64 * MB)).hexdigest()
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_grown_since_it_was_mapped(states, mapped, rbd_cli):
    spec, device = mapped()
    rbd_cli("resize", "--no-progress", "--size", "96M", spec)
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")
    assert size_of(device) == 96 * MB


def test_striped(states, mapped):
    spec, _ = mapped("64M", "--object-size", "1M", "--stripe-unit", "64K", "--stripe-count", "4")
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_a_data_pool(states, mapped, make_pool):
    spec, _ = mapped("64M", "--data-pool", make_pool())
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


def test_a_namespace(states, mapped, rbd_cli, pool):
    rbd_cli("namespace", "create", f"{pool}/volumes")
    spec, _ = mapped("64M", name=f"{pool}/volumes/data")
    both(states.rbd_filesystem.formatted, spec, fs_type="ext4")


# librbd counts whole objects: 512 flexible groups of ext4 touch one each. Zeroed inode tables would be 16 GiB more.
@pytest.mark.parametrize(("fs_type", "most"), [("ext4", 3 << 30), ("xfs", 300 * MB)])
def test_one_thin_tebibyte(fs_type, most, states, mapped, modules, spec, tmp_path):
    mapped("1T")
    began = time.monotonic()
    both(states.rbd_filesystem.formatted, spec, fs_type=fs_type)
    assert time.monotonic() - began < 60
    assert modules.rbd_image.info(spec, usage=True)["usage"]["used"] < most
    # The kernel must not fill it after the first mount either.
    assert states.rbd_filesystem.mounted(str(tmp_path / "m"), image=spec, persist=False).result is True
    time.sleep(2)
    assert states.rbd_filesystem.unmounted(str(tmp_path / "m")).result is True
    assert modules.rbd_image.info(spec, usage=True)["usage"]["used"] < most


def test_restored_from_the_trash(states, mapped, rbd_cli, spec, state_run):
    mapped()
    assert states.rbd_device.unmapped(spec).result is True
    rbd_cli("trash", "mv", spec)
    text = f"""
image:
  rbd_image.present:
    - name: {spec}
    - restore_from_trash: True
device:
  rbd_device.mapped:
    - name: {spec}
filesystem:
  rbd_filesystem.formatted:
    - name: {spec}
    - fs_type: ext4
"""
    dry, real = state_run(text, test=True), state_run(text)
    assert [result.result for result in dry] == [None] * 3, [result.comment for result in dry]
    assert [result.result for result in real] == [True] * 3, [result.comment for result in real]
    assert [result.changes for result in dry] == [result.changes for result in real]
    assert [result.changes for result in state_run(text)] == [{}] * 3


def test_what_comes_back_from_the_trash_with_data_is_refused_in_the_dry_run(states, mapped, rbd_cli, spec, state_run):
    _, device = mapped()
    write(device, 4 * MB, b"data")
    assert states.rbd_device.unmapped(spec).result is True
    rbd_cli("trash", "mv", spec)
    text = f"""
image:
  rbd_image.present:
    - name: {spec}
    - restore_from_trash: True
device:
  rbd_device.mapped:
    - name: {spec}
filesystem:
  rbd_filesystem.formatted:
    - name: {spec}
    - fs_type: ext4
"""
    for test in (True, False):
        results = state_run(text, test=test)
        assert results[2].result is False and "librbd knows of data" in results[2].comment
