"""The one way of every state: look, plan, stop here in a dry run, act, look again."""

import pytest
from saltrbd import converge
from saltrbd.converge import Known, Plan, change
from saltrbd.errors import AuthenticationFailed, Busy, ClusterUnreachable, CommandExecutionError, ImageNotFound, NoBindings

MADE = {"p/i": {"image": change(None, "present"), "size": change(None, "1G")}}
KEY = ("image", "p/i")


class Cluster:
    """What a state looks at: each look takes the next plan, and the last one stays."""

    def __init__(self, *plans):
        self.plans, self.acts = list(plans), []

    def look(self):
        plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        if isinstance(plan, Exception):
            raise plan
        return plan

    def act(self, function, arguments):
        self.acts.append((function, arguments))
        if isinstance(arguments.get("fails"), Exception):
            raise arguments["fails"]
        return arguments.get("says")

    def run(self, test=False, known=None):
        known = Known() if known is None else known
        return converge.converge("i", test, self.look, self.act, known, "p/i is as declared.")


NOTHING = Plan()
MAKE = Plan([("make", {"a": 1})], MADE, planned={KEY: {"size": 1}}, notes=["A note."])


@pytest.mark.parametrize("test", [True, False])
def test_nothing_to_do(test):
    cluster = Cluster(NOTHING)
    assert cluster.run(test) == {"name": "i", "result": True, "changes": {}, "comment": "p/i is as declared."}
    assert cluster.acts == []


def test_a_dry_run_stops_before_the_first_step():
    cluster, known = Cluster(MAKE), Known()
    ran = cluster.run(True, known)
    assert ran == {
        "name": "i",
        "result": None,
        "changes": MADE,
        "comment": "Would change p/i (image: present, size: 1G). A note.",
    }
    assert cluster.acts == []
    assert known == {KEY: {"size": 1}}


def test_a_real_run_acts_and_looks_again():
    cluster, known = Cluster(MAKE, NOTHING), Known()
    ran = cluster.run(False, known)
    assert ran["result"] is True
    assert ran["changes"] == MADE
    assert ran["comment"] == "Changed p/i (image: present, size: 1G). A note."
    assert cluster.acts == [("make", {"a": 1})]
    assert known == {}


def test_what_a_step_says_is_in_the_comment():
    plan = Plan([("a", {"says": "Filesystem-consistent."}), ("b", {"says": ["no text"]})], MADE)
    assert "Filesystem-consistent." in Cluster(plan, NOTHING).run()["comment"]
    assert "no text" not in Cluster(plan, NOTHING).run()["comment"]


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("plan", [Plan(refusals=["No.", "Never."]), Plan([("make", {})], MADE, ["No.", "Never."], {KEY: {}})])
def test_a_refusal_stops_both_runs(plan, test):
    cluster, known = Cluster(plan), Known()
    assert cluster.run(test, known) == {"name": "i", "result": False, "changes": {}, "comment": "No. Never."}
    assert (cluster.acts, known) == ([], {})


@pytest.mark.parametrize("test", [True, False])
def test_an_error_while_looking(test):
    ran = Cluster(ImageNotFound("It is gone.")).run(test)
    assert (ran["result"], ran["changes"], ran["comment"]) == (False, {}, "It is gone.")


def test_an_error_of_an_older_core_is_one_sentence_too():
    # After a sync in a minion that lives for long, an execution module may hold classes of another copy of the package.
    ran = Cluster(CommandExecutionError("From elsewhere.")).run()
    assert (ran["result"], ran["comment"]) == (False, "From elsewhere.")


def test_an_error_that_is_not_ours_is_not_hidden():
    with pytest.raises(KeyError):
        Cluster(KeyError("a mistake in the code")).run()


LEFT = {"p/i": {"size": change("512M", "1G")}}
TWO_STEPS = Plan([("one", {}), ("two", {"fails": Busy("In use.")}), ("three", {})], MADE)


def test_a_step_that_fails():
    cluster = Cluster(TWO_STEPS, Plan(changes=LEFT))
    ran = cluster.run()
    assert (ran["result"], ran["comment"]) == (False, "In use.")
    # Only what the second look confirms counts as done.
    assert ran["changes"] == {"p/i": {"image": change(None, "present")}}
    assert [function for function, _ in cluster.acts] == ["one", "two"]


def test_a_step_that_fails_with_everything_left_to_do():
    ran = Cluster(TWO_STEPS, TWO_STEPS).run()
    assert (ran["result"], ran["changes"], ran["comment"]) == (False, {}, "In use.")


def test_a_step_that_fails_and_refusals_after_it():
    # Refused plans carry what is left to change, so that nothing undone is told as done.
    ran = Cluster(TWO_STEPS, Plan(changes=MADE, refusals=["Somebody uses it now."])).run()
    assert (ran["result"], ran["changes"], ran["comment"]) == (False, {}, "In use.")


def test_a_step_that_fails_after_all_was_done():
    ran = Cluster(TWO_STEPS, NOTHING).run()
    assert (ran["result"], ran["changes"], ran["comment"]) == (False, MADE, "In use.")


@pytest.mark.parametrize(
    ("again", "words", "done"),
    [
        (
            Plan(changes=LEFT),
            "does not confirm the change: still to change p/i (size: 512M to 1G).",
            {"p/i": {"image": change(None, "present")}},
        ),
        (Plan(changes=MADE, refusals=["It lies in the trash."]), "does not confirm the change: It lies in the trash.", {}),
        (ImageNotFound("It is gone."), "the second look failed: It is gone.", {}),
    ],
)
def test_what_a_second_look_does_not_confirm(again, words, done):
    ran = Cluster(MAKE, again).run()
    assert ran["result"] is False
    assert words in ran["comment"]
    assert ran["changes"] == done


def test_a_failure_and_a_failed_second_look_are_both_told():
    ran = Cluster(TWO_STEPS, ImageNotFound("It is gone.")).run()
    assert "In use." in ran["comment"]
    assert "It is gone." in ran["comment"]


def test_merge():
    other = Plan([("b", {})], {"p/j": {}}, ["No."], {("image", "p/j"): None}, ["Mark."])
    assert converge.merge([MAKE, other, NOTHING]) == Plan(
        [("make", {"a": 1}), ("b", {})],
        dict(MADE, **{"p/j": {}}),
        ["No."],
        {KEY: {"size": 1}, ("image", "p/j"): None},
        ["A note.", "Mark."],
    )
    assert converge.merge([]) == NOTHING


def test_a_long_comment_is_cut():
    changes = {"p/i{}".format(number): {"snapshot": change(None, "present")} for number in range(200)}
    comment = Cluster(Plan([("make", {})], changes)).run(True)["comment"]
    assert comment.endswith("and 192 more.")
    assert len(comment) < 400


# What earlier states of a dry run would make.


def scope(test=True, run="run 1", context=None, running=None, parallel=False):
    return {
        "__opts__": {"test": test},
        "__context__": {} if context is None else context,
        "__instance_id__": run,
        "__running__": running or {},
        "__low__": {"parallel": True} if parallel else {},
    }


def test_known_lasts_for_one_dry_run():
    context = {}
    converge.known(scope(context=context)).take({KEY: {"size": 1}})
    assert converge.known(scope(context=context)) == {KEY: {"size": 1}}
    assert converge.known(scope(context=context, run="run 2")) == {}
    assert converge.known(scope(context=context)) == {}  # the first run is over


def test_nothing_is_known_in_a_real_run():
    context = {}
    converge.known(scope(context=context)).take({KEY: {"size": 1}})
    assert converge.known(scope(test=False, context=context)) == {}
    assert converge.known(scope(context=context)) == {}


def test_nothing_is_known_without_a_run():
    context = {}
    converge.known(scope(context=context, run=None)).take({KEY: {"size": 1}})
    assert converge.known(scope(context=context, run=None)) == {}


def test_an_image_that_goes_takes_its_snapshots_along():
    known = Known()
    known.take({KEY: {"size": 1}, ("snapshot", "p/i@s"): {}, ("snapshot", "p/ii@s"): {}, ("device", "p/i"): {}})
    known.take({KEY: None})
    assert known == {KEY: None, ("snapshot", "p/ii@s"): {}, ("device", "p/i"): {}}


def test_a_parallel_state_gives_its_facts_with_its_result():
    child = converge.known(scope(parallel=True))
    ran = Cluster(MAKE).run(True, child)
    assert ran["planned"] == [[["image", "p/i"], {"size": 1}]]
    # Its memory went with its process; the next state of the parent has only the result.
    context, running = {}, {"a_|-b": ran, "c_|-d": {"result": None, "comment": "Started in a separate process"}}
    assert converge.known(scope(context=context, running=running)) == {KEY: {"size": 1}}


def test_each_result_is_read_once():
    context = {}
    running = {"a_|-b": {"planned": [[["image", "p/i"], {"size": 1}]]}}
    converge.known(scope(context=context, running=running)).take({KEY: None})
    assert converge.known(scope(context=context, running=running)) == {KEY: None}


def test_other_results_carry_no_facts():
    known = converge.known(scope())
    assert "planned" not in Cluster(MAKE).run(True, known)
    assert "planned" not in Cluster(MAKE, NOTHING).run(False, converge.known(scope(test=False, parallel=True)))


CLIENT = {"ceph's packages": {"result": None, "__sls__": "ceph"}}


@pytest.mark.parametrize(
    "running, error, result",
    [
        (CLIENT, NoBindings("no module rados"), None),
        (CLIENT, AuthenticationFailed("no keyring"), None),
        (CLIENT, ClusterUnreachable("no answer"), False),
        ({"one": {"result": True, "__sls__": "ceph"}}, NoBindings("no module rados"), False),
        ({"one": {"result": None, "__sls__": "cephalopod"}}, NoBindings("no module rados"), False),
        ({}, NoBindings("no module rados"), False),
    ],
)
def test_a_host_that_this_dry_run_would_make_a_client(running, error, result):
    scope = {"__instance_id__": "1", "__opts__": {"test": True}, "__context__": {}, "__running__": running}

    def look():
        raise error

    said = converge.converge("rbd/a", True, look, None, converge.known(scope), "")
    assert said["result"] is result and str(error) in said["comment"] and said["changes"] == {}
