"""The life of an alert: told once when it lasts, once when it is over, whatever comes in between."""

import copy
import json

import pytest
from saltplatform import alerts

RULES = {"hold": 60, "calm": 300, "report_every": 300, "mails_per_hour": 12}
ALL = [*alerts.CLUSTER_AREAS, *alerts.HOST_AREAS]
DOWN = {"area": "health", "subject": "availability", "level": "fault", "text": "OSD_DOWN: 1 osds down."}
WARN = {**DOWN, "level": "warning", "text": "PG_DEGRADED: some."}
LOST = {"area": "mappings", "subject": "rbd/a", "level": "fault", "text": "rbd/a is not mapped."}
KEY, LOST_KEY = "cluster c|health|availability", "host n1|mappings|rbd/a"


class Site:
    """A state over time: ``site.report(60, "n1", DOWN)`` at second 60; what people are told comes back as [(what, key)]."""

    def __init__(self):
        self.state = alerts.empty()

    def report(self, now, node, *found, looked=ALL, cluster="c"):
        report = alerts.checked({"cluster": cluster, "looked": list(looked), "found": [copy.copy(one) for one in found]})
        alerts.take(self.state, node, report, now, RULES)
        return self.tick(now)

    def tick(self, now):
        # Between any two steps master and minion may have been restarted: only what is plain data stays.
        self.state = json.loads(json.dumps(self.state))
        return [(change.what, change.alert["key"]) for change in alerts.turn(self.state, now, RULES)]

    def run(self, steps):
        told = []
        for step in steps:
            told += self.tick(*step) if len(step) == 1 else self.report(*step)
        return told


OPENED, OVER, WORSE = ("opened", KEY), ("over", KEY), ("worse", KEY)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        # Nothing is wrong.
        ([(0, "n1"), (400, "n1")], []),
        # It passes before anybody would want to know.
        ([(0, "n1", DOWN), (30, "n1"), (90,), (400,)], []),
        # It lasts: once, however often it is said.
        ([(0, "n1", DOWN), (59, "n1", DOWN)], []),
        ([(0, "n1", DOWN), (60, "n1", DOWN), (120, "n1", DOWN), (9999, "n1", DOWN)], [OPENED]),
        # By time alone, without another report.
        ([(0, "n1", DOWN), (61,)], [OPENED]),
        # And once when it is over.
        ([(0, "n1", DOWN), (60,), (100, "n1"), (399, "n1")], [OPENED]),
        ([(0, "n1", DOWN), (60,), (100, "n1"), (400, "n1"), (500, "n1"), (9000,)], [OPENED, OVER]),
        # It comes back before that: the same event.
        ([(0, "n1", DOWN), (60,), (100, "n1"), (300, "n1", DOWN), (500, "n1"), (799,)], [OPENED]),
        ([(0, "n1", DOWN), (60,), (100, "n1"), (300, "n1", DOWN), (500, "n1"), (800,)], [OPENED, OVER]),
        # One that flickers faster than it is held is told too.
        ([(0, "n1", DOWN), (20, "n1"), (40, "n1", DOWN), (50, "n1"), (70, "n1", DOWN)], [OPENED]),
        # Several nodes see the same cluster: one event, over when none sees it any more.
        ([(0, "n1", DOWN), (1, "n2", DOWN), (60,), (70, "n3", DOWN), (100, "n1"), (101, "n3"), (600,)], [OPENED]),
        ([(0, "n1", DOWN), (1, "n2", DOWN), (60,), (100, "n1"), (110, "n2"), (410,)], [OPENED, OVER]),
        # It gets worse: once.
        ([(0, "n1", WARN), (60,), (70, "n1", DOWN), (80, "n1", DOWN), (90, "n1", WARN), (99, "n1", DOWN)], [OPENED, WORSE]),
        ([(0, "n1", DOWN), (60,), (70, "n1", WARN)], [OPENED]),
    ],
)
def test_life(steps, told):
    assert Site().run(steps) == told


def test_what_could_not_be_looked_at_stays():
    site = Site()
    assert site.run([(0, "n1", DOWN), (60,)]) == [OPENED]
    assert site.report(100, "n1", looked=["cluster", "volumes"]) == []
    assert site.tick(9999) == []
    assert site.report(10000, "n1") == []
    assert site.tick(10300) == [OVER]


def test_unknown_neither_opens_nor_closes():
    site, unknown = Site(), {**LOST, "level": "unknown", "text": "It does not answer."}
    assert site.run([(0, "n1", unknown), (900, "n1", unknown)]) == []
    assert site.run([(1000, "n1", LOST), (1060,), (1100, "n1", unknown), (5000,)]) == [("opened", LOST_KEY)]
    assert site.run([(5100, "n1"), (5400,)]) == [("over", LOST_KEY)]


def test_a_dead_witness_does_not_hold_it_for_ever():
    """n1 saw it and died; n2 sees that all is well: believed when n1 has been silent for three reports."""
    site = Site()
    assert site.run([(0, "n1", DOWN), (60,), (300, "n2"), (600, "n2"), (899, "n2")]) == [OPENED]
    assert site.run([(901, "n2"), (1201,)]) == [OVER]


def test_nobody_else_can_say_that_a_dead_nodes_own_is_over():
    site = Site()
    assert site.run([(0, "n1", LOST), (60,), (2000, "n2"), (9000, "n2")]) == [("opened", LOST_KEY)]
    assert alerts.forget(site.state, "n1") == [LOST_KEY]
    assert site.run([(9001,), (9301,)]) == [("over", LOST_KEY)]


def test_hosts_and_clusters_are_told_apart():
    site = Site()
    told = site.run([(0, "n1", LOST), (0, "n2", LOST), (0, "n1", DOWN), (0, "n1", LOST, DOWN)]) + site.report(0, "n2", DOWN, cluster="d")
    told += site.tick(60)
    assert told == [
        ("opened", "cluster c|health|availability"),
        ("opened", "cluster d|health|availability"),
        ("opened", "host n1|mappings|rbd/a"),
    ]


def test_one_that_comes_and_goes_is_told_ever_less():
    """Ten minutes on, ten minutes off, for two days: 288 changes."""
    site, told = Site(), []
    for minute in range(0, 2 * 1440, 1):
        found = [DOWN] if minute // 10 % 2 == 0 else []
        told += site.report(minute * 60, "n1", *found)
    assert 2 <= len(told) <= 8, told
    assert told[0] == OPENED
    # When it stays away at last, that is told.
    assert site.run([(2 * 86400, "n1"), (2 * 86400 + 3600,)])[-1:] in ([OVER], [])
    assert alerts.open_alerts(site.state) == {}
    assert site.tick(2 * 86400 + 20000) == []
    assert site.state["alerts"] == {}


def test_a_lost_report_is_made_up_for_by_the_next_one():
    site = Site()
    assert site.run([(300, "n1", DOWN), (600, "n1", DOWN)]) == [OPENED]


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (None, "no mapping"),
        ([], "no mapping"),
        ({}, "lacks"),
        ({"cluster": "c", "looked": ALL}, "lacks"),
        ({"cluster": None, "looked": ALL, "found": []}, "lacks"),
        ({"cluster": "c", "looked": "health", "found": []}, "lacks"),
        ({"cluster": "c", "looked": [], "found": [DOWN]}, "nobody looked"),
        ({"cluster": "c", "looked": ALL, "found": ["x"]}, "nobody looked"),
        ({"cluster": "c", "looked": ["weather"], "found": [{**DOWN, "area": "weather"}]}, "nobody looked"),
        ({"cluster": "c", "looked": ALL, "found": [{**DOWN, "level": "bad"}]}, "level"),
        ({"cluster": "c", "looked": ALL, "found": [{**DOWN, "text": 5}]}, "no text"),
        ({"cluster": "c", "looked": ALL, "found": [{**DOWN, "subject": None}]}, "no text"),
    ],
)
def test_no_report(report, why):
    with pytest.raises(alerts.InvalidReport, match=why):
        alerts.checked(report)


def test_a_report_is_cut_to_one_line_and_a_size():
    nasty = {**DOWN, "subject": "a\r\nBcc: x@example.net", "text": "\x1b[31mred\u2028" + "x" * 9999}
    (item,) = alerts.checked({"cluster": "c\n", "looked": ALL, "found": [nasty]})["found"]
    assert item["subject"] == "a Bcc: x@example.net"
    assert item["text"].startswith("[31mred xxx") and len(item["text"]) == alerts.LONGEST_TEXT


def test_a_report_that_is_too_long_closes_nothing():
    site = Site()
    many = [{**LOST, "subject": f"rbd/{number}"} for number in range(alerts.MOST_FOUND + 1)]
    assert site.run([(0, "n1", DOWN), (60,)]) == [OPENED]
    site.report(100, "n1", *many)
    assert site.state["alerts"][KEY]["nodes"] == {"n1": 0}
    assert len(site.state["alerts"]) == alerts.MOST_FOUND + 1
