"""Mappings and mounts over a reboot: systemd brings them back before and without Salt, and ends them in order."""

import io
import json
import tarfile
import time

import pytest

from labkit import nodes
from labkit.home import REPO

pytestmark = pytest.mark.timeout(600)

VOLUMES = {
    "volumes": {"boot1": {"size": "64M", "mount": "/mnt/boot1"}, "boot2": {"size": "64M", "mount": "/mnt/boot1/boot2"}},
}
# Where the checkout is read from: as a package on Salt's path, which stays when Salt is gone.
MODULES = "/srv/modules"


class Site:
    """A node with a masterless minion on the nodes' cluster."""

    def __init__(self, node, known):
        self.node, self.known = node, known

    def salt(self, *words):
        """Run salt-call and return what it returns."""
        out = self.node.run("salt-call", "--local", "-c", "/srv/minion", "--out=json", *words, check=False)[1]
        return json.loads(out)["local"]

    def highstate(self, *words):
        """Return {function and name: result} of the volumes' states; all must be right."""
        answer = self.salt("state.apply", "rbd", *words)
        assert isinstance(answer, dict), answer
        wrong = [result["comment"] for result in answer.values() if result["result"] is False]
        assert wrong == []
        return {name: result["changes"] for name, result in answer.items() if result["changes"]}

    def units(self):
        """Return {unit: active state} of the mappings' own units."""
        lines = self.node.shell("systemctl list-units --all --plain --no-legend 'rbd-volume@*'")[1].splitlines()
        return {line.split()[0]: line.split()[2] for line in lines if "not-found" not in line}

    def files(self):
        """What lies in /etc of it."""
        units = "/etc/systemd/system/rbd-volume@.service /etc/systemd/system/multi-user.target.wants/rbd-volume@*"
        return self.node.shell(f"ls -d /etc/rbd-volumes /usr/local/lib/rbd-volumes {units} 2>/dev/null", check=False)[1].split()


@pytest.fixture
def site(make_node, lab_home):
    """A fresh node with the Ceph client's packages, its volumes made, mapped and mounted."""
    node = make_node(6)
    known = nodes.facts(lab_home)
    node.shell("DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends " + PACKAGES, timeout=280)
    for path in ("conf", "keyring"):
        with open(known[path]) as file:
            node.write(f"/etc/ceph/lab.{path}", file.read(), 0o600)
    carry(node)
    ceph = {"fsid": known["fsid"], "monitors": known["monitors"], "keyring": "/etc/ceph/lab.keyring", "pool": "rbd"}
    minion = {
        "id": node.name,
        "file_client": "local",
        "module_dirs": [MODULES],
        "file_roots": {"base": [f"{MODULES}/salt"]},
        "pillar_roots": {"base": ["/srv/pillar"]},
        "enable_fqdns_grains": False,
    }
    for path, content in (
        ("/srv/minion/minion", minion),
        ("/srv/pillar/top.sls", {"base": {"*": ["site"]}}),
        ("/srv/pillar/site.sls", {"ceph": ceph, "rbd": VOLUMES}),
    ):
        node.write(path, json.dumps(content))
    site = Site(node, known)
    site.highstate()
    yield site
    node.shell("umount /mnt/boot1/boot2 /mnt/boot1", check=False)
    for name in ("boot2", "boot1"):
        site.salt("state.single", "rbd_device.unmapped", name)
        site.salt("state.single", "rbd_image.absent", name, "trash=False")


PACKAGES = "ceph-common python3-rados python3-rbd qemu-system-common qemu-utils qemu-block-extra fuse3 e2fsprogs xfsprogs"


def carry(node):
    """Copy the modules into the node."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name in ("_beacons", "_modules", "_runners", "_states", "_utils", "salt"):
            tar.add(REPO / name, name, filter=lambda item: None if "__pycache__" in item.name else item)
    path = node.root / "srv/modules.tar"
    path.write_bytes(held.getvalue())
    node.shell(f"mkdir -p {MODULES} && tar -xf /srv/modules.tar -C {MODULES} && rm /srv/modules.tar")


def test_over_reboots(site):
    node = site.node
    units = site.units()
    assert len(units) == 2 and set(units.values()) == {"active"}
    assert site.highstate("test=True") == site.highstate() == {}
    node.shell("echo one >/mnt/boot1/file; echo two >/mnt/boot1/boot2/file")
    # Salt's cache and modules may go.
    node.shell(f"mv {MODULES} {MODULES}.away; rm -rf /var/cache/salt")
    # A reboot in order: unmounted, unmapped, the locks given back, so that there is nothing to wait for.
    began = time.monotonic()
    assert node.reboot() == []
    assert node.shell("cat /mnt/boot1/file /mnt/boot1/boot2/file")[1].split() == ["one", "two"]
    assert site.units() == units
    node.shell(f"mv {MODULES}.away {MODULES}")
    assert "is still watched" not in node.shell("journalctl -b -u 'rbd-volume@*'")[1]
    assert site.highstate("test=True") == site.highstate() == {}
    print(f"reboot and mounts: {time.monotonic() - began:.1f} s")
    # The power fails: the cluster drops the dead watch after 30 s, and the unit waits for that.
    node.shell("echo three >/mnt/boot1/file; sync -f /mnt/boot1/file")
    node.crash()
    assert node.restart() == []
    assert node.shell("cat /mnt/boot1/file /mnt/boot1/boot2/file")[1].split() == ["three", "two"]
    assert site.highstate("test=True") == site.highstate() == {}


def test_ended_by_a_state(site):
    node = site.node
    (unit,) = [name for name in site.units() if "boot2" in name]
    site.salt("state.single", "rbd_filesystem.unmounted", "/mnt/boot1/boot2")
    dry, real = (next(iter(site.salt("state.single", "rbd_device.unmapped", "boot2", f"test={test}").values())) for test in (True, False))
    assert (dry["result"], real["result"]) == (None, True)
    assert dry["changes"] == real["changes"] and real["changes"]["rbd/boot2"]["at_boot"] == {"old": unit, "new": None}
    assert len(site.units()) == 1 and len(site.files()) == 4
    # The declaration says so, and the mapping itself stays.
    once = ("state.single", "rbd_device.mapped", "boot1", "persist=False")
    (changed,) = site.salt(*once).values()
    assert list(changed["changes"]["rbd/boot1"]) == ["at_boot"]
    assert site.files() == [] and node.run("findmnt", "/mnt/boot1")[0] == 0
    (same,) = site.salt(*once).values()
    assert (same["result"], same["changes"]) == (True, {})
    # Drift is mended.
    assert site.highstate("test=True") != {}
    site.highstate()
    node.shell("echo '{' >/etc/rbd-volumes/*boot1*.json; rm /etc/systemd/system/multi-user.target.wants/rbd-volume@*boot2*")
    assert site.highstate("test=True") == site.highstate() != {}
    assert site.highstate() == {}
    assert len(site.units()) == 2
