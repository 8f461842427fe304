"""Builds the environment that Diamond runs in: ``PYTHON build.py RELEASE.json ENVIRONMENT``.

``--download FOLDER`` in the place of ENVIRONMENT only fetches the source release, for systems that reach no package index.
RELEASE.json names version, sha256, the requirements, and the converter for a Python without lib2to3 (fissix, its kept-up fork).

The source release comes by pip from the package index that this machine is configured for, and is checked by its sha256. On
Python 3 it is converted and mended by ``patches.py``; on Python 2.7 it is installed as it is. This file runs on both, with the
standard library alone.

The environment is complete when its file ``complete`` is there.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON3 = sys.version_info[0] == 3
# What pip and setup.py themselves need, before the rest.
BUILDERS = ("pip==", "setuptools==", "wheel==")
# setup.py of the release asks for platform.dist(), which Python 3.8 took away; the answer only matters outside an environment.
SHIM = 'import platform\n\nplatform.dist = getattr(platform, "dist", lambda: ("", "", ""))\n'


def main(release, environment):
    """Build, from nothing; what an interrupted build left is removed."""
    config = read(release)
    if os.path.lexists(environment):
        shutil.rmtree(environment)
    make_environment(environment)
    python = os.path.join(environment, "bin", "python")
    work = tempfile.mkdtemp(prefix="diamond-build-")
    try:
        install_builders(python, config)
        pip(python, "install", *requirements(config))
        source = unpack(download(python, config["version"], config["sha256"], work), work)
        if PYTHON3:
            convert(python, source, config["converter"])
            mend(source)
        # setup.py runs in the environment itself: no isolated build, so that the shim is seen and nothing else is fetched.
        pip(python, "install", "--no-deps", "--no-build-isolation", source, **with_shim(work))
        run([python, "-c", "import configobj, diamond.server, diamond.handler.graphite"], 60)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    with open(os.path.join(environment, "complete"), "w") as file:
        file.write("diamond {} for Python {}\n".format(config["version"], sys.version.split()[0]))


def fetch(release, folder):
    """Put the source release, checked, into the folder."""
    config = read(release)
    work = tempfile.mkdtemp(prefix="diamond-build-")
    try:
        environment = os.path.join(work, "environment")
        make_environment(environment)
        python = os.path.join(environment, "bin", "python")
        install_builders(python, config)
        shutil.copy(download(python, config["version"], config["sha256"], work), folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read(release):
    """Return what RELEASE.json says."""
    with open(release) as file:
        return json.load(file)


def requirements(config):
    """Return what the Python that runs this needs."""
    return config["requirements" if PYTHON3 else "requirements_python2"]


def install_builders(python, config):
    """Install what builds the rest."""
    pip(python, "install", *[item for item in requirements(config) if item.startswith(BUILDERS)])


def make_environment(folder):
    """Make an empty virtual environment of the Python that runs this."""
    module = "venv" if PYTHON3 else "virtualenv"
    run([sys.executable, "-m", module, folder], 120)


def download(python, version, sha256, work):
    """Return the path of the source release, fetched by pip; ends with a sentence where it is not the right one."""
    pip(
        python,
        "download",
        "--no-deps",
        "--no-build-isolation",
        "--no-binary",
        ":all:",
        "-d",
        work,
        "diamond==" + version,
        **with_shim(work),
    )
    path = os.path.join(work, "diamond-{}.tar.gz".format(version))
    if not os.path.isfile(path):
        sys.exit("pip brought no diamond-{}.tar.gz; the package index of this machine (pip config list) does not have it.".format(version))
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != sha256:
        sys.exit(
            "The source release diamond {} has the sha256 {}, but diamond:sha256 is {}; it is not used.".format(version, found, sha256)
        )
    return path


def unpack(archive, work):
    """Unpack the checked release and return its folder."""
    with tarfile.open(archive) as tar:
        tar.extractall(work)  # noqa: S202 its hash is known
    return archive[: -len(".tar.gz")]


def convert(python, source, converter):
    """Rewrite the Python 2 of the release for Python 3."""
    tool = "lib2to3"
    if subprocess.call([python, "-W", "ignore", "-c", "import lib2to3"], stderr=subprocess.DEVNULL):
        pip(python, "install", converter)
        tool = "fissix"
    programs = [os.path.join(source, name) for name in ("src", "setup.py", "bin/diamond", "bin/diamond-setup")]
    run([python, "-W", "ignore", "-m", tool, "--write", "--nobackups", "--no-diffs"] + programs, 300)


def mend(source):
    """Apply ``patches.py``: each text must be there exactly as often as it says, or nothing was understood."""
    sys.path.insert(0, HERE)
    from patches import PATCHES

    for name, times, old, new in PATCHES:
        path = os.path.join(source, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text.count(old) != times:
            sys.exit("{}: this stands there {} times, not {}, so it cannot be mended:\n{}".format(name, text.count(old), times, old))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))


def pip(python, *words, **more):
    """Run pip of the environment; it takes index, mirrors and certificates from the machine's own configuration."""
    run([python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"] + list(words), 600, **more)


def with_shim(work):
    """Return the keyword ``env`` with which a Python finds the shim."""
    folder = os.path.join(work, "shim")
    if not os.path.isdir(folder):
        os.mkdir(folder)
        with open(os.path.join(folder, "sitecustomize.py"), "w") as file:
            file.write(SHIM)
    return {"env": dict(os.environ, PYTHONPATH=folder)}


def run(argv, limit, env=None):
    """Run a program to its end, at most ``limit`` seconds; its failure ends this one with its words."""
    more = {"timeout": limit}
    if not PYTHON3:
        argv, more = ["timeout", "--kill-after=10", str(limit)] + argv, {}
    try:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    except OSError as error:
        sys.exit("{} cannot be started: {}.".format(argv[0], error))
    try:
        out = child.communicate(**more)[0]
    except Exception:
        child.kill()
        raise
    if child.returncode:
        sys.exit("This failed with exit code {}: {}\n{}".format(child.returncode, " ".join(argv), out.decode("utf-8", "replace")[-3000:]))


if __name__ == "__main__":
    os.umask(0o022)
    if len(sys.argv) == 4 and sys.argv[2] == "--download":
        fetch(sys.argv[1], os.path.abspath(sys.argv[3]))
    elif len(sys.argv) == 3:
        main(sys.argv[1], os.path.abspath(sys.argv[2]))
    else:
        sys.exit("usage: build.py RELEASE.json ENVIRONMENT | build.py RELEASE.json --download FOLDER")
