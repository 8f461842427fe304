"""How every state is tested: dry and real run agree, and a second run changes nothing."""


def both(state, *args, **kwargs):
    """Run a state dry and real and compare; then once more, when nothing may be left to do. Returns the real result."""
    dry = state(*args, test=True, **kwargs)
    real = state(*args, **kwargs)
    assert real.result is True, real.comment
    assert dry.result is None, dry.comment
    assert dry.changes == real.changes
    unchanged(state, *args, **kwargs)
    return real


def unchanged(state, *args, **kwargs):
    """Run a state dry and real; neither may change anything."""
    for test in (True, False):
        again = state(*args, test=test, **kwargs)
        assert (again.result, again.changes) == (True, {}), again.comment


def refused(state, *args, **kwargs):
    """Run a state dry and real; both must refuse with the same sentence, which is returned."""
    dry = state(*args, test=True, **kwargs)
    real = state(*args, **kwargs)
    assert (dry.result, real.result) == (False, False), (dry.comment, real.comment)
    assert (dry.changes, real.changes) == ({}, {})
    assert dry.comment == real.comment, (dry.comment, real.comment)
    return real.comment
