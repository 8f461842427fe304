"""What the tests of the site ask of a highstate's answers."""


def results(answer):
    """Return ``{minion: {state's tag: result}}``; a highstate that was not run at all is a failure."""
    strange = {minion: said for minion, said in answer.items() if not isinstance(said, dict)}
    assert not strange, strange
    return answer


def failed(answer):
    """Return what did not succeed, as ``{minion: {id: comment}}``."""
    found = {
        minion: {one["__id__"]: one["comment"] for one in states.values() if one["result"] is False}
        for minion, states in results(answer).items()
    }
    return {minion: states for minion, states in found.items() if states}


def changed(answer):
    """Return the tags of the states that changed something, for each minion."""
    return {minion: {tag for tag, one in states.items() if one["changes"]} for minion, states in results(answer).items()}


def predicted(answer):
    """Return the tags of the states that would change something, for each minion."""
    return {minion: {tag for tag, one in states.items() if one["result"] is None} for minion, states in results(answer).items()}
