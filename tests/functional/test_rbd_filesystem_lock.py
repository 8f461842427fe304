"""What works on a device holds the host's lock on its image, and looks at the device under the lock."""

import os
import signal

import pytest
from saltrbd import blank, device, device_find, errors, hostlock
from saltrbd import spec as specs


@pytest.fixture
def quick(make_loaders):
    """Loaders whose calls wait two seconds for a lock."""
    return make_loaders(pillar={"rbd": {"timeout": 2}})


@pytest.fixture
def mapped(ceph, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    return device.map_image(ceph, specs.parse(spec))


@pytest.mark.parametrize(
    ("function", "more"),
    [("format", ["ext4"]), ("relabel", ["x"]), ("grow", []), ("new_uuid", []), ("mount", None)],
)
def test_it_waits_for_the_lock(function, more, quick, ceph, mapped, spec, tmp_path):
    words = [str(tmp_path / "m"), spec] if more is None else [spec, *more]
    with hostlock.hold(ceph, mapped.image_id), pytest.raises(errors.Busy, match="at work on the image's device for 2 s"):
        getattr(quick.modules.rbd_filesystem, function)(*words)
    quick.modules.rbd_filesystem.format(spec, "ext4")


def test_a_dead_device_is_told_at_once(quick, mapped, spec, only_fuse):
    """Not after a wait for the lock that the command itself holds."""
    os.kill(mapped.pid, signal.SIGKILL)
    for function, more in (("format", ["ext4"]), ("relabel", ["x"]), ("grow", [])):
        with pytest.raises(errors.StaleMapping):
            getattr(quick.modules.rbd_filesystem, function)(spec, *more)


def test_a_device_that_went_to_another_image_is_not_this_one(ceph, mapped, spec, rbd_cli):
    blank.prove(ceph, mapped)
    device.unmap(ceph, mapped.spec)
    with pytest.raises(errors.NotBlank, match="does not serve that image any more"):
        blank.prove_there(mapped)
    rbd_cli("create", f"{spec}b", "--size", "64M")
    other = device.map_image(ceph, specs.parse(f"{spec}b"))
    mapped = mapped._replace(device=other.device)  # the number is given out anew
    assert device_find.is_there(other) and not device_find.is_there(mapped)
    with pytest.raises(errors.NotBlank):
        blank.prove(ceph, mapped)
