"""
The PostgreSQL server of this node, as the pillar's ``postgresql:`` declares it: where it lies, what it says, how it is changed.

Every function works on the pillar's own server and as the operating system's user postgres.
"""

import os

from saltrbd import settings
from saltrbd.errors import CommandExecutionError, CommandFailed, InvalidPillar, RbdError
from saltrbd.postgresql import archive, certificate, configuration, pillar, server

__virtualname__ = "postgresql_server"

# initdb with checksums writes some 40 MiB; a busy disk takes its time.
INITDB_TIMEOUT = 600


def __virtual__():
    return __virtualname__


def _place():
    return pillar.read(settings.plain(__pillar__.get("postgresql") or {}), __grains__, _addresses())


def _addresses():
    found = []
    for interface in __salt__["network.interfaces"]().values():
        found += ["{}/{}".format(row["address"], row["netmask"]) for row in interface.get("inet") or [] if row.get("netmask")]
        found += ["{}/{}".format(row["address"], row["prefixlen"]) for row in interface.get("inet6") or [] if row.get("prefixlen")]
    return found


def layout():
    """
    Return what the pillar declares with all that follows from it for this system: places, packages, settings, rules.

    ``mistakes`` is a text with every mistake of the pillar, or None; with mistakes there is nothing else. No password is in it.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.layout
    """
    try:
        return dict(_place(), mistakes=None)
    except RbdError as error:
        return {"mistakes": str(error)}


def running():
    """
    Return pid, start (seconds since 1970), port and socket folder of the server, or None where none runs.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.running
    """
    found = server.running(_place()["data_dir"])
    return dict(found._asdict()) if found else None


def version():
    """
    Return what ``SELECT version()`` says. Raises ServerNotRunning.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.version
    """
    return server.rows(_place(), "SELECT version()")[0]["version"]


def plan_archive():
    """
    Return the changes of the server's programs, empty where they are those of the declared archive.

    Raises InvalidArchive where a file of the minion or of the file server is missing or is another one.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.plan_archive
    """
    place = _place()
    installed, wanted = archive.installed(place), place["archive"]["sha256"]
    if installed == wanted:
        return {}
    source = place["archive"]["source"]
    if source.startswith("salt://"):
        archive.check(place, (__salt__["cp.hash_file"](source) or {}).get("hsum", ""))
    elif source.startswith("/"):
        archive.check(place, archive.digest(source) if os.path.isfile(source) else "")
    return {"archive": {"old": installed or None, "new": wanted}}


def install_archive():
    """
    Unpack the pillar's ``postgresql:archive``. Raises InvalidArchive where it is not the declared one.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.install_archive
    """
    place = _place()
    source = place["archive"]["source"]
    path = source if source.startswith("/") else __salt__["cp.cache_file"](source, source_hash="sha256=" + place["archive"]["sha256"])
    archive.install(place, path)
    return archive.installed(place)


def cluster_version():
    """
    Return the version of the cluster in the data folder, or an empty text where there is none.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.cluster_version
    """
    return server.initialised(_place()["data_dir"])


def initdb():
    """
    Make the cluster. An existing one is an error of initdb's. Raises CommandFailed.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.initdb
    """
    place = _place()
    options = ["--encoding=" + place["encoding"], "--locale=" + place["locale"]]
    options += ["--auth-local=peer", "--auth-host={}".format("scram-sha-256" if place["scram"] else "md5")]
    options += ["--data-checksums"] if place["data_checksums"] else []
    argv, env = list(place["initdb"]), {}
    if argv[0].endswith("pg_createcluster"):
        own = ["--encoding=" + place["encoding"], "--locale=" + place["locale"], "--port={}".format(place["port"])]
        argv[1:1] = own
        argv += ["--"] + options[2:]
    elif place["initdb_user"] == "root":
        env = {"PGSETUP_INITDB_OPTIONS": " ".join(options)}
    else:
        argv += options
    code, out, err = _run(argv, env, place["initdb_user"])
    if code:
        raise CommandFailed("{} ended with exit code {}: {}".format(argv[0], code, (err or out).strip()[-500:]))
    return server.initialised(place["data_dir"])


def _run(argv, env, user):
    for name, value in env.items():
        argv = ["/usr/bin/env", "{}={}".format(name, value), *argv]
    return server.run(argv, INITDB_TIMEOUT, user=user)


def plan_certificate():
    """
    Return the changes that the certificate's files need, empty where they are as declared.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.plan_certificate
    """
    return certificate.plan(_place(), _tls())


def write_certificate():
    """
    Write certificate and key, the pillar's or self-signed ones for this host's names and addresses.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.write_certificate
    """
    names = [__grains__.get("fqdn") or __grains__["id"], __grains__.get("host") or "localhost", "localhost"]
    addresses = [*(__grains__.get("ipv4") or []), *(__grains__.get("ipv6") or [])]
    certificate.write(_place(), _tls(), list(dict.fromkeys([*names, *addresses])))
    return True


def _tls():
    return settings.plain((__pillar__.get("postgresql") or {}).get("tls") or {})


def _wanted(place):
    """Return the plan of the configuration that the server would take; raises Refused."""
    wanted = configuration.plan(place, configuration.found(place), configuration.live(place))
    configuration.check(place, wanted)
    return wanted


def plan_configuration():
    """
    Return how the configuration differs from the declared one: changes, action (reload, restart or none), why, refusals.

    Raises Refused where the server would not take it.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.plan_configuration
    """
    return dict(_wanted(_place())._asdict())


def _restart(place, before):
    """What the server's own check passes may still keep it from starting, such as a library that is missing."""
    if _started(place["service"]):
        return
    configuration.put_back(place, before)
    again = _started(place["service"])
    raise CommandFailed(
        "PostgreSQL {} does not start with this configuration; journalctl -u {} says why. The one before was put back, and with it"
        " the server {}.".format(place["version"], place["service"], "runs again" if again else "does not start either")
    )


def _started(service):
    try:
        return __salt__["service.restart"](service)
    except CommandExecutionError:
        return False


def configure():
    """
    Write the configuration; a running server reloads it, or is restarted once where a setting needs that.

    Returns the plan that was carried out, as ``plan_configuration`` does. Raises Refused, CommandFailed or NotConverged.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.configure
    """
    place = _place()
    wanted = _wanted(place)
    before = configuration.texts(place)
    configuration.write(place, wanted.changes)
    if wanted.action == "restart":
        _restart(place, before)
    elif wanted.action == "reload":
        configuration.reload(place)
    if wanted.action:
        configuration.confirm(place, wanted.action == "restart")
    return dict(wanted._asdict())


def remove_data():
    """
    Remove the cluster: data, its configuration and Salt's certificate. Only where the pillar says ``postgresql:clean_data: true``.

    CLI Example:

    .. code-block:: bash

        salt '*' postgresql_server.remove_data
    """
    place = _place()
    if not place["clean_data"]:
        raise InvalidPillar("The cluster in {} stays: postgresql:clean_data is not true.".format(place["data_dir"]))
    if server.running(place["data_dir"]):
        raise CommandFailed("The cluster in {} stays: its server runs.".format(place["data_dir"]))
    removed = [folder for folder in dict.fromkeys([place["data_dir"], place["conf_dir"]]) if os.path.isdir(folder)]
    for folder in removed:
        __salt__["file.remove"](folder)
    return removed
