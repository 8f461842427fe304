"""One RADOS session: I/O contexts, open images, and Ceph's exceptions as names that the client knows."""

import errno
import threading
from contextlib import contextmanager

import rados
import rbd


class WorkerError(Exception):
    """An error with a name from ``saltrbd.errors``, the sentence for people, and facts for the caller."""

    def __init__(self, name, message, **facts):
        super().__init__(message)
        self.name, self.message, self.facts = name, message, facts


_NAMES = [
    (rbd.ImageNotFound, "ImageNotFound"),
    (rbd.ImageExists, "ImageExists"),
    (rbd.ImageHasSnapshots, "Busy"),
    (rbd.ImageBusy, "Busy"),
    (rbd.ReadOnlyImage, "ReadOnly"),
    ((rbd.NoSpace, rbd.DiskQuotaExceeded, rados.NoSpace), "NoSpace"),
    ((rbd.PermissionError, rados.PermissionError, rados.PermissionDeniedError), "PermissionDenied"),
    ((rbd.FunctionNotSupported, rbd.OperationNotSupported), "NotSupported"),
    ((rbd.InvalidArgument, rbd.ArgumentOutOfRange, rados.InvalidArgumentError), "InvalidArgument"),
    ((rbd.Timeout, rados.TimedOut), "CephTimeout"),
    (rados.ObjectNotFound, "ImageNotFound"),
]


def describe(error):
    """Return (name, sentence, facts) of any exception for the answer line."""
    if isinstance(error, WorkerError):
        return error.name, error.message, error.facts
    number = getattr(error, "errno", None)
    text = str(error) or type(error).__name__
    if number and errno.errorcode.get(number):
        text = "{} ({})".format(text, errno.errorcode[number])
    for classes, name in _NAMES:
        if isinstance(error, classes):
            return name, text, {}
    if isinstance(error, (rbd.Error, rados.Error)):
        return "CephError", text, {}
    return "CephError", "{}: {}".format(type(error).__name__, text), {}


class Session:
    """The connection. ``connect`` may block as long as librados likes; the client holds the clock."""

    def __init__(self, settings):
        self.settings = settings
        self._lock = threading.Lock()
        self._ioctxs = {}
        self._formats = {}
        self.rados = self._open({})
        self.fsid = self.rados.get_fsid()
        self.instances = {self.rados.get_instance_id()}

    def _open(self, extra):
        settings = self.settings
        conf = {"log_to_stderr": "false", "err_to_stderr": "false", "log_file": "", "admin_socket": ""}
        if settings["mon_host"]:
            conf["mon_host"] = settings["mon_host"]
        if settings["keyring"]:
            conf["keyring"] = settings["keyring"]
        conf.update(extra)
        handle = rados.Rados(name="client." + settings["user"], conffile=settings["conf"] or rados.Rados.NO_CONF_FILE, conf=conf)
        handle.connect(timeout=settings["timeout"])
        return handle

    def with_clone_format(self, number):
        """Return a Rados handle of its own whose ``rbd_default_clone_format`` is this one: the option is the
        session's, so it is never switched on the handle that other threads share."""
        with self._lock:
            if number not in self._formats:
                handle = self._open({"rbd_default_clone_format": str(number)})
                self.instances.add(handle.get_instance_id())
                self._formats[number] = handle
            return self._formats[number]

    def ioctx(self, pool, namespace="", handle=None):
        """Return the I/O context of a pool and namespace; kept for the session."""
        handle = handle or self.rados
        key = (id(handle), pool, namespace)
        with self._lock:
            if key in self._ioctxs:
                return self._ioctxs[key]
        try:
            context = handle.open_ioctx(pool)
        except rados.ObjectNotFound:
            raise WorkerError("PoolNotFound", "the pool {} does not exist".format(pool))
        context.set_namespace(namespace)
        with self._lock:
            return self._ioctxs.setdefault(key, context)

    def pool_name(self, pool_id):
        """Return the name of a pool by its number."""
        return self.rados.pool_reverse_lookup(pool_id)

    @contextmanager
    def image(self, pool, namespace="", image=None, snapshot=None, image_id=None, write=False):
        """Open an image. Read-only takes no watch, so that asking never looks like using."""
        context = self.ioctx(pool, namespace)
        options = {"image_id": image_id} if image_id else {"name": image}
        try:
            handle = rbd.Image(context, snapshot=snapshot or None, read_only=not write, **options)
        except rbd.ImageNotFound:
            if snapshot:
                with rbd.Image(context, read_only=True, **options):
                    raise WorkerError("SnapshotNotFound", "the snapshot does not exist")
            raise
        try:
            yield handle
        finally:
            handle.close()
