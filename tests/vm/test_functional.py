"""The functional tests of what maps, formats, mounts and freezes, by the kernel's rbd in one machine and by rbd-nbd in another."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

# A whole file of tests runs in each of these.
LONGEST_FILE = 2700
pytestmark = pytest.mark.timeout(LONGEST_FILE + 50)

FILES = (
    "test_rbd_device",
    "test_rbd_filesystem",
    "test_rbd_snapshot",
    "test_rbd_snapshot_rolled_back",
    "test_rbd_clone_flattened",
    "test_freeze",
    "test_quiesce",
    "test_example",
    "test_rbd_encryption",
    "test_rbd_encryption_killed",
)


def _run(machine, name, driver):
    argv = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "-rs", f"tests/functional/{name}.py"]
    return machine.run(*argv, timeout=LONGEST_FILE, check=False, RBD_LAB_DRIVER=driver)[:2]


@pytest.fixture(scope="session")
def outcomes(request, machine, second):
    """What each chosen file comes to, as {(name, driver): future}: a machine has one CPU, so both work at once."""
    machines, found = {"krbd": machine, "nbd": second}, {}
    with contextlib.ExitStack() as stack:
        workers = {driver: stack.enter_context(ThreadPoolExecutor(1)) for driver in machines}
        for item in request.session.items:
            if item.function is test_file:
                name, driver = item.callspec.params["name"], item.callspec.params["driver"]
                found[name, driver] = workers[driver].submit(_run, machines[driver], name, driver)
        yield found
        for future in found.values():
            future.cancel()


@pytest.mark.parametrize("name", FILES)
def test_file(name, driver, outcomes):
    code, out = outcomes[name, driver].result()
    print(out)
    assert code == 0, out
