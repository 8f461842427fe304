"""``./lab image``: the management host as a container image, built by its own states on the nodes' Debian (``packaging/Containerfile``)."""

import contextlib
import json
import shutil
from pathlib import Path

from labkit import node_image, package, prepare
from labkit.commands import LabError, Step, run
from labkit.home import REPO
from labkit.prepare import extra

USAGE = """\
usage: ./lab image [PILLAR]    build the management host as a container image; PILLAR is a folder with a pillar's top.sls"""

NAME = "salt-rbd-management"
CONTAINERFILE = REPO / "packaging/Containerfile"

# What sets a node's network up.
NETWORK = "systemd-networkd.service"

# Where the Containerfile looks for the pillar.
BUILD_PILLAR = "/run/build-pillar"
BUILD_SECONDS = 1800

# A management host on its own; the running container has its pillar as a volume.
PILLAR = {
    # Every wheel is at hand.
    "salt_environment": {"version": prepare.SALT, "packages": extra("postgresql"), "build_packages": []},
    "salt_master": {"file_roots": ["/usr/share/salt-rbd/salt"], "pillar_roots": ["/srv/site/pillar"]},
    "salt_minion": {"master": "127.0.0.1"},
    "salt_api": {"address": "127.0.0.1"},
    "postgresql": {
        "source": "distribution",
        "pg_hba": [
            {"type": "local", "database": "all", "user": "all", "method": "peer"},
            {"type": "hostssl", "database": "configs", "user": "configs", "address": "127.0.0.1/32"},
        ],
        "roles": {"configs": {}},
        "databases": {"configs": {"owner": "configs"}},
    },
    "graphite": {},
    "diamond": {
        "handlers": {"diamond.handler.graphite.GraphiteHandler": {"host": "127.0.0.1"}},
    },
}


def main(home, words):
    """Run ``./lab image WORDS`` and return the exit code."""
    if len(words) > 1 or (words and words[0].startswith("-")):
        print(USAGE)
        return 0 if words[0] in ("-h", "--help") else 2
    home.make()
    if words and not (Path(words[0]) / "top.sls").is_file():
        raise LabError(f"{words[0]} holds no top.sls, which says what of the pillar is the management host's.")
    venv = prepare.salt_environment(home, prepare.SALT)
    image = node_image.ready(home.venvs.parent / "node-images", venv)
    print(build(home.folder / "images", image, Path(words[0]) if words else None))
    return 0


def pillar_for(image):
    """Return the pillar of a management host on its own, with the PostgreSQL of the Debian in ``image``."""
    (server,) = (image / "packages").glob("postgresql-[0-9]*_*.deb")
    version = server.name.partition("_")[0].partition("-")[2]
    return {**PILLAR, "postgresql": {**PILLAR["postgresql"], "version": version}}


def write_pillar(folder, pillar):
    """Write a pillar that every minion gets into a folder, as one file beside its top file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.sls").write_text(json.dumps({"base": {"*": ["site"]}}) + "\n")
    (folder / "site.sls").touch(mode=0o600)
    (folder / "site.sls").write_text(json.dumps(pillar, indent=2) + "\n")


def build(folder, image, pillar=None):
    """Build the image from the Debian of :mod:`labkit.node_image` in ``image`` and return the path of its archive in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{NAME}-{package.version()}.oci.tar"
    with _store(folder / "work") as store:
        tree, _ = package.export(store.folder)
        if pillar is None:
            pillar = store.folder / "pillar"
            write_pillar(pillar, pillar_for(image))
        with Step("make the base image of the nodes' Debian"):
            store.take(image / "root", "base")
        with Step("build the management host by its states"):
            argv = ["bud", "--quiet", "--isolation=chroot", "--layers=false", f"--file={CONTAINERFILE}", f"--tag={NAME}"]
            argv += ["--build-arg=BASE=localhost/base", f"--build-arg=SALT={prepare.SALT}", "--build-arg=BUILD_PACKAGES="]
            binds = {pillar: BUILD_PILLAR, image / "packages": node_image.PACKAGES, image / "wheels": node_image.WHEELHOUSE}
            argv += [f"--volume={source}:{target}:ro" for source, target in binds.items()]
            store.run(*argv, tree, timeout=BUILD_SECONDS)
        archive.unlink(missing_ok=True)
        # The database and the keys of a host are in it.
        archive.touch(mode=0o600)
        store.run("push", "--quiet", NAME, f"oci-archive:{archive}:{NAME}:{package.version()}", timeout=600)
    return archive


def unpack(archive, root):
    """Lay the files of an image's archive into the folder ``root``, which must not exist."""
    with _store(root.parent / f"{root.name}.work") as store, store.mounted(f"oci-archive:{archive}") as files:
        run(["cp", "--archive", files, root], timeout=600)


class _Store:
    """Where buildah keeps its images and containers; its own for each use, so that nothing of it stays."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *words, timeout=300):
        argv = ["buildah", f"--root={self.folder}/storage", f"--runroot={self.folder}/run", "--storage-driver=overlay"]
        return run([*argv, *words], timeout=timeout)[1].strip()

    @contextlib.contextmanager
    def mounted(self, image):
        """Give the folder with the files of a container made from the image."""
        container = self.run("from", "--quiet", image, timeout=600)
        yield Path(self.run("mount", container))

    def take(self, root, name):
        """Make an image of a folder's files."""
        container = self.run("from", "scratch")
        files = self.run("mount", container)
        run(["cp", "--archive", f"{root}/.", files], timeout=600)
        # A node's network is its own business, a container's that of who runs it.
        run(["systemctl", f"--root={files}", "--quiet", "disable", NETWORK])
        self.run("commit", "--quiet", "--rm", container, name, timeout=600)


@contextlib.contextmanager
def _store(folder):
    store = _Store(folder)
    folder.mkdir(parents=True)
    try:
        yield store
    finally:
        store.run("rm", "--all")
        store.run("rmi", "--all", "--force")
        shutil.rmtree(folder)
