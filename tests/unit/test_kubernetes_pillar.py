"""What the pillar's kubernetes: declares, and what is refused with which words."""

import copy
import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_facts import CEPH, FSID, KUBERNETES, RBD, build, of_kind, read
from saltplatform import kubernetes_names as names
from saltplatform import kubernetes_objects as objects
from saltplatform.kubernetes_check import amount
from saltplatform.kubernetes_pillar import credentials
from saltrbd.errors import InvalidPillar
from saltrbd.settings import load
from saltrbd.spec import Spec


def served(kubernetes, rbd=RBD, **more):
    return {str(item.spec): item for item in read({"volumes": {"secret": None}, **kubernetes}, rbd, **more).volumes}


def test_nothing_but_defaults():
    found = read({}, {})
    assert (found.namespace, found.driver_namespace, found.secret, found.config_map) == (
        "default",
        "default",
        "csi-rbd-secret",
        "ceph-csi-config",
    )
    assert [item["kind"] for item in build({}, {})] == ["Secret", "ConfigMap", "StorageClass", "VolumeSnapshotClass"]


def test_volumes():
    tenant = str(uuid.uuid5(uuid.UUID(FSID), "tenant"))
    found = {str(item.spec): item for item in read().volumes}
    assert sorted(found) == ["tenx-k8s/copy", "tenx-k8s/db", "tenx-k8s/tenant/Raw_1"]
    db, raw, clone = found["tenx-k8s/db"], found["tenx-k8s/tenant/Raw_1"], found["tenx-k8s/copy"]
    assert (db.name, db.claim, db.size, db.fs_type, db.features, db.data_pool, db.cluster_id) == (
        "db", "db", 20 << 30, "xfs", "exclusive-lock,layering", "ec", FSID,
    )  # fmt: skip
    assert (raw.name, raw.claim, raw.size, raw.block, raw.fs_type, raw.features, raw.cluster_id) == (
        names.subdomain("Raw_1"), "raw", 1500000, True, None, "layering", tenant,
    )  # fmt: skip
    # A clone has its parent's filesystem, by whichever section, and its size.
    assert (clone.fs_type, clone.size) == ("xfs", 20 << 30)
    assert read().clusters == {"": FSID, "tenant": tenant}


def test_the_cluster_is_asked_only_for_what_is_served():
    asked = []

    def sizes(entries):
        asked.extend(str(entry["spec"]) for entry in entries)
        return {entry["spec"]: 1 << 20 for entry in entries}

    assert served({}, sizes=sizes)["tenx-k8s/copy"].size == 1 << 20
    assert asked == ["tenx-k8s/copy"]
    asked.clear()
    assert "tenx-k8s/copy" not in served({"volumes": {"copy": None, "secret": None}}, sizes=sizes)
    assert asked == []


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        (None, ["copy", "db", "other/there", "tenant/Raw_1"]),
        ([], []),
        (["tenx-k8s"], ["copy", "db", "tenant/Raw_1"]),
        (["tenx-k8s/tenant", "other"], ["other/there", "tenant/Raw_1"]),
        (["nowhere"], []),
    ],
)
def test_pools(pools, expected):
    rbd = copy.deepcopy(RBD)
    del rbd["volumes"]["secret"]
    rbd["volumes"]["there"] = {"size": "1G", "pool": "other"}
    kubernetes = {} if pools is None else {"pools": pools}
    assert sorted(str(item.spec).replace("tenx-k8s/", "") for item in read(kubernetes, rbd).volumes) == expected


def test_a_named_volume_is_served_whatever_its_pool():
    assert list(served({"pools": [], "volumes": {"db": {}}})) == ["tenx-k8s/db"]


CREDENTIALS = [
    ({}, ("k8s", "/etc/ceph/k8s.keyring")),
    ({"user": "client.k8s"}, ("k8s", "/etc/ceph/k8s.keyring")),
    ({"user": "csi"}, ("csi", "")),
    ({"user": "csi", "keyring": "/etc/ceph/csi.keyring"}, ("csi", "/etc/ceph/csi.keyring")),
    ({"keyring": "/etc/ceph/csi.keyring"}, ("k8s", "/etc/ceph/csi.keyring")),
]


@pytest.mark.parametrize(("section", "expected"), CREDENTIALS)
def test_credentials(section, expected):
    chosen = load({}, {"ceph": {**CEPH, "keyring": "/etc/ceph/k8s.keyring"}})
    found = credentials(section, chosen)
    assert (found.user, found.keyring) == expected


def test_one_config_map_for_all_namespaces():
    found = of_kind(build(), "ConfigMap")["ceph-csi-config"]
    text = found["data"]["config.json"]
    assert text.count('"clusterID"') == 2
    assert text.count("[v2:192.168.0.12:3300,v1:192.168.0.12:6789]") == 2
    assert text.count('"radosNamespace": "tenant"') == 2
    assert of_kind(build({**KUBERNETES, "config_map": False}), "ConfigMap") == {}
    assert read({**KUBERNETES, "config_map": False}, ceph={**CEPH, "monitors": []}).config_map is None
    ids = {"": "one", "tenant": "two"}
    found = read({**KUBERNETES, "cluster_ids": ids}, ceph={**CEPH, "fsid": ""})
    assert found.clusters == ids


def changed(path, value):
    """The pillar with one value changed: ``kubernetes.pods.app.wait``."""
    pillar = copy.deepcopy({"kubernetes": KUBERNETES, "rbd": RBD, "ceph": CEPH})
    *way, last = path
    at = pillar
    for key in way:
        at = at[key]
    at[last] = value
    return pillar


ONE, MANY = ["ReadWriteOncePod", "ReadWriteOnce"], ["ReadWriteMany"]
K, V, P = "kubernetes", ("kubernetes", "volumes"), ("kubernetes", "pods", "app")
REFUSED = [
    ((K, "folder"), "etc/x", "kubernetes:folder: must be an absolute path in its plain form, of letters, digits and ._-, not 'etc/x'"),
    ((K, "folder"), "/etc/../x", "kubernetes:folder: must be an absolute path"),
    ((K, "namespace"), "Apps", "RFC 1123 (lower case letters, digits and -) of 63 characters at most, not 'Apps'"),
    ((K, "driver_namespace"), "a.b", "kubernetes:driver_namespace: must be a name of RFC 1123"),
    ((K, "secret"), "a_b", "digits and - with dots between) of 200 characters at most, not 'a_b'"),
    ((K, "version"), 1.3, "kubernetes:version: must be a version such as '1.30', in quotes, not 1.3"),
    ((K, "version"), "1.2", "kubernetes: kubernetes:version is 1.2, and kubernetes-validate"),
    ((K, "config_map"), True, "kubernetes:config_map: must be a name, or false, not True"),
    ((K, "config_map"), "A", "kubernetes:config_map: must be a name of RFC 1123"),
    (("ceph", "monitors"), [], "kubernetes:config_map: it has the monitors for the driver, and ceph:monitors is empty"),
    (("ceph", "fsid"), "", "ceph:fsid is not declared, and the driver's clusterID is made of it"),
    (("ceph", "fsid"), "mine", "ceph:fsid is 'mine', and the driver's clusterID is made of it"),
    ((K, "cluster_ids"), {"": "x" * 37}, "kubernetes:cluster_ids:: must be a text of 1 to 36 characters"),
    ((K, "cluster_ids"), {"": "one", "tenant": "one"}, "the namespaces '' and 'tenant' cannot have one id"),
    ((K, "pools"), ["a/b/c"], "kubernetes:pools: The namespace in 'a/b/c' 'b/c' holds '/'"),
    ((K, "volumes"), [], "kubernetes:volumes: must be a mapping or nothing"),
    ((*V, "nothing"), {}, "kubernetes:volumes:nothing: tenx-k8s/nothing is declared neither in rbd:volumes nor in rbd:clones"),
    ((*V, "tenx-k8s/db"), {}, "kubernetes:volumes:tenx-k8s/db: tenx-k8s/db is declared twice"),
    ((*V, "db@s"), {}, "names a snapshot, where an image is wanted"),
    ((*V, "secret"), {}, "opens no LUKS header that it has not made itself. kubernetes:volumes:tenx-k8s/secret: null leaves it out"),
    ((*V, "db", "size"), "1G", "kubernetes:volumes:db: has unknown keys: 'size'"),
    ((*V, "db", "name"), "Db", "kubernetes:volumes:tenx-k8s/db:name: must be a name of RFC 1123"),
    ((*V, "db", "claim"), "x" * 201, "kubernetes:volumes:tenx-k8s/db:claim: must be a name of RFC 1123"),
    ((K, "user"), "client.", "kubernetes:user: must be a Ceph user's name such as k8s, not 'client.'"),
    ((*V, "db", "claim"), "copy", "tenx-k8s/copy: its claim has the name 'copy', which is that of tenx-k8s/db: give it another one"),
    ((*V, "db", "fs_type"), "btrfs", "kubernetes:volumes:db:fs_type: must be ext4 or xfs, not 'btrfs'"),
    ((*V, "db", "access_modes"), MANY, "ReadWriteMany is for mode Block alone: two hosts cannot write one xfs"),
    ((*V, "db", "access_modes"), ONE, "ReadWriteOncePod cannot be combined with another access mode"),
    ((*V, "db", "access_modes"), [], "kubernetes:volumes:db:access_modes: must be a list of access modes, each once, not []"),
    ((*V, "db", "mode"), "Block", "fs_type and mount_options have no use in the mode Block"),
    ((*V, "copy"), {"fs_type": "ext4"}, "kubernetes: tenx-k8s/copy: it is a clone of a volume with xfs, not with ext4"),
    (("rbd", "volumes", "db", "mount"), "/srv/db", "Salt mounts it on this host at /srv/db, and two hosts would write it"),
    (("rbd", "volumes", "db", "features"), ["exclusive-lock", "journaling"], "the kernel maps no image with journaling: declare mounter"),
    (("rbd", "volumes", ".."), {"size": "1G"}, "tenx-k8s/..: the driver would take its name for a folder"),
    (("rbd", "volumes", "x" * 129), {"size": "1G"}, "the volumeHandle is its name, and CSI takes 128 bytes at most"),
    (("rbd", "volumes", "db2"), {"size": "1G", "image": "db", "pool": "other"}, "its image has the name 'db', which is that of"),
    (("rbd", "clones", "far"), {"parent": "other/base@s", "size": "1G"}, "its filesystem is not known, for the pillar does not"),
    (("rbd", "clones", "far"), {"parent": "other/base@s"}, "its size is not known: declare it in rbd:clones"),
    ((K, "storage_classes", "rbd", "features"), ["object-map"], "storage_classes:rbd: Ceph gives an image object-map and fast-diff"),
    ((K, "storage_classes", "tenant", "default"), True, "kubernetes:storage_classes: rbd, tenant cannot all be the default"),
    ((K, "snapshot_classes", "kept", "default"), True, "kubernetes:snapshot_classes: rbd, kept cannot all be the default"),
    ((K, "snapshot_classes", "A"), None, "kubernetes:snapshot_classes:A: must be a name of RFC 1123"),
    ((*P, "volumes"), [], "kubernetes:pods:app:volumes:"),
    ((*P, "containers"), [], "kubernetes:pods:app:containers:"),
    ((*P, "wait"), 0, "kubernetes:pods:app:wait:"),
    ((*P, "spec"), {"containers": []}, "kubernetes:pods:app:spec:"),
    ((*P, "volumes", 0, "path"), "data", "kubernetes:pods:app:volumes:0:path: must be an absolute path"),
    ((*P, "volumes", 0, "path"), "/a'b", "kubernetes:pods:app:volumes:0:path: must be an absolute path"),
    ((*P, "volumes", 0, "path"), "/old", "kubernetes:pods:app: the path /old is there twice"),
    ((*P, "volumes", 0, "owner"), "postgres", "volumes:0:owner: must be UID or UID:GID in digits, in quotes, not 'postgres'"),
    ((*P, "volumes", 0, "mode"), 750, "kubernetes:pods:app:volumes:0:mode: must be an octal mode such as '0750', in quotes, not 750"),
    ((*P, "volumes", 0, "folders"), ["../x"], "must be a path below the volume"),
    ((*P, "volumes", 0, "folders"), ["-p"], "must be a path below the volume"),
    ((*P, "volumes", 0, "read_only"), True, "tenx-k8s/db cannot be prepared (folders, mode, owner): it is no filesystem"),
    ((*P, "volumes", 2, "owner"), "1", "tenx-k8s/tenant/Raw_1 cannot be prepared (owner)"),
    ((*P, "volumes", 0, "volume"), "secret", "kubernetes:pods:app: tenx-k8s/secret is not served to Kubernetes"),
    ((*P, "volumes", 0, "volume"), "copy", "kubernetes:pods:app: the volume copy is there twice"),
    (("kubernetes", "pods", "App"), KUBERNETES["pods"]["app"], "kubernetes:pods:App: must be a name of RFC 1123"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "words"), REFUSED, ids=[f"{'.'.join(map(str, path))}-{number}"[:60] for number, (path, *_) in enumerate(REFUSED)]
)
def test_refused(path, value, words):
    read()
    pillar = changed(path, value)
    with pytest.raises(InvalidPillar) as error:
        read(**pillar)
    assert str(error.value).startswith("The pillar has mistakes, so nothing was touched. ")
    assert words in str(error.value)


@pytest.mark.parametrize("section", [[], "x", 5])
def test_no_mapping(section):
    with pytest.raises(InvalidPillar, match="kubernetes: must be a mapping"):
        read(section)


def test_every_mistake_is_told():
    pillar = changed((K, "namespace"), "Apps")
    pillar["kubernetes"]["volumes"]["secret"] = {}
    pillar["rbd"]["volumes"]["db"]["mount"] = "/srv/db"
    with pytest.raises(InvalidPillar) as error:
        read(**pillar)
    for words in ("kubernetes:namespace", "tenx-k8s/secret: it is encrypted", "tenx-k8s/db: Salt mounts it"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("db", "db"),
        ("a.b-c.1", "a.b-c.1"),
        ("1e3", "1e3"),
        ("Data_1", "data-1-4dc70fe4dc"),
        ("data_1", None),
        ("-", None),
        ("ä", None),
        ("a..b", None),
        ("a" * 254, None),
    ],
)
def test_names(text, name):
    found = names.subdomain(text)
    assert names.is_subdomain(found)
    assert name in (None, found)
    assert (found == text) == names.is_subdomain(text)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300))
def test_every_text_gets_a_name(text):
    for make, valid, limit in ((names.subdomain, names.is_subdomain, 253), (names.label, names.is_label, 63)):
        found = make(text)
        assert valid(found)
        assert len(found) <= limit
        assert make(text) == found
        assert (found == text) == valid(text)


@settings(deadline=None)
@given(st.sets(st.from_regex(re.compile(r"[A-Za-z_.-]{1,3}"), fullmatch=True), min_size=2, max_size=40))
def test_names_stay_apart(texts):
    assert len({names.subdomain(text) for text in texts}) == len(texts)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_quantities_are_exact(number):
    assert amount(objects.quantity(number)) == number


def test_a_volume_more_changes_no_other_object():
    rbd = copy.deepcopy(RBD)
    rbd["volumes"]["Db"] = {"size": "1G"}
    before, after = build(), build(rbd=rbd)
    assert [item for item in after if item not in before] == [item for item in after if item["metadata"]["name"] == names.subdomain("Db")]
    assert [item for item in before if item not in after] == []


def test_spec_is_the_whole_place():
    assert {item.spec for item in read().volumes} == {
        Spec("tenx-k8s", "", "db", ""),
        Spec("tenx-k8s", "", "copy", ""),
        Spec("tenx-k8s", "tenant", "Raw_1", ""),
    }
