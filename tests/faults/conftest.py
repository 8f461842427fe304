"""``./lab test faults --kills N --seed S``: how many kills, drawn by which number; and what they met, counted in the last lines."""

import random
from collections import Counter

import pytest
from kill_plan import PHASES, plan
from kill_site import Site

KILLS = 10


class Tally:
    """What the kills of this run met."""

    def __init__(self):
        self.phases, self.victims, self.runs = Counter(), Counter(), Counter()
        self.kills, self.thawed, self.converged = 0, [0.0], [0.0]

    def lines(self):
        yield f"{self.kills} kills landed; by whom was hit: {_counted(self.victims)}"
        yield "where they landed (a snapshot is taken while filesystems are frozen, so that one kill can count twice):"
        for phase, words in PHASES.items():
            yield f"  {words:<45}{self.phases[phase]:>4}"
        yield f"  {'in none of these':<45}{self.phases['']:>4}"
        yield f"every filesystem took writes again after {max(self.thawed):.1f} s at most"
        yield f"highstates until all was as declared: {_counted(self.runs)}; after {max(self.converged):.0f} s at most"


def _counted(counter):
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items(), key=str)) or "none"


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=KILLS, help=f"how many kills (default {KILLS})")
    parser.addoption("--seed", type=int, default=None, help="the number that the kills are drawn by (default: a new one)")
    parser.addoption(
        "--only",
        type=_numbers,
        default=None,
        metavar="NUMBERS",
        help="of these kills only those with these numbers, such as 6,23: with the seed of a run it does again what failed in it",
    )


def _numbers(text):
    return [int(number) for number in text.split(",")]


def pytest_configure(config):
    seed = config.getoption("seed")
    config.kill_seed = random.randrange(10**6) if seed is None else seed
    config.kill_tally = Tally()


def pytest_generate_tests(metafunc):
    if "kill" in metafunc.fixturenames:
        kills, only = plan(metafunc.config.getoption("kills"), metafunc.config.kill_seed), metafunc.config.getoption("only")
        kills = [kill for kill in kills if only is None or kill.number in only]
        metafunc.parametrize("kill", kills, ids=str)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A long run tells of a failure at once: what was killed, what each highstate said since, the host as it is, the traceback."""
    report = yield
    if report.failed and call.excinfo:
        site = item.funcargs.get("site") if hasattr(item, "funcargs") else None
        lines = [*site.story, *site.look()] if site else []
        if "kill" in getattr(item, "fixturenames", ()):
            number = item.callspec.params["kill"].number
            lines.append(f"again by: ./lab test faults --kills {number + 1} --seed {item.config.kill_seed} --only {number} -k test_kill")
        terminal = item.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line("\n".join(["", f"{item.name} failed", *lines, report.longreprtext]))
    return report


def pytest_terminal_summary(terminalreporter, config):
    tally = config.kill_tally
    if not tally.kills:
        return
    terminalreporter.section("kills")
    terminalreporter.line(f"again by: ./lab test faults --kills {config.getoption('kills')} --seed {config.kill_seed}")
    for line in tally.lines():
        terminalreporter.line(line)


@pytest.fixture(scope="session")
def tally(request):
    """The counts of this run."""
    return request.config.kill_tally


@pytest.fixture(scope="session")
def site(cluster, make_pool, tmp_path_factory, repo):
    """A host with one volume that has data, where highstates are run and killed."""
    found = Site(cluster, make_pool(), tmp_path_factory.mktemp("site"), repo)
    found.prepare()
    yield found
    found.close()


@pytest.fixture(scope="session")
def salt_factories_default_root_dir(tmp_path_factory):
    """Where the daemons of pytest-salt-factories live."""
    return tmp_path_factory.mktemp("salt")
