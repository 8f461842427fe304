"""A repository as the Salt project has it, for tests: packages of its names that lay down the same paths, around a real Salt.

What differs from the project's own: the Python is the system's in a virtual environment, not one that is built along.
"""

import shlex

from labkit import apt

SUITE = "lab-salt"

# Where the node has the repository.
REPOSITORY = "/srv/salt-packages"
ONEDIR = "/opt/saltstack/salt"

# Which command is in which package.
COMMANDS = {
    "salt-common": ["salt-pip"],
    "salt-master": ["salt", "salt-key", "salt-master", "salt-run"],
    "salt-minion": ["salt-call", "salt-minion"],
    "salt-api": ["salt-api"],
}

# As in the project's: what salt-pip installs lies in a folder of its own, which comes first.
EXTRAS = (
    f"import sys, pathlib; sys.RELENV = pathlib.Path({ONEDIR!r});"
    " sys.path.insert(0, str(sys.RELENV / 'extras-{}.{}'.format(*sys.version_info)))\n"
)

UNIT = """\
[Unit]
Description={name} of the package
After=network.target

[Service]
{more}Type=notify
NotifyAccess=all
LimitNOFILE=8192
ExecStart=/usr/bin/{name}

[Install]
WantedBy=multi-user.target
"""

USER = """\
#!/bin/sh
set -e
mkdir -p {onedir}
getent group salt >/dev/null || groupadd --system salt
getent passwd salt >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin -g salt salt
usermod -c Salt -d {onedir} -s /usr/sbin/nologin -g salt salt
"""

# Debian's packages enable and start what they bring, and restart it at an update.
START = """\
#!/bin/sh
set -e
{more}
deb-systemd-helper enable {name}.service
systemctl daemon-reload
deb-systemd-invoke $(test -z "$2" && echo start || echo restart) {name}.service
"""
OWNED = "chown -R salt:salt /etc/salt/pki/master /etc/salt/master.d /var/log/salt /var/cache/salt/master"
STOP = """\
#!/bin/sh
set -e
test "$1" != remove || deb-systemd-invoke stop {name}.service
"""
# What Python compiled there would keep the folder.
COMPILED = f"""\
#!/bin/sh
test "$1" != remove || find {ONEDIR} -name __pycache__ -prune -exec rm -rf {{}} +
"""
FORGET = """\
#!/bin/sh
set -e
test "$1" = upgrade || deb-systemd-helper disable {name}.service
systemctl daemon-reload
"""


def make(node, version, called=()):
    """Make the repository at ``REPOSITORY`` in the node, with this version of Salt; return what the pillar says of it.

    The same Salt also comes as packages of the versions ``called``.
    """
    build = node.root / REPOSITORY[1:] / "build"
    build.mkdir(parents=True)
    pip = f"{ONEDIR}/bin/pip --quiet --no-input --disable-pip-version-check"
    node.run("python3", "-m", "venv", ONEDIR)
    node.shell(f"{pip} install salt=={version} cherrypy", timeout=900)
    node.shell(f"printf %s {shlex.quote(EXTRAS)} >$({ONEDIR}/bin/python3 -c 'import site; print(site.getsitepackages()[0])')/extras.pth")
    names = " ".join(name for some in COMMANDS.values() for name in some)
    node.shell(f"cd {ONEDIR} && for name in {names}; do ln -s bin/$name $name; done")
    node.shell(f"mkdir -p {REPOSITORY}/build/salt-common/opt/saltstack && mv {ONEDIR} {REPOSITORY}/build/salt-common/opt/saltstack/")
    for name in COMMANDS:
        _lay(build / name, name)
    for one in (version, *called):
        for name in COMMANDS:
            _package(build, name, one)
    apt.index(node.root / REPOSITORY[1:], build, SUITE)
    node.shell(f"rm -r {REPOSITORY}/build /opt/saltstack")
    return {"url": f"file:{REPOSITORY}", "suite": SUITE, "key": f"{REPOSITORY}/key.asc"}


def _lay(tree, name):
    (tree / "usr/bin").mkdir(parents=True)
    for command in COMMANDS[name]:
        (tree / "usr/bin" / command).symlink_to(f"{ONEDIR}/{command}")
    if name == "salt-common":
        for folder in ("etc/salt", "var/log/salt", "var/cache/salt"):
            (tree / folder).mkdir(parents=True)
        return
    (tree / "usr/lib/systemd/system").mkdir(parents=True)
    # Only the minion's has it.
    more = "KillMode=process\n" if name == "salt-minion" else ""
    (tree / f"usr/lib/systemd/system/{name}.service").write_text(UNIT.format(name=name, more=more))
    if name == "salt-api":
        return
    daemon = name.partition("-")[2]
    for folder in (f"etc/salt/{daemon}.d", f"etc/salt/pki/{daemon}", f"var/cache/salt/{daemon}"):
        (tree / folder).mkdir(parents=True)
    (tree / f"etc/salt/{daemon}").write_text("user: salt\n" if daemon == "master" else "#user: root\n")


def _package(build, name, version):
    scripts = {"preinst": USER.format(onedir=ONEDIR), "prerm": COMPILED}
    depends = "python3, python3-venv"
    if name != "salt-common":
        more = OWNED if name == "salt-master" else ":"
        daemon = name.partition("-")[2]
        scripts = {"postinst": START.format(name=name, more=more), "prerm": STOP.format(name=name), "postrm": FORGET.format(name=name)}
        # What a host has there already stays.
        if daemon != "api":
            scripts["conffiles"] = f"/etc/salt/{daemon}\n"
        depends = f"salt-common (= {version})"
    if name == "salt-api":
        depends += f", salt-master (= {version})"
    tree = build / name
    apt.package(build, tree, name, version, depends, **scripts)
    # For the next version.
    for path in sorted((tree / "DEBIAN").iterdir()):
        path.unlink()
    (tree / "DEBIAN").rmdir()
