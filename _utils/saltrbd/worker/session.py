"""One RADOS session: I/O contexts, open images, and Ceph's exceptions as names that the client knows."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import rados
import rbd


class WorkerError(Exception):
    """An error with a name from ``saltrbd.errors``, the sentence for people, and facts for the caller."""

    def __init__(self, name, message, **facts):
        super().__init__(message)
        self.name, self.message, self.facts = name, message, facts


# What Ceph raises, what it is called in saltrbd.errors, and the words for people; empty words: Ceph's own are better.
_NAMES = [
    (
        (rbd.ConnectionShutdown, rados.ConnectionShutdown),
        "SessionLost",
        "the cluster has shut this session out (its address is on the OSDs' blocklist)",
    ),
    (rbd.ImageNotFound, "ImageNotFound", "the image does not exist"),
    (rbd.ImageExists, "ImageExists", "an image of that name exists already"),
    (rbd.ImageHasSnapshots, "Busy", "the image has snapshots"),
    (rbd.ImageBusy, "Busy", ""),
    (rbd.ReadOnlyImage, "ReadOnly", "the image can only be read here: another client holds its lock, or it is not the primary one"),
    ((rbd.NoSpace, rbd.DiskQuotaExceeded, rados.NoSpace), "NoSpace", "the cluster is full, or a quota is reached"),
    ((rbd.PermissionError, rados.PermissionError, rados.PermissionDeniedError), "PermissionDenied", "the cluster does not permit it"),
    ((rbd.FunctionNotSupported, rbd.OperationNotSupported), "NotSupported", ""),
    ((rbd.InvalidArgument, rbd.ArgumentOutOfRange, rados.InvalidArgumentError), "InvalidArgument", ""),
    ((rbd.Timeout, rados.TimedOut), "CephTimeout", "the cluster's own time limit passed"),
    (rados.ObjectNotFound, "ImageNotFound", ""),
]
# Bytes of a keyring file that are looked at.
_KEYRING_SIZE = 1 << 20


def describe(error):
    """Return (name, sentence, facts) of any exception for the answer line."""
    if isinstance(error, WorkerError):
        return error.name, error.message, error.facts
    number = getattr(error, "errno", None)
    text = str(error) or type(error).__name__
    if number and errno.errorcode.get(number):
        text = "{} ({})".format(text, errno.errorcode[number])
    for classes, name, words in _NAMES:
        if isinstance(error, classes):
            return name, words or text, {"ceph": text}
    if isinstance(error, (rbd.Error, rados.Error)):
        return "CephError", text, {}
    return "CephError", "{}: {}".format(type(error).__name__, text), {}


def connection_error(error):
    """Return (name, sentence, facts) of an exception from the start of a session: never an error of an image."""
    name, message, facts = describe(error)
    return name if isinstance(error, WorkerError) else "ClusterUnreachable", message, facts


class Session:
    """The connection. ``connect`` may block for longer than its time limit says; the client holds the clock."""

    def __init__(self, settings, tell):
        self.settings, self._tell = settings, tell
        self._lock, self._formats_lock = threading.Lock(), threading.Lock()
        self._ioctxs = {}
        self._formats = {}
        # This worker as the cluster sees it: numbers of its clients, and their addresses.
        self.instances, self.addresses = set(), []
        self.rados = self._open({})
        self.fsid = self.rados.get_fsid()

    def _open(self, extra):
        handle = self._configured(extra)
        if not extra:
            self._tell(monitors=handle.conf_get("mon_host"))
        if self.settings["keyring"] and not (handle.conf_get("key") or handle.conf_get("keyfile")):
            # Else librados goes on without authentication and hunts for a monitor that takes that, until the time is up.
            fault = _keyring_fault("client." + self.settings["user"], [self.settings["keyring"]])
            if fault:
                raise WorkerError("AuthenticationFailed", fault)
        try:
            handle.connect(timeout=max(1, int(self.settings["timeout"])))  # newer bindings take whole seconds alone
        except Exception as error:  # noqa: BLE001 the bindings raise many kinds
            raise self._refusal(handle, error)
        self.instances.add(handle.get_instance_id())
        self.addresses.append(handle.get_addrs())
        self._tell(session=self.addresses[-1])
        return handle

    def _configured(self, extra):
        settings = self.settings
        conf = {"log_to_stderr": "false", "err_to_stderr": "false", "log_file": "", "admin_socket": ""}
        if settings["mon_host"]:
            conf["mon_host"] = settings["mon_host"]
        if settings["keyring"]:
            conf["keyring"] = settings["keyring"]
        conf.update(extra)
        # Not NO_CONF_FILE: with it the path of the default keyring is never made out.
        file = settings["conf"] or os.devnull
        if settings["conf"]:
            fault = _unreadable(file)
            if fault:
                raise WorkerError(
                    "InvalidConfiguration",
                    "the configuration file {} cannot be read ({}); name it as ceph:conf, or give ceph:monitors".format(file, fault),
                )
        try:
            return rados.Rados(name="client." + settings["user"], conffile=file, conf=conf)
        except rados.Error as error:
            raise WorkerError(
                "InvalidConfiguration", "Ceph does not understand the configuration file {} ({})".format(file, describe(error)[1])
            )

    def _refusal(self, handle, error):
        """Return a connection's error with the cause that a person can mend, as far as it can be told from here."""
        user, files = "client." + self.settings["user"], [name.strip() for name in handle.conf_get("keyring").split(",")]
        fault = "" if handle.conf_get("key") else _keyring_fault(user, [name for name in files if name])
        number = getattr(error, "errno", None)
        if number in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR) and fault:
            return WorkerError("AuthenticationFailed", fault)
        if number in (errno.EACCES, errno.EPERM):
            words = "the monitors refuse the key of {0} in {1}; it must be the one that 'ceph auth get {0}' prints"
            return WorkerError("AuthenticationFailed", words.format(user, ", ".join(files)))
        if number == errno.EIO:
            words = "the keyring {1} is no keyring of Ceph's, or its key is damaged; write into it what 'ceph auth get {0}' prints"
            return WorkerError("AuthenticationFailed", words.format(user, ", ".join(files)))
        if number in (errno.ENOENT, errno.EINVAL):
            named = handle.conf_get("mon_host")
            return WorkerError(
                "InvalidConfiguration",
                "the monitors' addresses '{}' are unknown or cannot be understood".format(named) if named else "no monitor is named there",
            )
        return error

    def fence(self, fence):
        """Shut the sessions of a dead (or dying) worker out of its cluster; ``fence`` is (fsid, addresses) or None.

        Their locks and watches go at once, where they would stay for 30 s, and nothing that they sent is carried out later.
        A user without the capability for it (profile rbd has it) has to wait these 30 s.
        """
        if not fence or fence[0] != self.fsid or not fence[1]:
            return
        block = getattr(self.rados, "blocklist_add", None) or self.rados.blacklist_add

        def shut_out(address):
            try:
                block(address)
            except rados.Error:
                pass

        with ThreadPoolExecutor(max_workers=len(fence[1])) as pool:  # the monitor takes all at once, once a second
            list(pool.map(shut_out, fence[1]))

    def with_clone_format(self, number):
        """Return a Rados handle of its own whose ``rbd_default_clone_format`` is this one: the option is the
        session's, so it is never switched on the handle that other threads share."""
        with self._formats_lock:
            if number not in self._formats:
                handle = self._open({"rbd_default_clone_format": str(number)})
                if handle.get_fsid() != self.fsid:
                    raise WorkerError("WrongCluster", "the configuration names another cluster by now ({})".format(handle.get_fsid()))
                self._formats[number] = handle
            return self._formats[number]

    def ioctx(self, pool, namespace="", handle=None):
        """Return the I/O context of a pool and namespace; kept for the session. A pool made anew gets a new one."""
        handle = handle or self.rados
        number = handle.pool_lookup(pool)
        if number is None:
            raise _no_pool(pool)
        key = (id(handle), number, namespace)
        with self._lock:
            if key in self._ioctxs:
                return self._ioctxs[key]
        try:
            context = handle.open_ioctx2(number)
        except rados.ObjectNotFound:
            raise _no_pool(pool)
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
            # Its pool may have gone since it was looked up; the answer came with the map that tells.
            self.ioctx(pool, namespace)
            if snapshot:
                with rbd.Image(context, read_only=True, **options):
                    raise WorkerError("SnapshotNotFound", "the snapshot does not exist")
            raise
        try:
            yield handle
        finally:
            handle.close()


def _unreadable(path):
    """Return why a file cannot be read, or empty."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _no_pool(pool):
    words = "the pool {0} does not exist; correct its name, or make it by 'ceph osd pool create {0}' and 'rbd pool init {0}'"
    return WorkerError("PoolNotFound", words.format(pool))


def _keyring_fault(user, files):
    """Return what is wrong with the keyring of this user, or empty. Ceph takes the first file that it can read."""
    faults = []
    for path in files:
        fault = _unreadable(path)
        if fault:
            faults.append("{}: {}".format(path, fault))
            continue
        with open(path, "rb") as file:
            known = "[{}]".format(user).encode("utf-8") in file.read(_KEYRING_SIZE)
        return "" if known else "the keyring {1} has no key of {0}; write into it what 'ceph auth get {0}' prints".format(user, path)
    words = "no keyring of {0} can be read ({1}); name it as ceph:keyring, and write into it what 'ceph auth get {0}' prints"
    return words.format(user, "; ".join(faults) or "none is named")
