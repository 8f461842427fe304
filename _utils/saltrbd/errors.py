"""Every error of the package, as a flat list of named classes.

All are subclasses of :class:`RbdError`, which is Salt's ``CommandExecutionError``, so that an execution module that
raises one shows its sentence and no traceback. Callers tell errors apart by class, never by text.
"""

try:
    from salt.exceptions import CommandExecutionError
except ImportError:  # the core is importable without Salt, for its own tests and for the lab

    class CommandExecutionError(Exception):
        """Stands for Salt's class of the same name where Salt is not installed."""


class RbdError(CommandExecutionError):
    """The base of all errors of this package."""


class InvalidSpec(RbdError):
    """The text is not ``pool[/namespace]/image[@snapshot]``."""


class InvalidSize(RbdError):
    """The text is not a size such as ``512M`` or ``10G``."""


class InvalidArgument(RbdError):
    """An argument has a value that Ceph, the filesystem or this package cannot take."""


class InvalidPillar(RbdError):
    """The pillar has mistakes; the message lists every one."""

    @classmethod
    def of(cls, mistakes):
        """Return the error that tells all these mistakes."""
        return cls("The pillar has mistakes, so nothing was touched. {}.".format(". ".join(mistakes)))


class NoBindings(RbdError):
    """No Python interpreter with the modules ``rados`` and ``rbd`` was found."""


class WorkerDied(RbdError):
    """The worker process ended in the middle of a call; the outcome of that call is not known."""


class ClusterUnreachable(RbdError):
    """The monitors did not answer, or refused the connection."""


class InvalidConfiguration(RbdError):
    """Ceph's configuration file is missing, unreadable or wrong, or names no monitor."""


class AuthenticationFailed(RbdError):
    """The keyring is missing, unreadable or has no key of the Ceph user, or the monitors refuse the key."""


class SessionLost(RbdError):
    """The cluster has shut the session out: its address, or this whole host, is on the OSDs' blocklist."""


class WrongCluster(RbdError):
    """The connected cluster's fsid is not the one that the pillar names; nothing was done."""


class CephTimeout(RbdError):
    """A call passed its time limit; the outcome of that call is not known unless the message tells."""


class PermissionDenied(RbdError):
    """The Ceph user lacks a capability for this operation."""


class PoolNotFound(RbdError):
    """The pool does not exist."""


class NamespaceNotFound(RbdError):
    """The namespace does not exist."""


class NamespaceExists(RbdError):
    """A namespace of that name exists already."""


class ImageNotFound(RbdError):
    """The image (or its namespace) does not exist."""


class ImageExists(RbdError):
    """An image of that name exists already."""


class ImageReplaced(RbdError):
    """The image of that name is another one than the one that was checked; nothing was removed."""


class SnapshotNotFound(RbdError):
    """The snapshot does not exist."""


class SnapshotExists(RbdError):
    """A snapshot of that name exists already."""


class Busy(RbdError):
    """The image, snapshot or device is in use; the message names the user where it is known."""


class NotProtected(RbdError):
    """A format-1 clone needs a protected parent snapshot."""


class NotSupported(RbdError):
    """The cluster, the kernel or the tools on this host cannot do this."""


class NoSpace(RbdError):
    """The cluster is full, or a quota is reached."""


class ReadOnly(RbdError):
    """The image is read-only here: a snapshot, or another client holds its exclusive lock."""


class CephError(RbdError):
    """Ceph answered with an error that has no class of its own; the message carries its errno."""


class Refused(RbdError):
    """The package itself refuses: doing this could lose data. The message lists every reason."""


class NotConverged(RbdError):
    """A second look at the cluster does not confirm what was done."""


class CommandFailed(RbdError):
    """A tool on this host ended with an error; the message carries its last lines."""


class CommandNotFound(RbdError):
    """A tool that is needed is not installed; the message names its package."""


class CommandTimeout(RbdError):
    """A tool on this host passed its time limit and was ended, or could not be ended (state D)."""


class NotMapped(RbdError):
    """The image has no device on this host."""


class StaleMapping(RbdError):
    """The image's device on this host is of no use any more: its daemon is dead, or the image was removed since."""


class NotMounted(RbdError):
    """Nothing is mounted there, or something else than the image."""


class NotBlank(RbdError):
    """The device carries data (``data`` True), or cannot be proven blank."""

    data = False


class WrongPassphrase(RbdError):
    """The passphrase in the pillar does not open the image's LUKS header."""


class FilesystemDamaged(RbdError):
    """The read-only check of a filesystem does not pass."""


class FreezeFailed(RbdError):
    """The filesystem could not be frozen, or somebody else froze it. ``blocked``: {image: why} of those that stood in the way, ``busy``
    those of them that are frozen already."""

    def __init__(self, message="", blocked=None, busy=()):
        super().__init__(message)
        self.blocked, self.busy = dict(blocked or {}), frozenset(busy)


def by_name(name):
    """Return the error class of this name (the worker sends names), :class:`CephError` for an unknown one."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, RbdError):
        return found
    return CephError


def together(failed):
    """Return one error for the errors of a batch: with every sentence, and their class where they share one."""
    if len(failed) == 1:
        return failed[0]
    kinds = {type(error) for error in failed}
    return (kinds.pop() if len(kinds) == 1 else CephError)(" ".join(str(error) for error in failed))


class ServerNotRunning(RbdError):
    """No PostgreSQL server runs on the data folder, or it does not answer."""


class QueryFailed(RbdError):
    """PostgreSQL refused a statement; the message has its words, and never a password."""


class InvalidArchive(RbdError):
    """The archive of binaries is missing, is not the one that was declared, or holds no PostgreSQL."""


def unknown_keys(keys, known):
    """Return the mistake of a mapping that has keys beside the ``known`` ones, or an empty text where it has none."""
    found = sorted(map(quoted, set(keys) - set(known)))
    word = "key" if len(found) == 1 else "keys"
    return "unknown {} {} (there are {})".format(word, ", ".join(found), ", ".join(sorted(known))) if found else ""


def quoted(value):
    """Return ``repr(value)`` for a message: at most 100 characters, printable, and never an error of its own."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write numbers of more than 4300 digits
        text = "a number too long to be shown"
    except RecursionError:
        text = "something that contains itself"
    return text if len(text) <= 100 else text[:97] + "..."
