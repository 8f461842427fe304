"""``./lab vm``: machines whose kernel has rbd and nbd, as clients of an embedded cluster on this host."""

import contextlib

from labkit import bridge, cluster, guests, prepare, vm_image
from labkit.commands import LabError, Step
from labkit.machine import Machine

USAGE = """\
usage: ./lab vm up [NUMBER]           boot the machine (2, 3, ...: another one beside it)
       ./lab vm run [NUMBER] CMD...   run a command in it, in the checkout as it is now; without CMD a shell
       ./lab vm status                what runs
       ./lab vm down                  end the machines, their cluster and their network"""

NUMBERS = range(1, 10)


def main(home, words):
    """Run ``./lab vm WORDS`` and return its exit code."""
    command, words = (words or ["help"])[0], words[1:]
    number, words = _number(words)
    if command == "up" and not words:
        up(home, number)
        return status(home)
    if command == "run":
        machine = running(home, number)
        machine.carry()
        return machine.become(words)
    if command == "status" and not words:
        return status(home)
    if command == "down" and not words:
        _complain(down(home))
        print("The machines are down.")
        return 0
    print(USAGE)
    return 0 if command in ("help", "-h", "--help") else 2


def _number(words):
    if not words or not words[0].isdigit():
        return 1, words
    if int(words[0]) not in NUMBERS:
        raise LabError(f"Machines have numbers from {NUMBERS[0]} to {NUMBERS[-1]}, not {words[0]}.")
    return int(words[0]), words[1:]


def up(home, number=1):
    """Bring the machine with this number up, and all it needs; return the :class:`Machine`."""
    own = home.machines()
    own.make()
    venv = prepare.salt_environment(home, prepare.SALT)
    images = home.venvs.parent / "vm-images"
    image, salt = vm_image.ready(images), vm_image.environment_disk(images, venv)
    with own.locked():
        network = guests.network(own)
        bridge.up(network)
        guests.start_cluster(own, network, _machines(own), "machines", "./lab vm")
        machine = Machine(own, number, network)
        if not machine.pids():
            with Step(f"boot the machine {machine.name} at {machine.address}"):
                machine.start(image, venv, salt)
                machine.wait()
        with Step("carry the checkout into it"):
            machine.carry()
    return machine


def running(home, number=1):
    """Return the running :class:`Machine` with this number, or say how to get it."""
    for machine in _machines(home.machines()):
        if machine.number == number:
            return machine
    raise LabError(f"The machine {number} does not run; ./lab vm up{'' if number == 1 else f' {number}'} boots it.")


def _machines(own):
    """Return the machines that run."""
    return [machine for machine in _started(own) if machine.pids()]


def _started(own):
    """Return the machines that were started and not ended, also those that fell."""
    if not guests.plan(own).exists():
        return []
    network = guests.network(own)
    return [machine for machine in (Machine(own, number, network) for number in NUMBERS) if machine.folder.exists()]


def status(home):
    """Print what runs; return 0 where a machine does, else 1."""
    own = home.machines()
    machines = _machines(own)
    if not machines:
        print("No machine runs; ./lab vm up boots one.")
        return 1
    known = cluster.facts(own.cluster)
    print(f"cluster   {known['fsid']} at {', '.join(known['monitors'])}, in {own.cluster}")
    for machine in machines:
        print(f"machine   {machine.number}: {machine.name} at {machine.address} (pid {machine.pids()[0]}), console in {machine.console}")
    return 0


def down(home):
    """End machines, cluster and network of this lab; the image stays. Return one sentence for each thing that stayed."""
    own = home.machines()
    if not own.folder.exists():
        return []
    with own.locked():
        problems = [problem for machine in _started(own) for problem in machine.end()]
        if problems:
            return problems
        cluster.stop(own.cluster)
        if guests.plan(own).exists():
            bridge.down(guests.network(own))
            guests.plan(own).unlink()
    return []


@contextlib.contextmanager
def for_tests(home):
    """Give the tests machines of their own, and take all of it away after them: yields the home to bring them up in."""
    _complain(down(home))
    try:
        yield home
    finally:
        for problem in down(home):
            print(problem)


def _complain(problems):
    if problems:
        raise LabError("\n".join(problems))
