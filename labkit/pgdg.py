"""A repository as the PostgreSQL project has it, for tests: packages of its names that lay down the same paths, around real binaries."""

import shutil
import zipfile

from labkit import apt as repository
from labkit.commands import run

# The archive of binaries has no clients; those of the node's own system serve older servers.
CLIENTS = ("psql", "pg_dump", "pg_dumpall", "pg_restore", "createdb")


def apt(folder, jar, major, minor, newer):
    """Make an apt repository in the folder, signed by a key of its own, with the archive's server as ``postgresql-MAJOR``.

    ``newer`` is the version of the system's own clients. The suite is ``lab-pgdg-archive``; the public key is ``key.asc`` beside it.
    """
    build = folder / "build"
    program = f"usr/lib/postgresql/{major}"
    server = build / "server"
    unpack(jar, server / program)
    repository.package(build, server, f"postgresql-{major}", f"{minor}-1.pgdg1", f"postgresql-common, postgresql-client-{major}")
    clients = build / "clients"
    (clients / program / "bin").mkdir(parents=True)
    for name in CLIENTS:
        (clients / program / "bin" / name).symlink_to(f"/usr/lib/postgresql/{newer}/bin/{name}")
    repository.package(build, clients, f"postgresql-client-{major}", f"{minor}-1.pgdg1", f"postgresql-client-{newer}")
    contrib = build / "contrib"
    contrib.mkdir()
    repository.package(build, contrib, f"postgresql-contrib-{major}", f"{minor}-1.pgdg1", f"postgresql-{major}")
    repository.index(folder, build, "lab-pgdg-archive")
    shutil.rmtree(build)


def unpack(jar, target):
    """Unpack the server of a jar of binaries into the folder ``target``, which must not exist."""
    target.mkdir(parents=True)
    with zipfile.ZipFile(jar) as outer:
        (name,) = [item for item in outer.namelist() if "Linux" in item]
        tarball = outer.extract(name, target)
    run(["tar", "--extract", f"--file={tarball}", f"--directory={target}", "--no-same-owner"], timeout=300)
    (target / name).unlink()
