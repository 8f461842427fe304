"""Every error of the platform's part, as named classes; all are :class:`saltrbd.errors.RbdError` and so Salt's ``CommandExecutionError``.

No message holds a secret: neither a value of a document nor the words of a statement go into one.
"""

from saltrbd.errors import RbdError


class PlatformError(RbdError):
    """The base of the errors of this part."""


class InvalidDocument(PlatformError):
    """A document does not fit its JSON schema; ``defects`` has every one as ``(JSON path, sentence)``."""

    def __init__(self, message="", defects=()):
        super().__init__(message)
        self.defects = list(defects)


class UnreadableDocument(PlatformError):
    """What stands in a row is no JSON object, so nothing of it can be kept."""


class DatabaseUnreachable(PlatformError):
    """The database server does not answer, or there is no such database."""


class LoginRefused(PlatformError):
    """The server does not let the declared user in."""


class DatabaseTimeout(PlatformError):
    """The server did not end its work in time; nothing was written unless the message says so."""


class TableMissing(PlatformError):
    """The table does not exist."""


class TableRefused(PlatformError):
    """The table is not as this package makes it; it is never altered. The message lists every difference."""


class NotPermitted(PlatformError):
    """The database user lacks a privilege."""


class WriteFailed(PlatformError):
    """The server refused to write; the message has its error code and never its words about the row."""
