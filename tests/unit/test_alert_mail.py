"""What a mail says, how many there are, and what becomes of one that cannot be sent."""

import pytest
from saltplatform import alert_mail, alerts, outbox

MEMBERS = [{"name": "A", "address": "a@example.net", "admin": True}, {"name": "B", "address": "b@example.net", "admin": False}]
GROUPS = {"storage": MEMBERS, "office": MEMBERS[:1]}
RULES = {"mails_per_hour": 3}


def alert(**changes):
    found = {"place": "cluster c", "area": "health", "subject": "availability", "level": "fault", "text": "OSD_DOWN: 1 osds down."}
    found.update(nodes=["n1", "n2"], first=1000, closed=None, gone=None, flaps=0)
    return {**found, **changes}


def change(what, **changes):
    return alerts.Change(what, {**alert(**changes), "key": "k", "status": "open"})


def test_each_group_gets_one_mail():
    state = alerts.empty()
    assert alert_mail.enqueue(state, [change("opened"), change("opened", subject="monitors")], GROUPS, RULES, 5000) == []
    first, second = state["outbox"]
    assert (first["group"], first["to"]) == ("office", ["a@example.net"])
    assert (second["group"], second["to"]) == ("storage", ["a@example.net", "b@example.net"])
    assert first["number"] != second["number"]
    assert first["subject"] == "[storage] new: Ceph's health, availability (cluster c) (and 1 more)"
    assert alert_mail.enqueue(state, [], GROUPS, RULES, 5001) == []
    assert len(state["outbox"]) == 2


def test_the_text():
    subject, body = alert_mail.text("storage", [["over", alert(gone=8200, closed=8500)], ["opened", alert(area="volumes", subject="/srv")]])
    assert subject == "[storage] new: /srv is nearly full (cluster c) (and 1 more)"
    assert body == (
        "New:\n\n* /srv is nearly full (cluster c): OSD_DOWN: 1 osds down.\n  Seen by n1, n2.\n\n"
        "Over:\n\n* Ceph's health, availability (cluster c): it is over; it lasted 2 h 0 min. It was: OSD_DOWN: 1 osds down.\n\n"
        "You get this as a member of the contact group storage. All that is open: salt-run platform_alerts.show\n"
    )


@pytest.mark.parametrize("area", [*alerts.CLUSTER_AREAS, *alerts.HOST_AREAS])
@pytest.mark.parametrize("what", ["opened", "worse", "over"])
def test_every_area_has_words(area, what):
    subject, body = alert_mail.text("storage", [[what, alert(area=area, closed=2000, gone=1900, flaps=2)]])
    assert "{}" not in subject + body
    assert "\n" not in subject


def test_a_long_subject_is_cut():
    assert len(alert_mail.text("storage", [["opened", alert(subject="x" * 300)]])[0]) == 150


def test_a_flood_becomes_one_mail():
    """Every minute something else, for two hours: three mails an hour, and nothing of it is lost."""
    state, mails = alerts.empty(), []
    for minute in range(121):
        alert_mail.enqueue(state, [change("opened", subject=f"s{minute}")], {"storage": MEMBERS}, RULES, minute * 60)
        mails += [(minute, entry["subject"], entry["body"]) for entry in state["outbox"]]
        state["outbox"] = []
    assert [minute for minute, _, _ in mails] == [0, 1, 2, 60, 61, 62, 120]
    assert mails[3][1].endswith("(and 57 more)")
    body = "".join(text for _, _, text in mails)
    assert all(f"health, s{minute} " in body for minute in range(121))


def test_what_is_too_much_even_for_one_mail_is_counted():
    state = alerts.empty()
    changes = [change("opened", subject=f"s{number}") for number in range(150)]
    for now in (0, 1, 2, 3, 4):
        alert_mail.enqueue(state, changes, {"storage": MEMBERS}, RULES, now)
    assert state["held"]["storage"]["more"] == 100
    state["outbox"] = []
    alert_mail.enqueue(state, [], {"storage": MEMBERS}, RULES, 3601)
    (mail,) = state["outbox"]
    assert "100 earlier changes are not listed" in mail["body"]
    assert mail["subject"].endswith("(and 299 more)")


def test_a_group_that_is_no_more_leaves_nothing():
    state = alerts.empty()
    for now in range(5):
        alert_mail.enqueue(state, [change("opened")], GROUPS, RULES, now)
    alert_mail.enqueue(state, [], {"storage": MEMBERS}, RULES, 6)
    assert list(state["mailed"]) == list(state["held"]) == ["storage"]


def entry(number, group="storage", created=0):
    return {"number": number, "group": group, "subject": f"s{number}", "body": "", "created": created, "to": ["a@x", "b@x"]}


def outcome(error=None, final=False, **refused):
    return {"error": error, "final": final, "refused": {name + "@x": value for name, value in refused.items()}}


def filled(*entries):
    box = []
    for one in entries:
        outbox.add(box, one)
    return box


def test_a_mail_that_was_sent_is_gone():
    box = filled(entry(1))
    assert outbox.settle(box, 1, outcome(), 5) == [("info", "The mail 's1' was sent to the group storage.")]
    assert box == []
    assert outbox.settle(box, 1, outcome(), 6) == []


def test_one_that_was_not_is_tried_ever_less_often_and_given_up_after_a_day():
    box, now, tries, told = filled(entry(1)), 0, [], []
    while box:
        if outbox.due(box, now):
            tries.append(now)
            told += outbox.settle(box, 1, outcome("smtp:25: the server did not answer in time."), now)
        now += 30
    waits = [after - before for before, after in zip(tries, tries[1:])]
    assert waits[:6] == [60, 120, 300, 600, 1800, 3600] and set(waits[6:]) == {3600}
    assert outbox.GIVE_UP <= tries[-1] < outbox.GIVE_UP + 3600
    assert told[0][0] == "error" and "tried again in 60 s" in told[0][1]
    assert told[-1] == (
        "error",
        "The mail 's1' to the group storage could not be sent: smtp:25: the server did not answer in time. "
        f"It is given up after {len(tries)} tries.",
    )


def test_one_for_which_there_is_no_hope_is_given_up_at_once():
    box = filled(entry(1))
    assert "given up after 1 tries" in outbox.settle(box, 1, outcome("it answers 550 no", final=True), 5)[0][1]
    assert box == []


def test_who_was_refused_for_good_is_told_and_who_was_not_tried_again():
    box = filled(entry(1))
    told = outbox.settle(box, 1, outcome(a=("it answers 550 no.", True), b=("it answers 450 later.", False)), 5)
    assert [level for level, _ in told] == ["error", "error", "error"]
    assert "not taken for a@x: it answers 550 no." in told[0][1]
    assert box[0]["to"] == ["b@x"]
    assert outbox.settle(box, 1, outcome(), 70)[0][0] == "info"
    assert box == []


def test_all_refused_for_good():
    box = filled(entry(1))
    told = outbox.settle(box, 1, outcome(a=("no.", True), b=("no.", True)), 5)
    assert [level for level, _ in told] == ["error", "error"]
    assert box == []


def test_no_mail_overtakes_another_one_of_its_group():
    box = filled(entry(1), entry(2), entry(3, "office"))
    outbox.settle(box, 1, outcome("no"), 0)
    assert [one["number"] for one in outbox.due(box, 30)] == [3]
    assert [one["number"] for one in outbox.due(box, 60)] == [1, 2, 3]


def test_the_outbox_is_bounded():
    box = filled(*(entry(number) for number in range(outbox.MOST)))
    assert "'s0' to the group storage, is thrown away" in outbox.add(box, entry(999))
    assert len(box) == outbox.MOST
