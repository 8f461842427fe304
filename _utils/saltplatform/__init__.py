"""The platform around the storage: plain Python, without any Salt dunder.

``pillar`` reads ``platform:``, ``schema`` says what a document may hold, ``document`` makes and merges it, ``shown`` takes secrets out,
``table`` and ``rows`` are the platform's table, ``database`` is the session on it.

As in :mod:`saltrbd`, ``from saltplatform import ...`` takes the newest files after a sync, in a minion that lives for long.
"""

import importlib
import sys
import types


class _Package(types.ModuleType):
    """The package as ``from saltplatform import name`` sees it."""

    def __getattribute__(self, name):
        if not name.startswith("_"):
            # saltrbd looks after the files of both, and forgets both where they have changed.
            importlib.import_module("saltrbd").errors  # noqa: B018
            newest = sys.modules.get(__name__) or importlib.import_module(__name__)
            if newest is not self:
                return getattr(newest, name)
        return super().__getattribute__(name)


# Salt's loader also makes a module of this file under a name of its own, for __utils__: nobody imports from that one.
if __name__ == "saltplatform":
    sys.modules[__name__].__class__ = _Package
