"""The PostgreSQL project's repository for the RHEL family, on a node of Debian that has Debian's dnf, rpm and createrepo-c.

Packages of its names that lay down the same paths, with a setup script and a unit, around real binaries; signed as theirs are. What the
node has from Debian (a shell, openssl, clients) is there for rpm as a package without files.
"""

from labkit import pgdg

# What a system of that family has and the node gets from Debian.
NEEDED = ["dnf", "rpm", "createrepo-c", "gnupg", "openssl", "postgresql-client"]
GRAINS = {
    "os": "CentOS",
    "os_family": "RedHat",
    "osfullname": "CentOS Linux",
    "osmajorrelease": 7,
    "osrelease": "7.9.2009",
    "osrelease_info": [7, 9, 2009],
    "osarch": "x86_64",
}

# Debian's own would keep its records in root's home.
MACROS = """\
%_dbpath /var/lib/rpm
%_gpg_name lab
%__gpg /usr/bin/gpg
%_build_id_links none
%__os_install_post %{nil}
%debug_package %{nil}
"""

HEAD = """\
Name: {name}
Version: {version}
Release: 1
Summary: PostgreSQL of the lab's tests
License: PostgreSQL
AutoReqProv: no
{more}
%description
It is for tests.
"""

INSTALL = """\
%install
mkdir -p %{{buildroot}}
cp -a {tree}/. %{{buildroot}}/
%files
{files}
"""

SETUP = """\
#!/bin/sh
# initdb for the service: postgresql{short}-setup initdb
set -e
[ "$1" = initdb ] || {{ echo "usage: $0 initdb" >&2; exit 2; }}
data=/var/lib/pgsql/{major}/data
[ ! -e $data/PG_VERSION ] || {{ echo "Data directory is not empty!" >&2; exit 1; }}
install -d -o postgres -g postgres -m 0700 $data
exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/pgsql \\
    /usr/pgsql-{major}/bin/initdb --pgdata=$data --auth=ident $PGSETUP_INITDB_OPTIONS
"""

UNIT = """\
[Unit]
Description=PostgreSQL {major} database server
After=network.target

[Service]
Type=forking
User=postgres
Group=postgres
Environment=PGDATA=/var/lib/pgsql/{major}/data
ExecStart=/usr/pgsql-{major}/bin/pg_ctl start -D ${{PGDATA}} -s -w -t 300
ExecStop=/usr/pgsql-{major}/bin/pg_ctl stop -D ${{PGDATA}} -s -m fast
ExecReload=/usr/pgsql-{major}/bin/pg_ctl reload -D ${{PGDATA}} -s
TimeoutSec=300

[Install]
WantedBy=multi-user.target
"""

USER = """\
%pre
getent group postgres >/dev/null || groupadd -r postgres
getent passwd postgres >/dev/null || useradd -M -r -g postgres -d /var/lib/pgsql -s /bin/bash postgres
%post
systemd-tmpfiles --create postgresql-{major}.conf
"""


def make(node, folder, jar, major, minor, newer):
    """Make a yum repository in the node's ``folder``, signed by a key of its own, with the archive's server as ``postgresqlMAJOR-server``.

    ``newer`` is the version of Debian's clients. The public key is ``key.asc`` in the folder.
    """
    node.run("apt-get", "--yes", "--quiet", "install", *NEEDED, timeout=600, DEBIAN_FRONTEND="noninteractive")
    node.write("/etc/rpm/macros", MACROS)
    node.run("mkdir", "-p", "/etc/yum.repos.d", f"{folder}/build")
    short, build = major.replace(".", ""), node.root / folder[1:] / "build"
    program = f"usr/pgsql-{major}"
    server, clients = build / "server", build / "clients"
    pgdg.unpack(jar, server / program)
    setup = server / program / f"bin/postgresql{short}-setup"
    setup.write_text(SETUP.format(short=short, major=major))
    setup.chmod(0o755)
    unit, runtime = f"usr/lib/systemd/system/postgresql-{major}.service", f"usr/lib/tmpfiles.d/postgresql-{major}.conf"
    for path, text in ((unit, UNIT.format(major=major)), (runtime, "d /run/postgresql 0755 postgres postgres -\n")):
        (server / path).parent.mkdir(parents=True)
        (server / path).write_text(text)
    (server / "var/lib/pgsql" / major).mkdir(parents=True)
    (clients / program / "bin").mkdir(parents=True)
    for name in pgdg.CLIENTS:
        (clients / program / "bin" / name).symlink_to(f"/usr/lib/postgresql/{newer}/bin/{name}")
    owned = f"%dir %attr(0700,postgres,postgres) /var/lib/pgsql\n%dir %attr(0700,postgres,postgres) /var/lib/pgsql/{major}"
    files, requires = f"/{program}/*\n/{unit}\n/{runtime}\n{owned}", f"Requires: postgresql{short} = {minor}"
    _package(node, folder, "openssl", "3", more="Provides: /bin/sh")
    _package(node, folder, f"postgresql{short}", minor, tree="clients", files=f"/{program}/bin/*")
    _package(node, folder, f"postgresql{short}-server", minor, more=requires, scripts=USER.format(major=major), tree="server", files=files)
    _package(node, folder, f"postgresql{short}-contrib", minor, more=requires)
    _sign(node, folder)
    node.run("rm", "-r", f"{folder}/build")


def _package(node, folder, name, version, more="", scripts="", tree="", files=""):
    """Build one package; ``tree`` is the folder below ``build`` that it lays down, none for a package without files."""
    build = f"{folder}/build"
    parts = [HEAD.format(name=name, version=version, more=more), scripts]
    parts.append(INSTALL.format(tree=f"{build}/{tree}", files=files) if tree else "%files\n")
    node.write(f"{build}/{name}.spec", "".join(parts))
    folders = [f"--define=_rpmdir {folder}", f"--define=_topdir {build}/top"]
    node.run("rpmbuild", "--quiet", "-bb", *folders, f"{build}/{name}.spec", timeout=600)


def _sign(node, folder):
    home = f"{folder}/gnupg"
    node.run("mkdir", "-m", "700", home)
    gpg = ["gpg", "--batch", "--quiet", f"--homedir={home}"]
    node.run(*gpg, "--passphrase=", "--quick-generate-key", "lab <root@localhost>", "rsa3072", "sign", "1d", timeout=300)
    node.run("sh", "-c", f"rpmsign --addsign {folder}/*/*.rpm", timeout=300, GNUPGHOME=home)
    node.write(f"{folder}/key.asc", node.run(*gpg, "--armor", "--export")[1])
    node.run("gpgconf", f"--homedir={home}", "--kill", "all", check=False)
    node.run("rm", "-r", home)
    node.run("createrepo_c", "--quiet", folder, timeout=300)
