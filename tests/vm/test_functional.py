"""The functional tests of what maps, formats, mounts and freezes, in a machine, by the kernel's rbd and by rbd-nbd."""

import pytest

# A whole file of tests runs in each of these.
pytestmark = pytest.mark.timeout(1800)

FILES = ("test_rbd_device", "test_rbd_filesystem", "test_rbd_snapshot", "test_freeze", "test_example")


@pytest.mark.parametrize("name", FILES)
def test_file(name, machine, driver):
    argv = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "-rs", f"tests/functional/{name}.py"]
    code, out, _ = machine.run(*argv, timeout=1750, check=False, RBD_LAB_DRIVER=driver)
    print(out)
    assert code == 0, out
