"""An image that one machine has mapped is refused to the other, until that is safe."""

import uuid

import pytest

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def image(machine):
    """An empty image of 64 MiB."""
    spec = f"rbd/i{uuid.uuid4().hex[:8]}"
    machine.run("rbd", "create", spec, "--size", "64M")
    return spec


@pytest.mark.parametrize("theirs", ["krbd", "nbd"])
def test_what_one_has_is_refused_to_the_other(machine, second, salt, second_salt, image, driver, theirs):
    salt.applies("rbd_device.mapped", image, driver=driver)
    said = second_salt.refuses("rbd_device.mapped", image, driver=theirs)
    assert "mapped by the host lab " in said
    assert f"(address {machine.address}:0/" in said
    assert second.run("rbd", "device", "list", "-t", theirs)[1].strip() == ""
    salt.applies("rbd_device.unmapped", image)
    second_salt.applies("rbd_device.mapped", image, driver=theirs)
    said = salt.refuses("rbd_device.mapped", image, driver=driver)
    assert "mapped by the host lab2 " in said and f"(address {second.address}:0/" in said
    second_salt.applies("rbd_device.unmapped", image)
