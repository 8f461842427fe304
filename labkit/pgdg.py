"""A repository as the PostgreSQL project has it, for tests: packages of its names that lay down the same paths, around real binaries."""

import hashlib
import shutil
import zipfile

from labkit.commands import run

CONTROL = """\
Package: {name}
Version: {version}
Architecture: amd64
Maintainer: the lab <root@localhost>
Depends: {depends}
Description: PostgreSQL of the lab's tests
"""

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
    _package(build, server, f"postgresql-{major}", f"{minor}-1.pgdg1", f"postgresql-common, postgresql-client-{major}")
    clients = build / "clients"
    (clients / program / "bin").mkdir(parents=True)
    for name in CLIENTS:
        (clients / program / "bin" / name).symlink_to(f"/usr/lib/postgresql/{newer}/bin/{name}")
    _package(build, clients, f"postgresql-client-{major}", f"{minor}-1.pgdg1", f"postgresql-client-{newer}")
    contrib = build / "contrib"
    contrib.mkdir()
    _package(build, contrib, f"postgresql-contrib-{major}", f"{minor}-1.pgdg1", f"postgresql-{major}")
    _index(folder, build)
    shutil.rmtree(build)


def unpack(jar, target):
    """Unpack the server of a jar of binaries into the folder ``target``, which must not exist."""
    target.mkdir(parents=True)
    with zipfile.ZipFile(jar) as outer:
        (name,) = [item for item in outer.namelist() if "Linux" in item]
        tarball = outer.extract(name, target)
    run(["tar", "--extract", f"--file={tarball}", f"--directory={target}", "--no-same-owner"], timeout=300)
    (target / name).unlink()


def _package(build, tree, name, version, depends):
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(CONTROL.format(name=name, version=version, depends=depends))
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, build / f"{name}_{version}_amd64.deb"], timeout=300)


def _index(folder, build):
    suite, pool = folder / "dists/lab-pgdg-archive", folder / "pool"
    binary = suite / "main/binary-amd64"
    for path in (binary, pool):
        path.mkdir(parents=True)
    for package in build.glob("*.deb"):
        package.rename(pool / package.name)
    packages = run(["dpkg-scanpackages", "--multiversion", "pool"], timeout=120, cwd=folder)[1]
    (binary / "Packages").write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    lines = ["Suite: lab-pgdg-archive", "Codename: lab-pgdg-archive", "Components: main", "Architectures: amd64", "SHA256:"]
    (suite / "Release").write_text("\n".join([*lines, f" {digest} {len(packages.encode())} main/binary-amd64/Packages", ""]))
    _sign(folder, suite)


def _sign(folder, suite):
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--quiet", f"--homedir={home}"]
    try:
        run([*gpg, "--passphrase=", "--quick-generate-key", "lab <root@localhost>", "rsa3072", "sign", "1d"], timeout=120)
        run([*gpg, "--clearsign", f"--output={suite / 'InRelease'}", suite / "Release"])
        (folder / "key.asc").write_text(run([*gpg, "--armor", "--export"])[1])
    finally:
        run(["gpgconf", f"--homedir={home}", "--kill", "all"], check=False)
        shutil.rmtree(home)
