"""Which snapshots stay: examples by hand, and five simulated years against another reading of the rule."""

import calendar
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_facts import DEFAULT_FEATURES, child, image, snapshot
from saltrbd import retention
from saltrbd import spec as specs
from saltrbd.errors import InvalidArgument

A, B = specs.parse("p/a"), specs.parse("p/b")
NOW = 2000000000
HOUR, DAY = 3600, 86400
YEARS = 5 * 365 * DAY
RULES = ("latest", "hourly", "daily", "weekly", "monthly", "yearly")


def at(text):
    """Seconds of a moment in UTC, such as 2026-11-26 10:00."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M"))


def stay(moments, **counts):
    """The moments that stay, in order."""
    times = {text: (at(text), number) for number, text in enumerate(moments)}
    return sorted(retention.kept(times, counts), key=times.get)


@pytest.mark.parametrize(
    ("counts", "moments"),
    [
        ({}, []),
        ({"latest": 0}, []),
        ({"latest": 1}, ["2026-03-02 00:00"]),
        ({"latest": 99}, "all"),
        # The newest of each day, and the day on which nothing was made does not count.
        ({"daily": 2}, ["2026-03-01 23:59", "2026-03-02 00:00"]),
        ({"daily": 3}, ["2026-02-27 12:00", "2026-03-01 23:59", "2026-03-02 00:00"]),
        ({"hourly": 3}, ["2026-03-01 22:10", "2026-03-01 23:59", "2026-03-02 00:00"]),
        # 2026-03-02 is a Monday: a new week.
        ({"weekly": 2}, ["2026-03-01 23:59", "2026-03-02 00:00"]),
        ({"monthly": 2}, ["2026-02-27 12:00", "2026-03-02 00:00"]),
        ({"yearly": 2}, ["2025-12-30 00:00", "2026-03-02 00:00"]),
        # Each rule counts by itself.
        ({"latest": 2, "yearly": 2}, ["2025-12-30 00:00", "2026-03-01 23:59", "2026-03-02 00:00"]),
    ],
)
def test_examples(counts, moments):
    there = [
        "2025-12-29 00:00",
        "2025-12-30 00:00",
        "2026-02-27 11:00",
        "2026-02-27 12:00",
        "2026-03-01 22:00",
        "2026-03-01 22:10",
        "2026-03-01 23:58",
        "2026-03-01 23:59",
        "2026-03-02 00:00",
    ]
    assert stay(there, **counts) == (there if moments == "all" else moments)


def test_weeks_are_those_of_iso():
    # Monday 2025-12-29 to Sunday 2026-01-04 is the first week of 2026; 2026-12-31 lies in its 53rd, as 2027-01-03 does.
    assert stay(["2025-12-28 12:00", "2025-12-29 12:00", "2026-01-04 12:00"], weekly=9) == ["2025-12-28 12:00", "2026-01-04 12:00"]
    assert stay(["2026-12-31 12:00", "2027-01-03 12:00", "2027-01-04 12:00"], weekly=9) == ["2027-01-03 12:00", "2027-01-04 12:00"]


def test_of_one_second_the_later_id_is_newer():
    assert retention.kept({"a": (5, 9), "b": (5, 10)}, {"latest": 1}) == {"b": ["latest"]}


def test_the_reasons():
    assert retention.kept({"a": (5, 1)}, {"hourly": 1, "yearly": 3}) == {"a": ["hourly", "yearly"]}


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_zone_of_the_host_does_not_matter(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert stay(["2026-03-01 23:59", "2026-03-02 00:00"], daily=9) == ["2026-03-01 23:59", "2026-03-02 00:00"]
        assert stay(["2026-03-02 00:00", "2026-03-02 23:59"], daily=9) == ["2026-03-02 23:59"]
    finally:
        monkeypatch.undo()
        time.tzset()


# The other reading: each snapshot by itself, by arithmetic. One stays when no newer one lies in its period, and fewer than so many
# periods after it have any.


def period(rule, seconds):
    if rule == "hourly":
        return seconds // HOUR
    if rule == "daily":
        return seconds // DAY
    if rule == "weekly":
        return (seconds // DAY + 3) // 7  # the first of 1970 was a Thursday
    moment = time.gmtime(seconds)
    return moment.tm_year if rule == "yearly" else moment.tm_year * 12 + moment.tm_mon


def by_hand(times, counts):
    found = set()
    for rule, count in counts.items():
        periods = {key: key if rule == "latest" else period(rule, seconds) for key, (seconds, _) in times.items()}
        for key, moment in times.items():
            after = {periods[other] for other, its in times.items() if its > moment}
            if periods[key] not in after and len(after) < count:
                found.add(key)
    return found


BEGIN = at("2024-12-20 00:00")
COUNTS = st.dictionaries(st.sampled_from(RULES), st.integers(0, 60))
# Anywhere in the five years, many close together, at the seams of days, and around New Year.
MOMENTS = st.lists(
    st.one_of(
        st.integers(BEGIN, BEGIN + YEARS),
        st.integers(BEGIN, BEGIN + 3 * DAY),
        st.builds(lambda day, seconds: BEGIN + day * DAY + seconds, st.integers(0, 5 * 365), st.integers(-1, 1)),
        st.builds(lambda year, day: BEGIN + (year * 365 + day) * DAY, st.integers(0, 4), st.integers(0, 25)),
    ),
    max_size=120,
)


@given(MOMENTS, COUNTS)
@settings(max_examples=400, deadline=None)
def test_what_stays_is_what_the_rule_says(moments, counts):
    times = {number: (seconds, number) for number, seconds in enumerate(moments)}
    assert set(retention.kept(times, counts)) == by_hand(times, counts)


@given(MOMENTS, COUNTS)
@settings(max_examples=100, deadline=None)
def test_a_second_run_removes_nothing(moments, counts):
    times = {number: (seconds, number) for number, seconds in enumerate(moments)}
    left = {key: times[key] for key in retention.kept(times, counts)}
    assert set(retention.kept(left, counts)) == set(left)


@given(MOMENTS, COUNTS, st.sets(st.integers(0, 120)))
@settings(max_examples=100, deadline=None)
def test_how_often_it_runs_does_not_matter(moments, counts, runs):
    """Snapshots come one after the other; what many runs leave is what one run at the end leaves."""
    times = {number: (seconds, number) for number, seconds in enumerate(sorted(moments))}
    left = {}
    for key, moment in times.items():
        left[key] = moment
        if key in runs:
            left = {item: left[item] for item in retention.kept(left, counts)}
    assert set(retention.kept(left, counts)) == by_hand(times, counts)


@given(st.integers(20, 30), st.sets(st.integers(0, 5 * 365), max_size=200))
@settings(max_examples=1, deadline=None)
@example(every=24, missed=set())
def test_five_years_of_nights(every, missed):
    """A snapshot a day for five years, with days on which none was made, and a run after each."""
    counts = {"latest": 3, "hourly": 5, "daily": 7, "weekly": 5, "monthly": 12, "yearly": 4}
    times, left = {}, {}
    for seconds in range(BEGIN, BEGIN + YEARS, every * HOUR):
        if (seconds - BEGIN) // DAY in missed:
            continue
        times[seconds] = left[seconds] = (seconds, seconds)
        left = {key: left[key] for key in retention.kept(left, counts)}
        assert len(left) <= sum(counts.values())
    assert set(left) == by_hand(times, counts)
    assert len({period("yearly", key) for key in left}) == 4


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "latest"])
def test_every_period_of_five_years(rule):
    """With a count that is never reached the newest of each period stays; a snapshot every 29 minutes meets every seam."""
    times = {seconds: (seconds, seconds) for seconds in range(BEGIN, BEGIN + YEARS, 29 * 60)}
    newest = {period(rule, seconds): seconds for seconds in times}
    assert sorted(retention.kept(times, {rule: 100000})) == sorted(newest.values())


# What is declared.


@pytest.mark.parametrize("value", [-1, True, "7", 1.5, [], 100001])
def test_no_counts(value):
    declared = {"latest": None, "hourly": None, "daily": value, "weekly": 1, "monthly": None, "yearly": None}
    with pytest.raises(InvalidArgument, match="daily must be a number of snapshots to keep"):
        retention.rules(**declared)


@pytest.mark.parametrize("value", [None, 0])
def test_everything_would_go(value):
    with pytest.raises(InvalidArgument, match="Nothing would stay"):
        retention.rules(**dict.fromkeys(RULES, value))


@pytest.mark.parametrize(
    ("declared", "name", "governed"),
    [
        ({"prefix": "auto-"}, "auto-1", True),
        ({"prefix": "auto-"}, "my-auto-1", False),
        ({"prefix": "*"}, "auto", False),
        ({"pattern": "*"}, "anything", True),
        ({"pattern": "auto-*"}, "auto-1", True),
        ({"pattern": "auto-*"}, "Auto-1", False),
        ({"pattern": "auto-?"}, "auto-12", False),
        ({"pattern": "auto"}, "auto-1", False),
    ],
)
def test_governs(declared, name, governed):
    assert retention.governs(**declared)(name) is governed


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({}, "Declare either prefix or pattern"),
        ({"prefix": "a", "pattern": "a*"}, "Declare either prefix or pattern"),
        ({"prefix": ""}, "The prefix must be text, and not empty, not ''"),
        ({"pattern": 5}, "The pattern must be text, and not empty, not 5"),
    ],
)
def test_governs_nothing(declared, words):
    with pytest.raises(InvalidArgument, match=words):
        retention.governs(**declared)


# The plan.

NIGHTS = [snapshot(f"n{day}", id=day, created=NOW - (10 - day) * DAY) for day in range(1, 6)]


def planned(images, governed=lambda name: name.startswith("n"), **counts):
    return retention.plan(images, governed, counts, NOW)


def with_nights(**more):
    """Five nights, some of them otherwise: ``with_nights(n1={"protected": True})``."""
    return image(snapshots=[dict(item, **more.get(item["name"], {})) for item in NIGHTS])


def test_nothing_to_do():
    plan = planned({A: with_nights(), B: image()}, latest=5)
    assert (plan.steps, plan.changes, plan.refusals, plan.planned, plan.notes) == ([], {}, [], {}, [])


def test_what_goes_is_listed():
    plan = planned({B: with_nights(), A: with_nights()}, daily=3)
    gone = ["p/a@n1", "p/a@n2", "p/b@n1", "p/b@n2"]
    assert plan.steps == [("rbd_snapshot.remove", {"name": gone})]
    assert plan.changes == {name: {"snapshot": {"old": "present", "new": None}} for name in gone}
    assert plan.planned == {("snapshot", name): None for name in gone}


def test_what_is_not_governed_neither_goes_nor_counts():
    plan = planned({A: image(snapshots=[*NIGHTS, snapshot("mine", id=9, created=NOW)])}, latest=5)
    assert plan.changes == {}
    assert list(planned({A: with_nights()}, governed=lambda name: name in ("n1", "n2"), latest=1).changes) == ["p/a@n1"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"protected": True}, "p/a@n1 stays: it is protected."),
        ({"children": [child("c"), child("b", trash=True)]}, "p/a@n1 stays: these clones hang on it: p/b (in the trash, id c-b), p/c."),
        ({"devices": ["the read-only device /dev/x"]}, "p/a@n1 stays: the read-only device /dev/x."),
        ({"protected": True, "children": [child("c")]}, "p/a@n1 stays: it is protected; these clones hang on it: p/c."),
    ],
)
def test_what_is_never_removed(more, words):
    plan = planned({A: with_nights(n1=more)}, latest=3)
    assert list(plan.changes) == ["p/a@n2"]
    assert plan.notes == [words]
    # And it counts.
    assert planned({A: with_nights(n5=more)}, latest=5).notes == []
    assert list(planned({A: with_nights(n5=more)}, latest=1).changes) == ["p/a@n1", "p/a@n2", "p/a@n3", "p/a@n4"]


@pytest.mark.parametrize("kind", ["group", "mirror", "trash", "other"])
def test_what_is_no_users_snapshot_neither_goes_nor_counts(kind):
    plan = planned({A: with_nights(n1={"type": kind}, n5={"type": kind})}, latest=2)
    assert (list(plan.changes), plan.notes) == (["p/a@n2"], [])


def test_a_mirrors_copy_stays():
    plan = planned({A: dict(with_nights(), features=[*DEFAULT_FEATURES, "non-primary"])}, latest=4)
    assert (plan.changes, plan.notes) == ({}, ["p/a@n1 stays: its image is a mirror's copy."])


def test_one_that_a_dry_run_would_make_is_the_newest():
    new = {key: value for key, value in snapshot("n6", id=None).items() if key != "created"}
    plan = planned({A: image(snapshots=[new, *NIGHTS])}, latest=5)
    assert list(plan.changes) == ["p/a@n1"]


def test_an_image_that_is_not_there():
    plan = planned({A: None, B: with_nights()}, latest=1)
    assert plan.refusals == ["p/a does not exist, so it has no snapshots to keep."]
    assert plan.steps == []


def test_many_that_stay():
    protected = {f"n{day}": {"protected": True} for day in range(1, 6)}
    plan = planned({A: with_nights(**protected), B: with_nights(**protected), specs.parse("p/c"): with_nights(**protected)}, latest=1)
    assert (len(plan.notes), plan.notes[-1]) == (9, "And 4 more stay.")
