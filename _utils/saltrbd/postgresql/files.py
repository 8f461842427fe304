"""Files that belong to the server: written whole, beside the old one, and then put in its place."""

import os
import pwd

from saltrbd.postgresql.server import USER


def read(path):
    """Return a file's text, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path, text, mode=0o600, owner=USER):
    """Write a file for a user of the operating system; nobody sees half of it, or all of it before its mode is set."""
    account = pwd.getpwnam(owner)
    new = path + ".salt-new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as file:
        os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def modified(paths):
    """Return the seconds since 1970 of the newest change of the files that exist, or 0."""
    return max([os.stat(path).st_mtime for path in paths if os.path.exists(path)], default=0)


def as_declared(path, mode=0o600, owner=USER):
    """Return whether a file belongs to this user and has this mode."""
    try:
        found = os.stat(path)
        return found.st_mode & 0o7777 == mode and found.st_uid == pwd.getpwnam(owner).pw_uid
    except (OSError, KeyError):
        return False
