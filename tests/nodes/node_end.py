"""A node goes with the test that has it."""

import contextlib


@contextlib.contextmanager
def ending(node):
    """End a node after what is done inside, also when that fails."""
    try:
        yield
    finally:
        problems = node.end()
    assert not problems, problems
