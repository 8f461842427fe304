"""The core of the RBD package for Salt: plain Python, without any Salt dunder.

``spec`` and ``size`` read what people write, ``settings`` reads pillar and minion configuration, ``client`` talks to the
``worker`` process (the only code that imports ``rados`` and ``rbd``), and one module for each resource holds its ``plan``.

Salt loads execution and state modules anew after ``saltutil.sync_all``, but what those import stays in Python's memory: a
minion that lives for long would run new modules on an old core. So ``from saltrbd import ...``, with which each of them
begins, looks whether the files have changed, and takes the new ones. ``saltplatform``, which is built on it, is looked after too.
"""

import importlib
import os
import sys
import threading
import types

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_FOLDERS = (
    _FOLDER,
    *(os.path.join(_FOLDER, name) for name in ("postgresql", "worker")),
    os.path.join(os.path.dirname(_FOLDER), "saltplatform"),
)
_PACKAGES = ("saltrbd", "saltplatform")


def _files():
    """What the packages' own files are now: {path: (time of the last change, size)}."""
    found = {}
    for folder in _FOLDERS:
        if folder != _FOLDER and not os.path.isdir(folder):
            continue  # a sync that is half done
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    facts = entry.stat()
                    found[entry.path] = (facts.st_mtime_ns, facts.st_size)
    return found


class _Package(types.ModuleType):
    """The package as ``from saltrbd import name`` sees it."""

    def __getattribute__(self, name):
        if name.startswith("_"):
            return super().__getattribute__(name)
        newest = _newest()
        if newest is not self:
            return getattr(newest, name)
        return super().__getattribute__(name)


def _newest():
    """Return the package whose files are those on the disk."""
    with _lock:
        current = sys.modules.get(__name__)
        if current is not _this:
            return current or _this  # somebody else has renewed it, and what is there now looks after itself
        if _same() or _importing():
            return _this
        old = sys.modules.get(__name__ + ".client")
        if old is not None:
            old.close_idle()
        for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module(__name__)


def _same():
    try:
        return _files() == _loaded
    except OSError:
        return True  # a file goes just now, or all are gone: what is in memory is what there is


def _importing():
    """True while a module of the packages is half imported: nothing may be taken away under its feet."""
    return any(
        getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
        if "." in name and name.partition(".")[0] in _PACKAGES
    )


_lock = threading.RLock()
_loaded = _files()
# Salt's loader also makes a module of this file under a name of its own, for __utils__: nobody imports from that one.
_this = sys.modules.get(__name__) if __name__ == "saltrbd" else None
if _this is not None:
    _this.__class__ = _Package
