"""The map of PostgreSQL's versions: who packages what for which system, where it lies, when it ends.

The systems are those of ``salt/systems.yaml``, which has what the other parts need; this is here because the modules check by it.

Dates are those of PostgreSQL's versioning policy (postgresql.org/support/versioning); a version gets no more mends after its date.
"""

import datetime
from collections import namedtuple

from saltrbd.errors import InvalidPillar

# The last day with mends, and the last release where there will be no other.
Version = namedtuple("Version", "end last")
VERSIONS = {
    "9.5": Version("2021-02-11", "9.5.25"),
    "9.6": Version("2021-11-11", "9.6.24"),
    "10": Version("2022-11-10", "10.23"),
    "11": Version("2023-11-09", "11.22"),
    "12": Version("2024-11-21", "12.22"),
    "13": Version("2025-11-13", "13.23"),
    "14": Version("2026-11-12", ""),
    "15": Version("2027-11-11", ""),
    "16": Version("2028-11-09", ""),
    "17": Version("2029-11-08", ""),
    "18": Version("2030-11-14", ""),
}

# ``packaged`` is the version that the system itself has, ``suite`` is the name that repositories of packages know it by.
System = namedtuple("System", "family suite packaged")
SYSTEMS = {
    "Debian 11": System("Debian", "bullseye", "13"),
    "Debian 12": System("Debian", "bookworm", "15"),
    "Debian 13": System("Debian", "trixie", "17"),
    "Ubuntu 22.04": System("Debian", "jammy", "14"),
    "Ubuntu 24.04": System("Debian", "noble", "16"),
    "RHEL family 7": System("RedHat", "rhel-7", ""),
    "RHEL family 8": System("RedHat", "rhel-8", "10"),
    "RHEL family 9": System("RedHat", "rhel-9", "13"),
}

SOURCES = ("pgdg", "distribution", "archive")

# The PostgreSQL project's own repositories. Debian's family: an ended version is only in the archive. RHEL's family: each version has a
# folder of its own.
PGDG = {
    "Debian": {
        "url": "https://apt.postgresql.org/pub/repos/apt",
        "suite": "{suite}-pgdg",
        "archive_url": "https://apt-archive.postgresql.org/pub/repos/apt",
        "archive_suite": "{suite}-pgdg-archive",
        "key": "https://www.postgresql.org/media/keys/ACCC4CF8.asc",
    },
    "RedHat": {
        "url": "https://download.postgresql.org/pub/repos/yum/{version}/redhat/{suite}-{arch}",
        "archive_url": "https://yum-archive.postgresql.org/{version}/redhat/{suite}-{arch}",
        "key": "https://download.postgresql.org/pub/repos/yum/keys/PGDG-RPM-GPG-KEY-RHEL",
        "key rhel-7": "https://download.postgresql.org/pub/repos/yum/keys/PGDG-RPM-GPG-KEY-RHEL7",
    },
}

# The oldest and the newest version that PGDG's yum repositories have for a release.
PGDG_YUM = {"rhel-7": ("9.5", "15"), "rhel-8": ("9.6", "18"), "rhel-9": ("10", "18")}

SOCKETS = "/var/run/postgresql"


def number(version):
    """Return a version as numbers that can be compared: ``9.5`` is (9, 5), ``15`` is (15,)."""
    return tuple(int(part) for part in version.split("."))


def ended(version, today=None):
    """Return a sentence where the version gets no more mends, else an empty text."""
    known = VERSIONS[version]
    if (today or datetime.date.today()).isoformat() <= known.end:
        return ""
    last = " Its last release is {}.".format(known.last) if known.last else ""
    return "PostgreSQL {} is past its end of life ({}): holes found since then stay open.{} Plan the move to a newer version.".format(
        version, known.end, last
    )


def name(grains):
    """Return the name that this map has for a minion's system, or what it calls itself."""
    major = str(grains.get("osmajorrelease", ""))
    if grains.get("os_family") == "RedHat":
        return "RHEL family {}".format(major)
    if grains.get("os") == "Ubuntu":
        return "Ubuntu {}".format(grains.get("osrelease", ""))
    return "{} {}".format(grains.get("os", "an unknown system"), major).strip()


def find(grains):
    """Return the :class:`System` of a minion; raises :class:`InvalidPillar` where this map has none."""
    called = name(grains)
    if called not in SYSTEMS:
        raise InvalidPillar("{} is not supported; supported are {}.".format(called, ", ".join(SYSTEMS)))
    return SYSTEMS[called]


def check(grains, version, source):
    """Return why this version cannot come from this source on this system, or an empty text."""
    called, system = name(grains), find(grains)
    if source == "distribution" and version != system.packaged:
        has = "PostgreSQL {}".format(system.packaged) if system.packaged else "no PostgreSQL from 9.5 on"
        return (
            "postgresql:source is distribution, and {} packages {}, not {}. Declare postgresql:version that version, or another source"
            " (pgdg, archive)".format(called, has, version)
        )
    if source == "pgdg" and system.family == "RedHat":
        oldest, newest = PGDG_YUM[system.suite]
        if not number(oldest) <= number(version) <= number(newest):
            return "PGDG has PostgreSQL {} to {} for {}, not {}; another source is archive".format(oldest, newest, called, version)
    return ""


def repository(grains, version):
    """Return PGDG's repository of a version for a system, as ``{url, suite, key}``; suite is empty for yum."""
    system = find(grains)
    data = PGDG[system.family]
    words = {"version": version, "suite": system.suite, "arch": grains.get("osarch") or grains.get("cpuarch") or "x86_64"}
    prefix = "archive_" if ended(version) else ""
    return {
        "url": data[prefix + "url"].format(**words),
        "suite": data.get(prefix + "suite", "").format(**words),
        "key": data.get("key " + system.suite, data["key"]),
    }


def places(grains, version, source):
    """Return where a version from a source lies on a system, and how it is set up.

    ``initdb`` makes the cluster, as the operating system's user ``initdb_user``.
    """
    family = find(grains).family
    if source == "archive":
        return _archive(family, version)
    return (_debian if family == "Debian" else _redhat)(version, source)


def _archive(family, version):
    data = "/var/lib/postgresql/{}/data".format(version)
    return {
        "bin_dir": "/opt/postgresql-{}/bin".format(version),
        "data_dir": data,
        "conf_dir": data,
        "service": "postgresql-{}".format(version),
        # The archive may hold no client; any newer one serves older servers.
        "packages": ["postgresql-client", "openssl"] if family == "Debian" else ["postgresql", "openssl"],
        "initdb": ["/opt/postgresql-{}/bin/initdb".format(version), "--pgdata=" + data],
        "initdb_user": "postgres",
        "settings": {},
    }


def _debian(version, source):
    data, conf = "/var/lib/postgresql/{}/main".format(version), "/etc/postgresql/{}/main".format(version)
    packages = ["postgresql-" + version, "postgresql-client-" + version, "openssl"]
    # From 10 on the server's package holds the extensions too.
    packages += ["postgresql-contrib-" + version] if number(version) < (10,) else []
    return {
        "bin_dir": "/usr/lib/postgresql/{}/bin".format(version),
        "data_dir": data,
        "conf_dir": conf,
        "service": "postgresql@{}-main".format(version),
        "packages": packages,
        "initdb": ["/usr/bin/pg_createcluster", "--start-conf=auto", version, "main"],
        "initdb_user": "root",
        # Debian's tools look for a cluster by these.
        "settings": {
            "data_directory": data,
            "hba_file": conf + "/pg_hba.conf",
            "ident_file": conf + "/pg_ident.conf",
            "external_pid_file": "/var/run/postgresql/{}-main.pid".format(version),
        },
    }


def _redhat(version, source):
    if source == "distribution":
        return {
            "bin_dir": "/usr/bin",
            "data_dir": "/var/lib/pgsql/data",
            "conf_dir": "/var/lib/pgsql/data",
            "service": "postgresql",
            "packages": ["postgresql-server", "postgresql-contrib", "postgresql", "openssl"],
            "initdb": ["/usr/bin/postgresql-setup", "--initdb"],
            "initdb_user": "root",
            "settings": {},
        }
    short = version.replace(".", "")
    base, data = "/usr/pgsql-" + version, "/var/lib/pgsql/{}/data".format(version)
    setup = "postgresql{}-setup" if number(version) < (10,) else "postgresql-{}-setup"
    return {
        "bin_dir": base + "/bin",
        "data_dir": data,
        "conf_dir": data,
        "service": "postgresql-" + version,
        "packages": ["postgresql{}{}".format(short, part) for part in ("-server", "-contrib", "")] + ["openssl"],
        "initdb": ["{}/bin/{}".format(base, setup.format(short)), "initdb"],
        "initdb_user": "root",
        "settings": {},
    }
