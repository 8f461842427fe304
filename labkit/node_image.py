"""What the lab's nodes start from: a small Debian of this host's release, and what they may install, as a node without internet can.

Built once and kept under a name made of everything that went into it:

- ``root``: systemd, Python and no more; what a node needs beyond it is for Salt's states to install;
- ``packages``: a repository of Debian packages with all that they depend on, which is the nodes' only one;
- ``wheels``: Salt and what belongs to it as Python packages, which is the only place where the nodes' pip looks.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from labkit import debian
from labkit.commands import Step, clean_environment, run
from labkit.home import REPO, locked
from labkit.prepare import BUILD_CONSTRAINT, OTHER_SALT, SALT, extra
from labkit.prepare import PYTHON as SYSTEM_PYTHON

SYSTEM = "systemd systemd-sysv udev dbus iproute2 procps kmod mount util-linux e2fsprogs ca-certificates"
PYTHON = "python3 python3-venv"

# What states and tests may install.
CEPH = (
    "ceph-mon ceph-mgr ceph-osd ceph-common python3-rados python3-rbd rbd-nbd qemu-utils qemu-system-common qemu-block-extra fuse3 xfsprogs"
)
POSTGRESQL = "postgresql postgresql-contrib postgresql-client openssl xz-utils"
GRAPHITE = "graphite-carbon python3-whisper"
TOOLS = "curl jq git"
# What stands before Salt's API.
PROXY = "nginx"
# Packages of the RHEL family, made and installed.
RPM = "dnf rpm createrepo-c"
OFFERED = f"{CEPH} {POSTGRESQL} {GRAPHITE} {RPM} {TOOLS} {PROXY}".split()

# The release of Diamond that salt/diamond builds, and what it needs.
DIAMOND = REPO / "salt/diamond/release.json"
DIAMOND_NEEDS = json.loads(DIAMOND.read_text())

# Each list is resolved by itself, as no two versions of Salt go together. Salt's API is a server of CherryPy's; the storage agent's
# account wants libpass.
API = ["cherrypy", *extra("agent")]
WHEELS = [
    [f"salt=={SALT}", *extra("postgresql"), *extra("gitfs"), *API, *DIAMOND_NEEDS["requirements"], DIAMOND_NEEDS["converter"]],
    [f"salt=={OTHER_SALT}", *extra("postgresql"), *extra("gitfs"), *API],
]

# Where the nodes see the two.
PACKAGES = "/srv/lab/packages"
WHEELHOUSE = "/srv/lab/wheels"

# What a node that lives for minutes would only wait for.
UNWANTED = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty.target",
    "systemd-timesyncd.service",
]

DPKG = """\
# A node is thrown away, so nothing need be safe on the disk.
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
"""


def ready(folder, venv):
    """Return the folder, below ``folder``, with ``root``, ``packages`` and ``wheels``; built first where it is missing.

    ``venv`` is an environment whose pip and Python make the wheels.
    """
    ingredients = [Path(__file__).read_text(), Path(debian.__file__).read_text(), DIAMOND.read_text(), *sum(WHEELS, [])]
    name = f"{debian.suite()}-{hashlib.sha256(''.join(ingredients).encode()).hexdigest()[:10]}"
    where = Path(folder) / name
    # Written last: an image without it was interrupted, and is built anew.
    complete = where / "complete"
    if complete.exists():
        os.utime(complete)
        return where
    with locked(Path(folder) / f"{name}.lock", f"the nodes' image {name}"):
        debian.remove_old(Path(folder), where)
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True, mode=0o711)
        where.chmod(0o711)
        with Step("make the wheels that the nodes' pip installs"):
            _make_wheels(where / "wheels", venv)
        with Step(f"install Debian {debian.suite()} for the nodes, and fetch the packages that they may install"):
            (where / "packages").mkdir()
            debian.install(where / "root", f"{SYSTEM} {PYTHON}".split(), hooks=[_fetch(where / "packages")])
            _index(where / "packages")
            configure(where / "root", where / "packages")
        complete.touch()
    return where


def _make_wheels(folder, venv):
    folder.mkdir()
    constraints = folder / "constraints.txt"
    constraints.write_text(BUILD_CONSTRAINT + "\n")
    argv = [venv / "bin/pip", "--disable-pip-version-check", "--quiet", "--no-input", "wheel", "--use-pep517", "--wheel-dir", folder]
    for wheels in WHEELS:
        run([*argv, *wheels], timeout=1200, env=clean_environment(PIP_CONSTRAINT=str(constraints)))
    # Its source release, as the nodes fetch it.
    run([SYSTEM_PYTHON, DIAMOND.parent / "files/build.py", DIAMOND, "--download", folder], timeout=600)


def _fetch(folder):
    """Return the hook that downloads what is offered, with all that it needs beyond the root, into the folder."""
    apt = "APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --quiet --quiet --no-install-recommends --download-only install"
    return f'{apt} {" ".join(OFFERED)} && mv "$1"/var/cache/apt/archives/*.deb {folder}/'


def _index(folder):
    (folder / "Packages").write_text(run(["dpkg-scanpackages", "--multiversion", "."], timeout=120, cwd=folder)[1])


def configure(root, packages):
    """Let apt and pip of the root look where the packages (they lie in ``packages`` here) and the wheels will be, and nowhere else."""
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{PACKAGES} ./\n")
    (root / "etc/dpkg/dpkg.cfg.d/lab").write_text(DPKG)
    (root / "etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {WHEELHOUSE}\n")
    (root / "etc/resolv.conf").write_text("")
    for name in ("packages", "wheels"):
        (root / "srv/lab" / name).mkdir(parents=True)
    systemctl = ["systemctl", f"--root={root}", "--quiet"]
    run([*systemctl, "enable", "systemd-networkd.service"])
    run([*systemctl, "mask", *UNWANTED])
    update = ["apt-get", "--quiet", "--quiet", "update"]
    nspawn = ["systemd-nspawn", "--quiet", f"--directory={root}", "--keep-unit", "--register=no", "--resolv-conf=off"]
    run([*nspawn, f"--bind-ro={packages}:{PACKAGES}", *update], timeout=60)
