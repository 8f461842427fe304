"""What a format leaves that was killed, at each of its steps, and at a random moment; and images that shrink."""

import os
import shutil
import signal
import threading

import pytest
from luks_checks import MARK, PASSPHRASES, key, loaders  # noqa: F401 -- the fixture loaders
from state_checks import both, refused, unchanged
from worker_watch import chosen, start_salt, until, workers

from labkit import processes

# Each as the kill leaves it: which objects of the header are there. librbd writes them at once, in any order.
LEFT = {"the mark alone": range(4), "a part without its beginning": [0, 2], "a part with its beginning": [1, 3], "the whole header": []}


@pytest.fixture
def drop(cluster, rbd_cli):
    """Remove data objects of an image by number: ``drop(spec, [0, 1])``."""
    import subprocess

    def run(spec, numbers):
        argv = ["rados", "--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "-p", spec.split("/")[0], "rm"]
        prefix = rbd_cli.json("info", spec)["block_name_prefix"]
        for number in numbers:
            subprocess.run([*argv, f"{prefix}.{number:016x}"], check=True, timeout=60)

    return run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("left", LEFT)
def test_a_format_that_was_killed_is_done_again(left, states, modules, encrypted, drop, spec):
    encrypted(uuid_in_mark=False, passphrase="another passphrase")
    drop(spec, LEFT[left])
    result = both(states.rbd_encryption.formatted, spec, encryption=key())
    assert result.changes == {spec: {"encryption": {"old": "what a killed format left", "new": "luks2"}}}
    facts = modules.rbd_encryption.info(spec)
    assert facts["uuid"] == facts["mark"]["uuid"]
    assert modules.rbd_encryption.opens(spec, key()) is True


def test_data_is_never_taken_for_what_a_kill_left(states, modules, encrypted, drop, rbd_cli, spec):
    # Behind the header.
    encrypted(uuid_in_mark=False)
    both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    with open(modules.rbd_device.info(spec)["device"], "r+b", buffering=0) as file:
        file.write(b"somebody's")
        os.fsync(file.fileno())
    both(states.rbd_device.unmapped, spec)
    unchanged(states.rbd_encryption.formatted, spec, encryption=key())
    drop(spec, [0])
    assert "librbd knows of data in it, first at byte" in refused(states.rbd_encryption.formatted, spec, encryption=key())
    # A long time after the kill, without a header.
    other = encrypted(f"{spec}b", uuid_in_mark=False)
    drop(other, [0])
    mark = modules.rbd_image.info(other)["metadata"][MARK]
    rbd_cli("image-meta", "set", other, MARK, mark.replace('"time": ', '"time": 1, "was": '))
    assert "librbd knows of data in it, first at byte" in refused(states.rbd_encryption.formatted, other, encryption=key())
    # With a snapshot: the image may have been rolled back since, and the mark stays.
    third = encrypted(f"{spec}c", uuid_in_mark=False)
    drop(third, [0])
    rbd_cli("snap", "create", "--no-progress", f"{third}@s")
    assert "librbd knows of data in it, first at byte" in refused(states.rbd_encryption.formatted, third, encryption=key())


def marked(rbd_cli, spec):
    return MARK in (rbd_cli.json("image-meta", "list", spec) or {})


@pytest.mark.timeout(900)
def test_the_worker_is_killed_in_the_middle(states, modules, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    assert modules.rbd_encryption.info(spec)["format"] is None  # the worker runs
    mine = [pid for pid, parent in workers().items() if parent == os.getpid()]

    def kill():
        until(lambda: marked(rbd_cli, spec), 60, "the mark")
        for pid in mine:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    first = states.rbd_encryption.formatted(spec, encryption=key())
    killer.join()
    assert first.result is False and PASSPHRASES["one"] not in first.comment
    both(states.rbd_encryption.formatted, spec, encryption=key())


@pytest.mark.timeout(900)
def test_salt_is_killed_in_the_middle(states, rbd_cli, cluster, spec):
    rbd_cli("create", spec, "--size", "64M")
    code = (
        "from saltrbd import encryption, luks\n"
        f"encryption.format_image(ceph, spec.parse({spec!r}, '', ''), luks.Key('luks2', ('a',), 'lost with its process'))\n"
    )
    with start_salt(chosen(cluster), code) as salt:
        until(lambda: marked(rbd_cli, spec), 60, "the mark")
        salt.kill()
    # The watch of the dead one is shut out by its worker, or times out (31 s).
    until(lambda: not rbd_cli.json("status", spec)["watchers"], 60, "no watcher")
    both(states.rbd_encryption.formatted, spec, encryption=key())


# What Salt does as it is killed: the image is mapped and its header not open yet, or the header closed and the image still mapped.
CUT_OFF = {
    "mapped": "dmcrypt.open_ = die; device.map_image(ceph, image, 'krbd', key=luks.Key('luks2', ('keys', 'one'), {!r}))",
    "closed": "close = dmcrypt.close; dmcrypt.close = lambda *args: (close(*args), die()); device.unmap(ceph, image)",
}


@pytest.mark.parametrize("moment", CUT_OFF)
def test_salt_is_killed_between_the_device_and_its_header(moment, states, modules, encrypted, cluster, driver, spec):
    if driver != "krbd":
        pytest.skip(f"mapped by {driver}, which opens the header itself")
    encrypted()
    if moment == "closed":
        both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    head = f"import signal; from saltrbd import device, dmcrypt, luks; image = spec.parse({spec!r}, '', '')\n"
    head += "die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    with start_salt(chosen(cluster), head + CUT_OFF[moment].format(PASSPHRASES["one"])) as salt:
        assert salt.wait(timeout=60) == -signal.SIGKILL
    left = modules.rbd_device.list()[spec]
    assert left["encryption"] == "" and left["fault"] == "a run that was cut off left it without its LUKS header opened"
    both(states.rbd_device.mapped, spec, encryption=key(), persist=False)
    assert modules.rbd_device.list()[spec]["encryption"] == "luks2"
    both(states.rbd_device.unmapped, spec)


# Salt is killed when it has started rbd-nbd, without systemd, and rbd-nbd has not read the passphrase yet: first it opens the image.
STARTED = """
import signal, subprocess
from saltrbd import device, device_nbd, kernel, launch, luks
def start(argv, *_, **more):
    quiet = subprocess.DEVNULL
    print(subprocess.Popen(argv, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet).pid)
    os.kill(os.getpid(), signal.SIGKILL)
launch.start, kernel.load_module = start, lambda *_: None
image, key = spec.parse({spec!r}, '', ''), luks.Key('luks2', ('keys', 'one'), {passphrase!r})
facts = ceph.call('image_info', image)
options = [('quiesce', 'off')]
device_nbd.attach(device.Wanted(ceph, image, ceph.fsid, facts['id'], None, facts['features'], False, True, options, key))
"""


@pytest.mark.skipif(shutil.which("rbd-nbd") is None, reason="rbd-nbd is not installed")
def test_rbd_nbd_does_not_wait_for_the_passphrase_of_a_killed_salt(encrypted, cluster, rbd_cli, spec):
    """No kernel is needed: it fetches the passphrase before it looks for a device."""
    encrypted()
    with start_salt(chosen(cluster), STARTED.format(spec=spec, passphrase=PASSPHRASES["one"])) as salt:
        assert int(salt.stdout.readline())
        assert salt.wait(timeout=60) == -signal.SIGKILL
    try:
        until(lambda: not serving(spec), 60, "rbd-nbd ends")
        until(lambda: not rbd_cli.json("status", spec)["watchers"], 60, "no watcher")
    finally:
        for left in serving(spec):
            os.kill(left, signal.SIGKILL)


def serving(spec):
    """The pids of the rbd-nbd processes for an image."""
    return processes.find(lambda argv: os.path.basename(argv[0]) == "rbd-nbd" and spec in argv)


def test_an_image_shrinks_only_after_its_filesystem(states, modules, encrypted, rbd_cli, spec, tmp_path):
    from blank_checks import tool

    for name, more in ((spec, {}), (encrypted(f"{spec}e"), {"encryption": key()})):
        less, fs_size = (40, 40) if not more else (48, 32)
        if not more:
            rbd_cli("create", name, "--size", "64M")
        both(states.rbd_device.mapped, name, persist=False, **more)
        both(states.rbd_filesystem.formatted, name, fs_type="ext4")
        device = modules.rbd_device.info(name)["device"]
        wanted = {"size": f"{less}M", "allow_shrink": True, **more}
        said = refused(states.rbd_image.present, name, **wanted)
        assert "it is in use by" in said and f"'resize2fs {device} {fs_size * 1024}K'" in said
        tool("e2fsck", "-f", "-p", device)
        tool("resize2fs", device, f"{fs_size}M")
        assert "it is in use by" in refused(states.rbd_image.present, name, **wanted)
        both(states.rbd_device.unmapped, name)
        if more:
            assert "Declare encryption:" in refused(states.rbd_image.present, name, size=f"{less}M", allow_shrink=True)
        assert "Declare allow_shrink: True" in refused(states.rbd_image.present, name, size=f"{less}M", **more)
        smaller = {**wanted, "size": f"{less - 1}M"}
        assert "its ext4 has" in refused(states.rbd_image.present, name, **smaller)
        both(states.rbd_image.present, name, **wanted)
        both(states.rbd_device.mapped, name, persist=False, **more)
        assert modules.rbd_filesystem.check(name)["state"] == "clean"
    rbd_cli("create", f"{spec}x", "--size", "400M")
    both(states.rbd_device.mapped, f"{spec}x", persist=False)
    both(states.rbd_filesystem.formatted, f"{spec}x", fs_type="xfs")
    both(states.rbd_device.unmapped, f"{spec}x")
    said = refused(states.rbd_image.present, f"{spec}x", size="380M", allow_shrink=True)
    assert "an xfs cannot be made smaller" in said
