"""PostgreSQL from an archive of binaries: a tarball, or a jar or zip that holds one, known by its SHA-256."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import zipfile

from saltrbd.errors import InvalidArchive

# Written into the folder that was unpacked: the archive's SHA-256.
MARKER = ".salt-archive"

_INNER = re.compile(r"\.(txz|tbz2?|tgz|tar\.(xz|bz2|gz))$")
# What a cluster cannot be made and run without.
_NEEDED = ("bin/initdb", "bin/pg_ctl", "bin/postgres")


def prefix(place):
    """Return the folder that an archive is unpacked into."""
    return os.path.dirname(place["bin_dir"])


def marker(place):
    """Return the path of the file that says which archive was unpacked."""
    return os.path.join(prefix(place), MARKER)


def installed(place):
    """Return the SHA-256 of the archive that is unpacked, or an empty text."""
    try:
        with open(marker(place)) as file:
            return file.read().strip()
    except OSError:
        return ""


def digest(path):
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def check(place, found):
    """Raise :class:`InvalidArchive` where the SHA-256 that was ``found`` is not the declared one; an empty text stands for no archive."""
    source, wanted = place["archive"]["source"], place["archive"]["sha256"]
    if not found:
        raise InvalidArchive("The archive {} is not there.".format(source))
    if found != wanted:
        raise InvalidArchive("{} has the SHA-256 {}, not {} as declared.".format(source, found, wanted))


def install(place, path):
    """Unpack the archive into its folder, in place of an older one; raises :class:`InvalidArchive`."""
    wanted = place["archive"]["sha256"]
    check(place, digest(path) if path and os.path.isfile(path) else "")
    where = prefix(place)
    new, old = where + ".salt-new", where + ".salt-old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(new, mode=0o755)
    _unpack(path, new)
    missing = [name for name in _NEEDED if not os.path.exists(os.path.join(new, name))]
    if missing:
        shutil.rmtree(new)
        raise InvalidArchive("{} holds no {}.".format(place["archive"]["source"], ", ".join(missing)))
    _check_version(place, new)
    with open(os.path.join(new, MARKER), "w") as file:
        file.write(wanted + "\n")
    if os.path.isdir(where):
        os.rename(where, old)
    os.rename(new, where)
    shutil.rmtree(old, ignore_errors=True)


def _check_version(place, folder):
    said = subprocess.run([os.path.join(folder, "bin/postgres"), "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    text = said.stdout.decode("utf-8", "replace").strip()
    if said.returncode or not re.search(r" {}(\.|$|\s)".format(re.escape(place["version"])), text):
        shutil.rmtree(folder)
        raise InvalidArchive(
            "{} is not PostgreSQL {}: its postgres says {}.".format(place["archive"]["source"], place["version"], text[:200])
        )


def _unpack(path, folder):
    if not zipfile.is_zipfile(path):
        with tarfile.open(path) as tar:
            _extract(tar, folder)
        return
    with zipfile.ZipFile(path) as outer:
        # A jar may hold one for each system.
        inner = [name for name in outer.namelist() if _INNER.search(name)]
        fitting = [name for name in inner if "linux" in name.lower()] or inner
        if len(fitting) != 1:
            raise InvalidArchive("{} holds {} tarballs of binaries for Linux, not one.".format(path, len(fitting)))
        with outer.open(fitting[0]) as stream, tarfile.open(fileobj=stream, mode="r|" + _kind(fitting[0])) as tar:
            _extract(tar, folder)


def _kind(name):
    return "xz" if name.endswith("xz") else "gz" if name.endswith("gz") else "bz2"


def _extract(tar, folder):
    """Only plain files, folders and links that stay inside; the programs belong to root."""
    top = os.path.realpath(folder)
    for member in tar:
        name = _short(member.name)
        target = os.path.realpath(os.path.join(top, name))
        inside = target == top or target.startswith(top + os.sep)
        if not inside or not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
            raise InvalidArchive("The archive has a member that is not unpacked: {!r}.".format(member.name))
        if member.issym():
            aim = os.path.realpath(os.path.join(os.path.dirname(target), member.linkname))
            if not aim.startswith(top + os.sep):
                raise InvalidArchive("The archive has a link that leads out of it: {!r}.".format(member.name))
        if member.islnk():
            member.linkname = _short(member.linkname)
        member.name, member.uid, member.gid, member.uname, member.gname = name or ".", 0, 0, "root", "root"
        member.mode &= 0o755
        tar.extract(member, folder)


def _short(name):
    """Some archives have everything in a folder pgsql/."""
    name = name[2:] if name.startswith("./") else name
    return name[len("pgsql/") :] if name.startswith("pgsql/") else name
