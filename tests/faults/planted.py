"""Secrets planted in pillar and keyring: a Ceph user's key, which lies in its keyring and as keyring_text in the pillar, and the passphrase
of an encrypted volume. Letters and digits alone, so that no way of writing text down makes another text of them.
"""

import re
from collections import namedtuple

from kill_site import Site

from labkit import commands

USER = "client.planted"
PASSPHRASE = "PlantedPassphrase8841"
# Declared for the same volume later on: it opens nothing, and must show as little.
WRONG = "PlantedAndWrong5507"

Planted = namedtuple("Planted", "site secrets")


def plant(cluster, pool, folder, repo):
    """A site whose pillar and keyring hold the secrets: ``Planted(site, {what: secret})``."""
    argv = ["ceph", "-c", cluster.conf, "auth", "get-or-create", USER, "mon", "profile rbd", "osd", f"profile rbd pool={pool}"]
    text = commands.run(argv)[1]
    keyring = folder / "keyring"
    keyring.touch(mode=0o600)
    keyring.write_text(text)
    site = Site(cluster, pool, folder, repo, ceph={"user": USER.partition(".")[2], "keyring": str(keyring), "keyring_text": text})
    (folder / "pillar/all.sls").chmod(0o600)
    return Planted(site, {"key": re.search(r"key = (\S+)", text).group(1), "passphrase": PASSPHRASE, "wrong passphrase": WRONG})


def uproot(planted):
    """Take the site away, and its user."""
    planted.site.close()
    commands.run(["ceph", "-c", planted.site.cluster.conf, "auth", "rm", USER])


def sealed(site, passphrase=PASSPHRASE, **more):
    """What the pillar declares for an encrypted volume."""
    return {"size": "64M", "persist": False, "mount": site.point("sealed"), "encryption": {"passphrase": passphrase, **more}}


def shown(secrets, text):
    """The names of the secrets that a text holds."""
    return [name for name, secret in secrets.items() if secret in text]
