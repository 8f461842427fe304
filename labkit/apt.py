"""An apt repository of a test's own: packages made from folders, an index that is signed by a key of its own."""

import hashlib
import shutil

from labkit.commands import run

CONTROL = """\
Package: {name}
Version: {version}
Architecture: amd64
Maintainer: the lab <root@localhost>
Depends: {depends}
Description: a package of the lab's tests
"""


def package(build, tree, name, version, depends, **scripts):
    """Make the files below ``tree`` a package in the folder ``build``; ``scripts`` are its maintainer scripts, or lists, by their names."""
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL.format(name=name, version=version, depends=depends))
    for script, text in scripts.items():
        (tree / "DEBIAN" / script).write_text(text)
        (tree / "DEBIAN" / script).chmod(0o755 if text.startswith("#!") else 0o644)
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, build / f"{name}_{version}_amd64.deb"], timeout=300)


def index(folder, build, suite):
    """Make ``folder`` a repository of the packages in ``build``, with this suite; the public key is ``key.asc`` in it."""
    where, pool = folder / "dists" / suite, folder / "pool"
    binary = where / "main/binary-amd64"
    for path in (binary, pool):
        path.mkdir(parents=True, exist_ok=True)
    for made in build.glob("*.deb"):
        made.rename(pool / made.name)
    packages = run(["dpkg-scanpackages", "--multiversion", "pool"], timeout=120, cwd=folder)[1]
    (binary / "Packages").write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    lines = [f"Suite: {suite}", f"Codename: {suite}", "Components: main", "Architectures: amd64", "SHA256:"]
    (where / "Release").write_text("\n".join([*lines, f" {digest} {len(packages.encode())} main/binary-amd64/Packages", ""]))
    _sign(folder, where)


def _sign(folder, where):
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--quiet", "--yes", f"--homedir={home}"]
    try:
        run([*gpg, "--passphrase=", "--quick-generate-key", "lab <root@localhost>", "rsa3072", "sign", "1d"], timeout=120)
        run([*gpg, "--clearsign", f"--output={where / 'InRelease'}", where / "Release"])
        (folder / "key.asc").write_text(run([*gpg, "--armor", "--export"])[1])
    finally:
        run(["gpgconf", f"--homedir={home}", "--kill", "all"], check=False)
        shutil.rmtree(home)
