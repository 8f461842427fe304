"""SIGKILL at random moments of a highstate that creates, formats, mounts, freezes, snapshots and clones.

Whoever dies, and whenever: nothing stays frozen for longer than 15 s, a highstate makes all as declared, the next one finds nothing to do,
what was written before is there, and no mapping, device or process is left.
"""

import pytest
from kill_plan import PHASES, plan

# Once more with other numbers is another kill: a failure is kept.
pytestmark = [pytest.mark.flaky(reruns=0), pytest.mark.timeout(600)]

ATTEMPTS = 4


def test_kill(kill, site, tally):
    landed = None
    site.story.clear()
    site.take_away()  # of a kill that failed
    for attempt in range(ATTEMPTS):
        number, declared = site.next()
        pid, answer = site.start(declared, watch=True)
        landed = site.strike(kill._replace(moment=kill.moment / 2**attempt), pid)
        results = site.finish(pid, answer)
        if landed:
            break
        site.converge(declared)  # it was quicker than the kill, and is taken away for another try
        site.take_away()
    assert landed, "four runs were over before their kill"
    if results is not None:
        assert "Traceback" not in str(results)
    thawed = site.until_writable(landed)
    runs, seconds = site.converge(declared)
    site.data(number)
    site.orphans(["keeper", f"v{number}", f"c{number}"])
    site.unchanged(declared)
    site.take_away()
    site.orphans(["keeper"])
    tally.kills += 1
    tally.phases.update(landed.phases or [""])
    tally.victims["+".join(landed.victims)] += 1
    tally.runs[runs] += 1
    tally.thawed.append(thawed)
    tally.converged.append(seconds)


def test_a_number_draws_the_same_kills():
    assert plan(30, 7) == plan(30, 7) != plan(30, 8)
    assert [sum(kill.aim == aim for kill in plan(60, 7)) for aim in (*PHASES, None)] == [10] * 6


def test_the_kills_met_every_phase(request, tally):
    """A tenth of the kills each, at least; few kills show little."""
    kills = request.config.getoption("kills")
    if kills < 50 or request.config.getoption("only"):
        pytest.skip("too few kills to say")
    assert {phase: tally.phases[phase] for phase in PHASES if tally.phases[phase] < kills // 10} == {}
