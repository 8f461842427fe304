"""The objects by the published schemas of every version there is; each way to break one is told."""

import copy
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_facts import CEPH, KEY, KUBERNETES, build, of_kind
from saltplatform import kubernetes_check as check
from saltplatform import kubernetes_library as library
from saltplatform import kubernetes_shown as shown
from saltplatform import kubernetes_text as texts
from saltrbd.errors import InvalidArgument, InvalidPillar

NEWEST = library.versions()[-1]


@pytest.mark.parametrize("version", library.versions())
def test_every_kind_is_valid_in_every_version(version):
    assert check.mistakes(build(), version) == []


def test_a_hundred_volumes_are_valid():
    rbd = {"volumes": {f"Volume_{number}": {"size": f"{number + 1}G"} for number in range(100)}}
    paths = [{"volume": f"Volume_{number}", "path": f"/data/{number}"} for number in range(100)]
    pod = {"volumes": paths, "containers": [{"name": "app", "image": "app:1"}]}
    objects = build({"pods": {"app": pod}}, rbd)
    assert len(objects) == 4 + 200 + 1
    assert check.mistakes(objects, NEWEST) == []


def test_the_example_is_valid(repo):
    pillar = {**yaml.safe_load((repo / "pillar/ceph.sls").read_text()), **yaml.safe_load((repo / "pillar/kubernetes.sls").read_text())}
    objects = build(**pillar)
    assert check.mistakes(objects, NEWEST) == []
    assert sorted(of_kind(objects, "PersistentVolume")) == ["orders", "orders-test"]
    assert of_kind(objects, "Secret")["csi-rbd-secret"]["stringData"]["userID"] == "k8s"
    assert list(of_kind(objects, "Pod")) == ["orders"]


def test_the_library_itself_agrees():
    """kubernetes-validate's own function, which reads its files anew for each object, on one of each kind."""
    import kubernetes_validate

    for item in {item["kind"]: item for item in build()}.values():
        if item["kind"] == "VolumeSnapshotClass":
            with pytest.raises(kubernetes_validate.SchemaNotFoundError):
                kubernetes_validate.validate(item, NEWEST, strict=True)
        else:
            assert kubernetes_validate.validate(item, NEWEST, strict=True) == NEWEST
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(dict(item, specs={}), NEWEST, strict=True)


def test_what_the_driver_is_told():
    found = of_kind(build(), "PersistentVolume")["db"]["spec"]
    assert found["csi"] == {
        "driver": "rbd.csi.ceph.com",
        "volumeHandle": "db",
        "nodeStageSecretRef": {"name": "csi-rbd-secret", "namespace": "ceph-csi"},
        "volumeAttributes": {
            "clusterID": CEPH["fsid"],
            "pool": "tenx-k8s",
            "staticVolume": "true",
            "imageFeatures": "exclusive-lock,layering",
            "dataPool": "ec",
        },
        "fsType": "xfs",
    }
    assert found["capacity"] == {"storage": "20Gi"}
    assert found["mountOptions"] == ["noatime"]
    raw = next(item["spec"] for name, item in of_kind(build(), "PersistentVolume").items() if name.startswith("raw-1-"))
    assert (raw["volumeMode"], raw["csi"].get("fsType"), raw["csi"]["volumeAttributes"]["mounter"]) == ("Block", None, "rbd-nbd")
    assert raw["claimRef"]["name"] == "raw"
    classes = of_kind(build(), "StorageClass")
    assert classes["rbd"]["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    parameters = classes["tenant"]["parameters"]
    assert (parameters["stripeUnit"], parameters["stripeCount"], parameters["mounter"]) == ("65536", "4", "rbd-nbd")
    assert parameters["clusterID"] == raw["csi"]["volumeAttributes"]["clusterID"]
    assert all(isinstance(value, str) for item in classes.values() for value in item["parameters"].values())


def test_a_volume_that_grows_changes_no_claim():
    """The API server would refuse the claim: only dynamically provisioned ones may ask for more."""

    def sized(size):
        rbd = {"volumes": {"db": {"size": size}}}
        return build({}, rbd)

    before, after = sized("1G"), sized("2G")
    assert [item["kind"] for item in after if item not in before] == ["PersistentVolume"]
    small = of_kind(sized("100"), "PersistentVolumeClaim")["db"]
    assert small["spec"]["resources"]["requests"]["storage"] == "100"
    assert check.mistakes(sized("100"), NEWEST) == check.mistakes(after, NEWEST) == []


def test_the_pod_waits_then_prepares_in_order():
    spec = of_kind(build(), "Pod")["app"]["spec"]
    assert [container["name"] for container in spec["initContainers"]] == ["wait", "prepare-1", "schema"]
    wait, prepare, schema = spec["initContainers"]
    assert wait["command"][3:] == ["wait", "30", "/data", "/old", "/dev/raw"]
    assert prepare["command"][3:] == ["prepare-1", "/data", "999:999", "0750", "pgdata/a"]
    assert prepare["volumeMounts"] == [{"name": "db", "mountPath": "/data"}]
    for container in (wait, schema, spec["containers"][0]):
        assert container["volumeMounts"] == [{"name": "db", "mountPath": "/data"}, {"name": "copy", "mountPath": "/old", "readOnly": True}]
        assert container["volumeDevices"] == [{"name": "raw", "devicePath": "/dev/raw"}]
    assert spec["restartPolicy"] == "OnFailure"
    assert [volume["name"] for volume in spec["volumes"]] == ["db", "copy", "raw", "scratch"]
    # What a container says of its own mounts stays.
    pod = copy.deepcopy(KUBERNETES["pods"])
    pod["app"]["containers"][0]["volumeMounts"] = [{"name": "scratch", "mountPath": "/tmp"}]
    spec = of_kind(build({**KUBERNETES, "pods": pod}), "Pod")["app"]["spec"]
    assert spec["containers"][0]["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    assert spec["containers"][0]["volumeDevices"] == [{"name": "raw", "devicePath": "/dev/raw"}]


GONE = object()
PV, PVC, POD, SECRET = ("PersistentVolume", "db"), ("PersistentVolumeClaim", "db"), ("Pod", "app"), ("Secret", "csi-rbd-secret")
CLASS, SNAPSHOT = ("StorageClass", "rbd"), ("VolumeSnapshotClass", "rbd")
BROKEN = [
    # The published schemas.
    (PV, "spec.capacitys", {}, "spec has unknown keys: 'capacitys'"),
    (PV, "spec.accessModes", "ReadWriteOnce", "spec.accessModes must be a list or nothing"),
    (PV, "spec.csi.driver", GONE, "spec.csi lacks driver"),
    (PV, "spec.csi.volumeAttributes.staticVolume", True, "spec.csi.volumeAttributes.staticVolume must be text or nothing"),
    (PV, "spec.csi.readOnly", "yes", "spec.csi.readOnly must be true or false or nothing"),
    (PV, "apiVersion", "v2", "Kubernetes {} has no 'PersistentVolume' of 'v2'"),
    (PV, "kind", "PersistentVolumes", "has no 'PersistentVolumes' of 'v1'"),
    (PV, "kind", GONE, "it has no kind and apiVersion"),
    (PV, "metadata", GONE, "metadata.name is not there"),
    (PV, "metadata.names", "x", "metadata has unknown keys: 'names'"),
    (PV, "spec.volumeMode", 5, "spec.volumeMode must be"),
    (CLASS, "provisioner", GONE, "it lacks provisioner"),
    (CLASS, "parameters.pool", 5, "parameters.pool must be text or nothing"),
    (SECRET, "stringData.userKey", {"planted": KEY}, "stringData.userKey must be text or nothing"),
    (POD, "spec.containers", GONE, "spec lacks containers"),
    (POD, "spec.containers.0.name", GONE, "spec.containers.0 lacks name"),
    (POD, "spec.containers.0.env.0.value", ["planted-token"], "spec.containers.0.env.0.value must be text or nothing"),
    (POD, "spec.initContainers.0.commands", [], "spec.initContainers.0 has unknown keys: 'commands'"),
    (SNAPSHOT, "deletionPolicy", "Keep", "deletionPolicy must be one of Delete, Retain"),
    (SNAPSHOT, "deletionPolicy", GONE, "it lacks deletionPolicy"),
    (SNAPSHOT, "driver", 5, "driver must be text"),
    (SNAPSHOT, "parameters.clusterID", 5, "parameters.clusterID must be text"),
    (SNAPSHOT, "spec", {}, "it has unknown keys: 'spec'"),
    (SNAPSHOT, "metadata.name", 5, "metadata.name"),
    (SNAPSHOT, "apiVersion", "snapshot.storage.k8s.io/v1beta1", "has no 'VolumeSnapshotClass' of 'snapshot.storage.k8s.io/v1beta1'"),
    (PV, "kind", "../../../x", "has no '../../../x' of 'v1'"),
    (PV, "apiVersion", "../v1", "apiVersion must be one of v1"),
    (PV, "metadata.labels", {1: "a"}, "it has a key that is no text; put it in quotes"),
    # Names and quantities.
    (PV, "metadata.name", "Db", "metadata.name 'Db' is no name of RFC 1123"),
    (PV, "metadata.namespace", "apps", "metadata.namespace is there, and the object lies in none"),
    (PVC, "metadata.namespace", GONE, "metadata.namespace None is no name of RFC 1123"),
    (PV, "metadata.labels.team", "a b", "the value 'a b' of the label team is none that Kubernetes takes"),
    (PV, "metadata.labels.-", "a", "the label '-' is none that Kubernetes takes"),
    (PV, "spec.capacity.storage", "20GiB", "spec.capacity.storage is no size"),
    (PVC, "spec.resources.requests.storage", "20K", "spec.resources.requests.storage is no size"),
    (SECRET, "data", {"x": "?"}, "data.x is no base64"),
    # What the driver asks.
    *((PV, f"spec.csi.volumeAttributes.{key}", GONE, f"volumeAttributes.{key} is empty or not there") for key in check._ATTRIBUTES),
    (PV, "spec.csi.volumeAttributes.staticVolume", "yes", "staticVolume must be the text true"),
    (PV, "spec.csi.volumeHandle", "", "spec.csi.volumeHandle is empty"),
    (PV, "spec.csi.fsType", "", "spec.csi.fsType is empty or not there"),
    (PV, "spec.persistentVolumeReclaimPolicy", "Delete", "spec.persistentVolumeReclaimPolicy must be Retain"),
    (PV, "spec.accessModes", ["ReadWriteMany"], "spec.accessModes has ReadWriteMany, which the driver takes for Block alone"),
    (PV, "spec.accessModes", [], "spec.accessModes is empty or not there"),
    (SECRET, "stringData.userID", "", "userID is empty or not there"),
    (SECRET, "stringData.userKey", GONE, "userKey is empty or not there"),
    (CLASS, "parameters.clusterID", "", "parameters.clusterID is empty or not there"),
    (SNAPSHOT, "parameters.clusterID", GONE, "parameters.clusterID is empty or not there"),
    # What is named by another object.
    (
        PV,
        "spec.csi.nodeStageSecretRef.name",
        "other",
        "spec.csi.nodeStageSecretRef names the Secret 'other' in ceph-csi, which is not there",
    ),
    (PV, "spec.claimRef.name", "other", "spec.claimRef names the PersistentVolumeClaim 'other' in apps, which is not there"),
    (PV, "spec.claimRef.name", "copy", "PersistentVolumeClaim db: the PersistentVolume db is another claim's"),
    (PVC, "spec.volumeName", "other", "spec.volumeName names the PersistentVolume 'other', which is not there"),
    (PVC, "spec.resources.requests.storage", "21Gi", "it asks for more than the PersistentVolume db has"),
    (PVC, "spec.accessModes", ["ReadOnlyMany"], "the PersistentVolume db has not its access modes"),
    (PVC, "spec.volumeMode", "Block", "the PersistentVolume db has another volumeMode"),
    (PVC, "spec.storageClassName", "rbd", "the PersistentVolume db has another storageClassName"),
    (CLASS, "parameters.csi.storage.k8s.io/node-stage-secret-name", "other", "names the Secret 'other' in ceph-csi, which is not there"),
    (POD, "spec.volumes.0.persistentVolumeClaim.claimName", "other", "spec.volumes names the PersistentVolumeClaim 'other' in apps"),
    (POD, "spec.containers.0.volumeMounts.0.name", "other", "the container app mounts 'other', which is no volume of the Pod"),
    (POD, "spec.containers.0.volumeMounts.0.mountPath", "/old", "the container app has two volumes at /old"),
    (POD, "spec.containers.0.name", "wait", "the container wait is there twice"),
    (POD, "spec.containers.0.name", "a.b", "the container 'a.b' has no name of RFC 1123 without dots"),
    (POD, "spec.containers.0.image", GONE, "the container app has no image"),
    (POD, "spec.volumes.1.name", "db", "the volume db is there twice"),
]


def broken(objects, at, path, value):
    item = of_kind(objects, at[0])[at[1]]
    # Some keys have dots themselves.
    head, dotted = (path, None) if ".csi.storage" not in path else ("parameters", path.partition(".")[2])
    *way, last = head.split(".") if dotted is None else [head, dotted]
    for key in way:
        item = item[int(key)] if isinstance(item, list) else item[key]
    if value is GONE:
        del item[last]
    else:
        item[last] = value
    return objects


@pytest.mark.parametrize(("at", "path", "value", "words"), BROKEN, ids=[f"{at[0]}-{path}-{n}" for n, (at, path, *_) in enumerate(BROKEN)])
def test_a_broken_one_is_told(at, path, value, words):
    found = check.mistakes(broken(build(), at, path, value), NEWEST)
    assert any(words.format(NEWEST) in sentence for sentence in found), found
    for sentence in found:
        assert KEY not in sentence
        assert "planted-token" not in sentence


@pytest.mark.parametrize(
    "item", [None, [], "text", 5, {}, {"kind": 5, "apiVersion": "v1"}, {"kind": "Pod", "apiVersion": "v1", "metadata": None}]
)
def test_no_object_at_all(item):
    assert check.mistakes([item], NEWEST)


def test_what_is_there_twice():
    objects = build()
    assert "Pod app: it is there twice." in check.mistakes([*objects, copy.deepcopy(objects[-1])], NEWEST)
    twin = copy.deepcopy(of_kind(objects, "PersistentVolume")["db"])
    twin["metadata"]["name"] = "twin"
    found = check.mistakes([*objects, twin], NEWEST)
    assert "PersistentVolume twin: its volumeHandle is that of PersistentVolume db too, and Kubernetes takes one for the other." in found


def test_nulls_are_no_traceback():
    """The published schemas let nearly every field be null."""
    for item in build():
        for key in item:
            if key not in ("kind", "apiVersion"):
                check.mistakes([dict(item, **{key: None})], NEWEST)
        for key in item.get("spec") or ():
            check.mistakes([dict(item, spec={**item["spec"], key: None})], NEWEST)


def test_versions():
    assert library.check_version("") == NEWEST
    assert library.check_version("1.30") == "1.30"
    with pytest.raises(InvalidArgument, match="kubernetes:version is 1.2, and kubernetes-validate .* knows 1.25 to"):
        library.check_version("1.2")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("1Ki", 1024), ("1k", 1000), ("1.5Gi", 3 << 29), ("100m", 0.1), ("1e3", 1000), ("1E", 10**18), ("+5", 5), (".5", 0.5)]
    + [(text, None) for text in ("", "1K", "1GB", "1GiB", "Gi", "-1", " 1", "1 Gi", "1e", None, 5)],
)
def test_quantities(text, number):
    found = check.amount(text)
    assert found is None if number is None else float(found) == number


def test_secrets_are_not_shown():
    objects = build()
    shown_text = json.dumps([shown.redacted(item) for item in objects])
    assert KEY not in shown_text
    assert "planted-token" not in shown_text
    assert shown_text.count(shown.HIDDEN) == 3
    assert [item["kind"] for item in objects if shown.has_secrets(item)] == ["Secret", "Pod"]
    for item in objects:
        if not shown.has_secrets(item):
            assert shown.redacted(item) == item
    other = copy.deepcopy(objects[0])
    other["stringData"]["userKey"] = "another"
    other["stringData"]["more"] = "more"
    del other["stringData"]["userID"]
    assert shown.changes(objects[0], other) == {
        "stringData.userKey": {"old": "(not shown)", "new": "(not shown, another one)"},
        "stringData.more": {"old": None, "new": "(not shown)"},
        "stringData.userID": {"old": "(not shown)", "new": None},
    }
    assert shown.changes(objects[1], objects[1]) == {}
    assert shown.changes({"a": 1, "b": True}, {"a": True, "b": 1}) == {"a": {"old": 1, "new": True}, "b": {"old": True, "new": 1}}


def test_a_secret_in_another_form_is_not_shown():
    secret = of_kind(build(), "Secret")["csi-rbd-secret"]
    other = {**copy.deepcopy(secret), "kind": "ConfigMap", "data": {"key": "planted"}, "planted": ["planted"]}
    other["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "planted"}
    for changes in (shown.changes(other, secret), shown.changes(secret, other)):
        text = json.dumps(list(changes.values()))
        assert "planted" not in text
        assert KEY not in text
        assert len(changes) == 4
    pod = of_kind(build(), "Pod")["app"]
    edited = copy.deepcopy(pod)
    edited["spec"]["containers"][0]["args"] = ["--key", KEY]
    edited["spec"]["nodeSelector"] = {KEY: "x"}
    assert KEY in json.dumps(shown.changes(edited, pod))
    assert KEY not in json.dumps(shown.changes(edited, pod, KEY))


def test_without_the_library(monkeypatch):
    """A fake: the library is there. What Salt says where it is not."""
    from labkit import golden

    module = golden.module(golden.REPO / "_modules/kubernetes_manifests.py")
    assert module.__virtual__() == "kubernetes_manifests"
    monkeypatch.setattr(library, "jsonschema", None)
    loaded, words = module.__virtual__()
    assert loaded is False
    assert "kubernetes_manifests needs kubernetes-validate in Salt's own Python: name it in salt_environment:packages" in words


# What PyYAML writes without quotes, and another reader of YAML takes for a number or a boolean.
@pytest.mark.parametrize(
    "value", ["1e3", "12e03", "0o17", "y", "N", "on", "1_000", "1:30", ".5", "0x1F", "2026-11-27", "~", "null", "1", "-", "=", "<<"]
)
def test_texts_that_look_like_something_else_are_quoted(value):
    text = texts.text("x", {"kind": value, value: 1})
    assert f'kind: "{value}"\n' in text
    assert f'"{value}": 1\n' in text


WORDS = st.text(max_size=12)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(WORDS, TREES, min_size=1, max_size=4))
def test_a_text_says_what_the_object_says(tree):
    text = texts.text("30-persistentvolume-db.yaml", tree)
    assert yaml.safe_load(text) == tree
    assert texts.objects(text) == [tree]
    assert texts.written_as("30-persistentvolume-db.yaml", text) == "written"
    assert texts.written_as("30-persistentvolume-other.yaml", text) == ""
    assert texts.written_as("30-persistentvolume-db.yaml", text + " ") == "edited"
    assert texts.written_as("30-persistentvolume-db.yaml", text.partition("\n")[2]) == ""


NAMES = st.text(min_size=1, max_size=140).filter(lambda name: name.isprintable() and not set(name) & set("/@ ") and name[0] != "-")


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(NAMES, st.integers(min_value=1, max_value=2**60), min_size=1, max_size=5))
def test_whatever_ceph_takes_as_a_name_is_valid_or_refused(volumes):
    rbd = {"volumes": {name: {"size": size} for name, size in volumes.items()}}
    try:
        objects = build({}, rbd)
    except InvalidPillar as error:
        assert any(name in (".", "..") or len(name.encode()) > 128 for name in volumes), error
        return
    assert check.mistakes(objects, NEWEST) == []
    handles = [item["spec"]["csi"]["volumeHandle"] for item in of_kind(objects, "PersistentVolume").values()]
    assert sorted(handles) == sorted(volumes)
    for item in objects:
        name = texts.file_name(item)
        assert texts.FILE_NAME.fullmatch(name)
        assert len(name + ".salt-new") <= 255


def test_broken_yaml_is_not_shown():
    with pytest.raises(InvalidArgument) as error:
        texts.objects("a: b\nplanted-token: {")
    assert str(error.value) == "It is no YAML (line 2)."
