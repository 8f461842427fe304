"""``./lab rpm`` and ``./lab deb``: the last commit as packages, the same bytes each time (a source package names its build folder)."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from labkit import prepare
from labkit.commands import LabError, Step, clean_environment, run
from labkit.home import REPO

NAME = "salt-rbd"
SPEC = REPO / "packaging" / f"{NAME}.spec"

USAGE = """\
usage: ./lab rpm    build the RPM packages of the last commit, and their source package
       ./lab deb    build the Debian packages"""

CONTROL = """\
Package: {name}
Version: {version}-1
Architecture: all
Maintainer: the authors of {project} <root@localhost>
Section: admin
Priority: optional
{relations}
Description: {summary}
"""

# As in the spec.
PRERM = """\
#!/bin/sh
# What Python has compiled there would keep the folders.
[ "$1" != remove ] || find /usr/share/salt-rbd -name __pycache__ -prune -exec rm -rf {} +
"""

COPYRIGHT = "The licence of all files is Apache-2.0, see /usr/share/common-licenses/Apache-2.0.\n"


def main(home, command, words):
    """Run ``./lab rpm`` or ``./lab deb`` and return the exit code."""
    if words:
        print(USAGE)
        return 0 if words[0] in ("help", "-h", "--help") else 2
    home.make()
    commit_time()
    changed = run(["git", "status", "--porcelain"], cwd=REPO)[1].splitlines()
    if changed:
        print(f"          {len(changed)} files of this checkout differ from its last commit; the packages have the commit's")
    with Step(f"build the {command} packages of {NAME} {version()}"):
        made = {"rpm": rpms, "deb": debs}[command](home.folder / "packages")
    for path in made:
        print(path)
    return 0


def version():
    """Return the version that setup.cfg says."""
    return prepare.setup()["metadata"]["version"]


def spec():
    """Return the text of the spec, with the version on top."""
    return f"%global package_version {version()}\n{SPEC.read_text()}"


def commit_time():
    """Return when the last commit was made, in seconds since 1970."""
    code, out, err = run(["git", "log", "-1", "--format=%ct"], cwd=REPO, check=False)
    if code:
        raise LabError(
            f"The packages are made of the last commit of {REPO}, and git does not tell it; clone the repository.\n{err.strip()}"
        )
    return out.strip()


def export(folder):
    """Write the last commit's files into ``folder/salt-rbd-VERSION`` and beside it as a ``.tar.gz``; return the two."""
    tree = folder / f"{NAME}-{version()}"
    tarball = folder / f"{tree.name}.tar.gz"
    run(["git", "-c", "tar.umask=0022", "archive", f"--prefix={tree.name}/", f"--output={tarball}", "HEAD"], cwd=REPO)
    run(["tar", "--extract", f"--file={tarball}", f"--directory={folder}", "--no-same-owner"])
    return tree, tarball


def rpms(folder):
    """Build the RPM packages and the source package; return their paths in ``folder``."""
    with _workplace() as work:
        _, tarball = export(work)
        (work / "SOURCES").mkdir()
        tarball.rename(work / "SOURCES" / tarball.name)
        (work / SPEC.name).write_text(spec())
        env = clean_environment(SOURCE_DATE_EPOCH=commit_time())
        # A source package names the folder that it was made in, and packages made together with it name its digest.
        for kind in ("-bb", "-bs"):
            run(["rpmbuild", kind, "--quiet", "--define", f"_topdir {work}", work / SPEC.name], timeout=300, env=env)
        return _hand_over([*work.glob("RPMS/*/*.rpm"), *work.glob("SRPMS/*.rpm")], folder)


def debs(folder):
    """Build the Debian packages; return their paths in ``folder``."""
    with _workplace() as work:
        tree, _ = export(work)
        files = work / NAME
        config = work / f"{NAME}-config"
        run(["sh", tree / "packaging/install.sh", files])
        config.mkdir()
        (files / "etc").rename(config / "etc")
        (files / "usr/share/doc" / NAME / "copyright").write_text(COPYRIGHT)
        summary, config_summary = _spec_lines("Summary:")
        return _hand_over(
            [
                _deb(files, "Suggests: salt-master, salt-minion", summary, prerm=PRERM),
                _deb(config, f"Depends: {NAME} (= {version()}-1)", config_summary, conffiles=_conffiles(config)),
            ],
            folder,
        )


def _deb(tree, relations, summary, **scripts):
    control = tree / "DEBIAN"
    control.mkdir()
    scripts["control"] = CONTROL.format(name=tree.name, version=version(), project=NAME, relations=relations, summary=summary)
    for name, text in scripts.items():
        (control / name).write_text(text)
        (control / name).chmod(0o755 if text.startswith("#!") else 0o644)
    package = tree.parent / f"{tree.name}_{version()}-1_all.deb"
    env = clean_environment(SOURCE_DATE_EPOCH=commit_time())
    run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, package], timeout=300, env=env)
    return package


def _conffiles(tree):
    return "".join(f"/{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*.conf")))


def _spec_lines(tag):
    return [line.partition(tag)[2].strip() for line in SPEC.read_text().splitlines() if line.startswith(tag)]


@contextlib.contextmanager
def _workplace():
    """Give a folder to build in. Not in the lab's home: rpmbuild's macros do not take every character of a path."""
    # What the user's own umask is does not reach the packages.
    mask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{NAME}-package-") as folder:
            yield Path(folder)
    finally:
        os.umask(mask)


def _hand_over(made, folder):
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(path, folder / path.name)) for path in sorted(made)]
