"""A Debian root of this host's own release, installed from the mirrors that this host's apt uses and in the way it reaches them."""

import contextlib
import platform
import shutil
import time

from labkit.commands import LabError, run

# What was built under a name made of its ingredients and not used for so long is removed when another is built.
KEPT_SECONDS = 14 * 86400


def suite():
    """Return the name of this host's Debian release: Salt's environment is made for its Python."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def install(root, packages, hooks=(), timeout=1800):
    """Install a minimal Debian with these packages into the folder ``root``, which must not exist.

    ``hooks`` are shell lines for mmdebstrap, run when all is installed; its apt works there by ``APT_CONFIG=$MMDEBSTRAP_APT_CONFIG``.
    Nothing of the host's apt configuration stays in the root.
    """
    sources, options = root.parent / "sources.list", root.parent / "apt.conf"
    for path in (sources, options):
        # A proxy's password may stand in them.
        path.touch(mode=0o600)
    run(["apt-get", "update"], timeout=300)
    sources.write_text(_mirrors())
    options.write_text(_apt_options())
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--aptopt={options}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    argv += [f"--customize-hook={hook}" for hook in hooks]
    argv += [f"--include={','.join(packages)}", suite(), root, sources]
    try:
        run(argv, timeout=timeout)
    except LabError as problem:
        raise LabError(f"{problem}\nThis Debian could not be installed from the mirrors that this host's apt uses.") from None
    finally:
        sources.unlink()
        options.unlink()
    for path in (root / "etc/apt/sources.list.d").glob("*"):
        path.unlink()
    for name in ("etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap", "etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")


def _mirrors():
    """Return sources.list lines for the repositories of Debian that this host's own apt is told to use."""
    argv = ["apt-get", "indextargets", "Created-By: Packages", "Origin: Debian"]
    argv += ["--format", "$(REPO_URI) $(CODENAME) $(RELEASE) $(COMPONENT)"]
    rows = [line.split() for line in run(argv)[1].splitlines()]
    wanted = (suite(), f"{suite()}-updates", f"{suite()}-security")
    lines = [f"deb {uri} {release} {component}" for uri, codename, release, component in rows if codename in wanted]
    if not any(line.endswith(" main") for line in lines):
        raise LabError(f"This host's apt knows no repository of Debian {suite()}; look into /etc/apt/sources.list.d.")
    return "".join(f"{line}\n" for line in sorted(set(lines)))


def _apt_options():
    """Return how this host's apt reaches its mirrors: proxies, certificates, checks."""
    said = run(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"])[1]
    # What is empty is the name of a group.
    kept = [line for line in said.splitlines() if "IndexTargets" not in line and not line.endswith(' "";')]
    return "".join(f"{line}\n" for line in kept)


def remove_old(folder, wanted):
    """Remove the images in ``folder`` that were not used for 14 days; ``wanted`` stays."""
    for image in folder.glob("*/"):
        complete = image / "complete"
        with contextlib.suppress(FileNotFoundError):
            used = (complete if complete.exists() else image).stat().st_mtime
            if image != wanted and time.time() - used > KEPT_SECONDS:
                shutil.rmtree(image)
