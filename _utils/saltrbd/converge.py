"""The one way of every state: look, plan, stop here in a dry run, act, look again.

A dry run and a real run walk the same lines up to the first write, so that a dry run finds every refusal and predicts
exactly the changes.
"""

from collections import namedtuple

from saltrbd.errors import AuthenticationFailed, CommandExecutionError, InvalidConfiguration, NoBindings

# What earlier states of the same dry run would make lives in Salt's context under this key.
_CONTEXT = "saltrbd.planned"
# The key in the result of a state that ran in a process of its own.
_RESULT = "planned"

# A device or folder can go, or turn read-only, between two looks at it.
_ERRORS = (CommandExecutionError, OSError)

# What a host says that is no client of the cluster yet, and the state tree that makes it one.
_NO_CLIENT = (NoBindings, InvalidConfiguration, AuthenticationFailed)
_CLIENT_SLS = "ceph"


class Plan(namedtuple("Plan", "steps changes refusals planned notes")):
    """What is to be done.

    ``steps``: [(execution function, keyword arguments), ...] in order. ``changes``: {"pool/image": {field: {"old", "new"}}}.
    ``refusals``: sentences; with one of them nothing is done. ``planned``: {key: facts} as later states of a dry run
    shall see them. ``notes``: sentences that the comment carries.
    """

    __slots__ = ()

    def __new__(cls, steps=(), changes=None, refusals=(), planned=None, notes=()):
        """Make a plan; what is not given is empty."""
        return super().__new__(cls, list(steps), dict(changes or {}), list(refusals), dict(planned or {}), list(notes))


def change(old, new):
    """Return one field's entry in changes."""
    return {"old": old, "new": new}


def merge(plans):
    """Return the plans of many resources as one: refused as a whole when one of them is."""
    whole = Plan()
    for plan in plans:
        whole.steps.extend(plan.steps)
        whole.changes.update(plan.changes)
        whole.refusals.extend(plan.refusals)
        whole.planned.update(plan.planned)
        whole.notes.extend(plan.notes)
    return whole


class Known(dict):
    """What earlier states of a dry run would make: {key: facts}. ``parallel``: this state runs in a process of its own.

    ``client``: an earlier state of ``salt/ceph`` would change something, so this host may lack what it needs to ask the cluster.
    """

    parallel = False
    client = False

    def take(self, planned):
        """Remember what a state would make. An image that goes takes its snapshots along."""
        for (kind, name), facts in planned.items():
            if kind == "image" and facts is None:
                for key in [key for key in self if key[0] == "snapshot" and key[1].startswith(name + "@")]:
                    del self[key]
        self.update(planned)


def known(scope):
    """Return the :class:`Known` facts of this dry run, to be asked before the cluster is. ``scope``: the state module's ``globals()``.

    In a real run, and where Salt gives the run no ``__instance_id__``, nothing is remembered. A state with ``parallel: True``
    runs in a forked child, whose memory goes with it: its facts come back as part of its result.
    """
    run = scope.get("__instance_id__")
    if not scope["__opts__"]["test"] or not run:
        scope["__context__"].pop(_CONTEXT, None)
        return Known()
    kept = scope["__context__"].get(_CONTEXT)
    if kept is None or kept[0] != run:
        kept = scope["__context__"][_CONTEXT] = (run, Known(), set())
    _, facts, read = kept
    running = scope.get("__running__") or {}
    for tag, result in running.items():
        if _RESULT in result and tag not in read:
            read.add(tag)
            facts.take({tuple(key): value for key, value in result[_RESULT].copy()})
    facts.client = any(_would_make_client(result) for result in running.values())
    facts.parallel = bool((scope.get("__low__") or {}).get("parallel"))
    return facts


def _would_make_client(result):
    return result.get("result") is None and str(result.get("__sls__")).split(".")[0] == _CLIENT_SLS


def converge(name, test, look, act, known, same):
    """Make it so and return the state's result.

    ``look()`` reads the facts and returns a :class:`Plan`; ``act(function, arguments)`` carries out one step and may
    return a sentence for the comment; ``known`` is what :func:`known` gave; ``same`` is the comment when nothing is to be done.
    """
    try:
        plan = look()
    except _ERRORS as error:
        if test and known.client and isinstance(error, _NO_CLIENT):
            return _result(name, None, {}, ["What {} needs is not known before salt/ceph is applied: {}".format(name, error)])
        return _result(name, False, {}, [str(error)])
    if plan.refusals:
        return _result(name, False, {}, plan.refusals)
    if test:
        known.take(plan.planned)
    if not plan.changes:
        return _result(name, True, {}, [same] + plan.notes)
    if test:
        result = _result(name, None, plan.changes, [_sentence("Would change", plan.changes)] + plan.notes)
        if known.parallel:
            result[_RESULT] = [[list(key), facts] for key, facts in plan.planned.items()]
        return result
    said, failure = [], None
    try:
        for function, arguments in plan.steps:
            sentence = act(function, arguments)
            if isinstance(sentence, str):
                said.append(sentence)
    except _ERRORS as error:
        failure = error
    return _second_look(name, look, plan, said, failure)


def _second_look(name, look, plan, said, failure):
    try:
        again = look()
    except _ERRORS as error:
        reasons = [str(failure)] if failure else said
        return _result(name, False, {}, reasons + ["What was changed is not known, the second look failed: {}".format(error)])
    done = _without(plan.changes, again.changes)
    if failure:
        return _result(name, False, done, [str(failure)])
    if again.changes or again.refusals:
        left = again.refusals or [_sentence("still to change", again.changes)]
        return _result(name, False, done, said + ["A second look does not confirm the change: " + " ".join(left)])
    return _result(name, True, plan.changes, [_sentence("Changed", plan.changes)] + said + plan.notes)


def _without(changes, left):
    """Return the changes of which nothing is left."""
    done = {}
    for name, fields in changes.items():
        kept = {field: entry for field, entry in fields.items() if field not in left.get(name, {})}
        if kept:
            done[name] = kept
    return done


def _sentence(verb, changes):
    parts = ["{} ({})".format(name, ", ".join(_field(*item) for item in fields.items())) for name, fields in changes.items()]
    if len(parts) > 8:
        parts = parts[:8] + ["and {} more".format(len(parts) - 8)]
    return "{} {}.".format(verb, "; ".join(parts))


def _field(name, entry):
    old, new = entry["old"], entry["new"]
    if old in (None, {}, []):
        return "{}: {}".format(name, new)
    return "{}: {} to {}".format(name, old, "nothing" if new is None else new)


def _result(name, result, changes, sentences):
    return {"name": name, "result": result, "changes": changes, "comment": " ".join(part for part in sentences if part)}
