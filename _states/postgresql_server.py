"""
The PostgreSQL server of this node as desired state. What is desired stands in the pillar's ``postgresql:``; the states under
``salt/postgresql`` use these in their order.

.. code-block:: yaml

    the cluster:
      postgresql_server.initialised: []

    its configuration:
      postgresql_server.configured:
        - require:
            - postgresql_server: the cluster
"""

from saltrbd import errors

__virtualname__ = "postgresql_server"


def __virtual__():
    return __virtualname__


def _state(name, look, act, done, would):
    """One state: ``look`` gives the changes, ``act`` makes them; refusals and errors are the comment."""
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        changes = look()
        if not changes:
            return dict(ret, comment=done)
        if __opts__["test"]:
            return dict(ret, result=None, changes=changes, comment=would)
        act()
        left = look()
    except errors.CommandExecutionError as error:
        return dict(ret, result=False, comment=str(error))
    if left:
        return dict(
            ret, result=False, changes=changes, comment="A second look does not confirm it; this is left: {}.".format(", ".join(left))
        )
    return dict(ret, changes=changes, comment=done)


def supported(name, version, source):
    """
    Say that this version from this source can be had on this system, and whether it is past its end of life. The pillar was checked before.

    .. code-block:: yaml

        PostgreSQL here:
          postgresql_server.supported:
            - version: "9.5"
            - source: pgdg
    """
    place = __salt__["postgresql_server.layout"]()
    if place["mistakes"]:
        return {"name": name, "result": False, "changes": {}, "comment": place["mistakes"]}
    comment = "PostgreSQL {} by {} on {} is supported here. {}".format(version, source, place["system"], place["ended"])
    return {"name": name, "result": True, "changes": {}, "comment": comment.strip()}


def unpacked(name):
    """
    Make the server's programs be those of ``postgresql:archive``. A new archive takes the place of an older one.

    .. code-block:: yaml

        the programs:
          postgresql_server.unpacked: []
    """
    look, act = __salt__["postgresql_server.plan_archive"], __salt__["postgresql_server.install_archive"]
    what = "The programs of {}".format(__salt__["postgresql_server.layout"]()["archive"]["source"])
    return _state(name, look, act, what + " are in place.", what + " would be unpacked.")


def initialised(name):
    """
    Make the cluster exist. One of another version in the same folder is an error; it is never made anew.

    .. code-block:: yaml

        the cluster:
          postgresql_server.initialised: []
    """
    place = __salt__["postgresql_server.layout"]()
    found = __salt__["postgresql_server.cluster_version"]()
    if found and found != place["version"]:
        comment = "{} holds a cluster of PostgreSQL {}, not {}. Move its data by pg_upgrade or by dump and restore first.".format(
            place["data_dir"], found, place["version"]
        )
        return {"name": name, "result": False, "changes": {}, "comment": comment}

    def look():
        return {} if __salt__["postgresql_server.cluster_version"]() else {"cluster": {"old": None, "new": place["data_dir"]}}

    what = "A cluster of PostgreSQL {} in {}".format(place["version"], place["data_dir"])
    return _state(name, look, __salt__["postgresql_server.initdb"], what + " exists.", what + " would be made.")


def certificate(name):
    """
    Make the server's certificate and key exist, the pillar's or self-signed ones; the key has mode 0600. A self-signed one is made anew
    30 days before it ends.

    .. code-block:: yaml

        the certificate:
          postgresql_server.certificate: []
    """
    look, act = __salt__["postgresql_server.plan_certificate"], __salt__["postgresql_server.write_certificate"]
    return _state(name, look, act, "The server's certificate and key are in place.", "The server's certificate and key would be written.")


def configured(name):
    """
    Make postgresql.conf, pg_hba.conf and pg_ident.conf be what the pillar says, and a running server follow them: by a reload, or by one
    restart where a setting needs that (``postgresql:restart: false`` leaves the restart to you, and the comment says so).

    A configuration that the server would not take is refused, and nothing is written; so is a setting that ALTER SYSTEM holds fast.

    .. code-block:: yaml

        the configuration:
          postgresql_server.configured: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    plan = __salt__["postgresql_server.plan_configuration"]
    try:
        wanted = plan() if __opts__["test"] else __salt__["postgresql_server.configure"]()
        left = None if __opts__["test"] else plan()
    except errors.CommandExecutionError as error:
        return dict(ret, result=False, comment=str(error))
    told = "{} of the server".format(wanted["action"]) if wanted["action"] else "no reload"
    why = " {}; systemctl restart does it.".format(wanted["why"]) if wanted["why"] and wanted["action"] != "restart" else ""
    if not wanted["changes"]:
        return dict(ret, comment="PostgreSQL is configured as declared.{}".format(why))
    ret["changes"] = wanted["changes"]
    if __opts__["test"]:
        return dict(ret, result=None, comment="The configuration would be written, with {}.{}".format(told, why))
    if left["changes"]:
        return dict(ret, result=False, comment="A second look does not confirm it; this is left: {}.".format(", ".join(left["changes"])))
    return dict(ret, comment="The configuration was written, with {}.{}".format(told, why))


def removed(name):
    """
    Make the cluster and all its data be gone, where ``postgresql:clean_data`` is true; otherwise it stays, and the comment says where.

    .. code-block:: yaml

        the data:
          postgresql_server.removed: []
    """
    place = __salt__["postgresql_server.layout"]()
    if not place["clean_data"]:
        comment = "The data in {} stays; postgresql:clean_data: true would remove it.".format(place["data_dir"])
        return {"name": name, "result": True, "changes": {}, "comment": comment}

    def look():
        return {place["data_dir"]: "removed"} if __salt__["file.directory_exists"](place["data_dir"]) else {}

    what = "The cluster in {}".format(place["data_dir"])
    return _state(name, look, __salt__["postgresql_server.remove_data"], what + " is gone.", what + " would be removed, with all its data.")
