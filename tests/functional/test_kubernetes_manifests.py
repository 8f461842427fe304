"""The folder of manifests: real files, the key of the tests' own cluster, sizes of real clones."""

import json
import logging
import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

VOLUMES = {"db": {"size": "1G"}, "logs": {"size": "512M", "features": ["layering", "exclusive-lock"]}}
POD = {
    "volumes": [{"volume": "db", "path": "/data", "owner": "999:999", "mode": "0750", "folders": ["pgdata"]}],
    "init": [{"name": "schema", "image": "app:1", "command": ["app", "migrate"]}],
    "containers": [{"name": "app", "image": "app:1", "env": [{"name": "TOKEN", "value": "planted-token"}]}],
}


@pytest.fixture
def key(cluster):
    """The key of the tests' Ceph user."""
    return next(line.split("=", 1)[1].strip() for line in Path(cluster.keyring).read_text().splitlines() if line.strip().startswith("key"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "manifests"


class Site:
    """Salt on a pillar whose ``kubernetes:`` and ``rbd:`` are these; every return is kept as text."""

    def __init__(self, loaders, folder):
        self.loaders, self.folder, self.said = loaders, folder, []

    def state(self, test, function="present"):
        ran = getattr(self.loaders.states.kubernetes_manifests, function)(str(self.folder), test=test)
        self.said.append(json.dumps(ran.raw if hasattr(ran, "raw") else [ran.result, str(ran.comment), ran.changes], default=str))
        return ran

    def call(self, function, *args, **kwargs):
        answer = self.loaders.modules["kubernetes_manifests." + function](*args, **kwargs)
        self.said.append(json.dumps(answer))
        return answer

    def converges(self, function="present"):
        """Dry, for real, and both again; the dry run predicts exactly and writes nothing."""
        before = self.look()
        dry = self.state(True, function)
        assert dry.result is None, dry.comment
        assert self.look() == before
        real = self.state(False, function)
        assert (real.result, real.changes) == (True, dry.changes), real.comment
        after = self.look()
        for test in (True, False):
            again = self.state(test, function)
            assert (again.result, again.changes) == (True, {}), again.comment
        assert self.look() == after
        return real.changes

    def refuses(self, function="present"):
        """Dry and for real, nothing is touched; return the one comment."""
        before, comments = self.look(), set()
        for test in (True, False):
            ran = self.state(test, function)
            assert (ran.result, ran.changes) == (False, {}), ran.comment
            comments.add(str(ran.comment))
        assert self.look() == before
        assert len(comments) == 1
        return comments.pop()

    def look(self):
        """What is in the folder: {name: (mode, content, time of the last change)}."""
        if not self.folder.is_dir():
            return None
        found = {"": (stat.S_IMODE(self.folder.stat().st_mode), "", 0)}
        for path in sorted(self.folder.iterdir()):
            facts = path.lstat()
            found[path.name] = (stat.S_IMODE(facts.st_mode), path.read_text() if path.is_file() else "", facts.st_mtime_ns)
        return found

    def document(self, name):
        return yaml.safe_load((self.folder / name).read_text())


@pytest.fixture
def site(make_loaders, folder, key, caplog):
    """Make a :class:`Site`: ``site(volumes, pods={...})``; at the end the key and the token are nowhere but in their files."""
    made = []
    caplog.set_level(logging.DEBUG)

    def make(declared=VOLUMES, clones=None, **more):
        pillar = {"rbd": {"volumes": declared, "clones": clones or {}}, "kubernetes": {"folder": str(folder), **more}}
        made.append(Site(make_loaders(pillar), folder))
        return made[-1]

    yield make
    for secret in (key, "planted-token"):
        for text in [*(text for one in made for text in one.said), caplog.text]:
            assert secret not in text
    assert made
    assert any(one.said for one in made)


def test_create_change_remove(site, folder, key, pool):
    one = site(pods={"app": POD})
    changes = one.converges()
    names = [
        "10-configmap-ceph-csi-config.yaml",
        "10-secret-csi-rbd-secret.yaml",
        "20-storageclass-csi-rbd-sc.yaml",
        "20-volumesnapshotclass-csi-rbd-snapclass.yaml",
        "30-persistentvolume-db.yaml",
        "30-persistentvolume-logs.yaml",
        "40-persistentvolumeclaim-db.yaml",
        "40-persistentvolumeclaim-logs.yaml",
        "50-pod-app.yaml",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert changes[str(folder)] == {"folder": {"old": None, "new": "0700"}}
    assert changes[f"{folder}/30-persistentvolume-db.yaml"] == {"file": {"old": None, "new": "PersistentVolume db"}}
    secret = one.document("10-secret-csi-rbd-secret.yaml")
    assert secret["stringData"] == {"userID": "admin", "userKey": key}
    assert one.document("50-pod-app.yaml")["spec"]["containers"][0]["env"] == [{"name": "TOKEN", "value": "planted-token"}]
    assert one.document("30-persistentvolume-db.yaml")["spec"]["csi"]["volumeAttributes"]["pool"] == pool
    modes = {name: mode for name, (mode, _, _) in one.look().items()}
    assert modes.pop("") == 0o700
    private = {"10-secret-csi-rbd-secret.yaml", "50-pod-app.yaml"}
    assert {name for name, mode in modes.items() if mode == 0o600} == private
    assert {name for name, mode in modes.items() if mode == 0o644} == set(names) - private
    # The key is in no other file.
    assert [name for name, (_, text, _) in one.look().items() if key in text] == ["10-secret-csi-rbd-secret.yaml"]
    assert one.call("validate", str(folder)) == []

    # A file of somebody else's, and one that only looks like ours: they stay as they are.
    (folder / "mine.yaml").write_text("kind: Mine\n")
    copy = (folder / "40-persistentvolumeclaim-logs.yaml").read_text()
    (folder / "40-persistentvolumeclaim-copy.yaml").write_text(copy)
    others = {name: one.look()[name] for name in ("mine.yaml", "40-persistentvolumeclaim-copy.yaml")}
    other = site({"db": {"size": "2G"}}, pods={"app": {**POD, "containers": [{"name": "app", "image": "app:2"}]}})
    untouched = one.look()["20-storageclass-csi-rbd-sc.yaml"]
    assert other.converges() == {
        f"{folder}/30-persistentvolume-db.yaml": {"spec.capacity.storage": {"old": "1Gi", "new": "2Gi"}},
        f"{folder}/50-pod-app.yaml": {
            "mode": {"old": "0600", "new": "0644"},
            "spec.containers.0.env.0.name": {"old": "TOKEN", "new": None},
            "spec.containers.0.env.0.value": {"old": "(not shown)", "new": None},
            "spec.containers.0.image": {"old": "app:1", "new": "app:2"},
        },
        f"{folder}/30-persistentvolume-logs.yaml": {"file": {"old": "PersistentVolume logs", "new": None}},
        f"{folder}/40-persistentvolumeclaim-logs.yaml": {"file": {"old": "PersistentVolumeClaim logs", "new": None}},
    }
    assert other.look()["20-storageclass-csi-rbd-sc.yaml"] == untouched
    assert {name: other.look()[name] for name in others} == others

    removed = other.converges("absent")
    assert len(removed) == 7
    assert str(folder) not in removed
    assert {name: entry for name, entry in other.look().items() if name} == others


def test_the_folder_goes_with_the_last_file(site, folder):
    one = site()
    one.converges()
    assert one.converges("absent")[str(folder)] == {"folder": {"old": "0700", "new": None}}
    assert not folder.exists()


def test_another_key(site, folder, key):
    one = site()
    one.converges()
    path = folder / "10-secret-csi-rbd-secret.yaml"
    path.write_text(path.read_text().replace(key, "QUFBQUFBQUFBQUFBQUFBQQ=="))
    assert one.converges() == {str(path): {"stringData.userKey": {"old": "(not shown)", "new": "(not shown, another one)"}}}
    assert one.document(path.name)["stringData"]["userKey"] == key


def test_what_drifts_is_mended(site, folder):
    one = site()
    one.converges()
    folder.chmod(0o755)
    claim, volume, secret = (
        folder / f"{name}.yaml" for name in ("40-persistentvolumeclaim-db", "30-persistentvolume-db", "10-secret-csi-rbd-secret")
    )
    claim.unlink()
    volume.write_text(volume.read_text().replace("ReadWriteOnce", "ReadWriteMany"))
    secret.chmod(0o644)
    (folder / "50-pod-app.yaml.salt-new").write_text("half of a file")
    assert one.converges() == {
        str(folder): {"mode": {"old": "0755", "new": "0700"}},
        str(claim): {"file": {"old": None, "new": "PersistentVolumeClaim db"}},
        str(volume): {"spec.accessModes.0": {"old": "ReadWriteMany", "new": "ReadWriteOnce"}},
        str(secret): {"mode": {"old": "0644", "new": "0600"}},
        f"{folder}/50-pod-app.yaml.salt-new": {"file": {"old": "left by a run that was killed", "new": None}},
    }
    volume.write_text(volume.read_text() + "# somebody's remark\n")
    assert one.converges() == {str(volume): {"text": {"old": "written in another way", "new": "as declared"}}}
    volume.write_text(volume.read_text().partition("\n")[0] + "\n{not: yaml")
    assert one.converges() == {str(volume): {"text": {"old": "no object of Kubernetes'", "new": "as declared"}}}


def test_files_of_others_are_refused(site, folder):
    one = site()
    folder.mkdir(mode=0o700)
    path = folder / "30-persistentvolume-db.yaml"
    path.write_text("mine\n")
    assert one.refuses() == f"{path} is there and was not written by this state; move it away."
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert "was not written by this state" in one.refuses()
    path.unlink()
    one.converges()
    # One that was changed goes neither by being undeclared nor by absent.
    path.write_text(path.read_text().replace("ReadWriteOnce", "ReadWriteMany"))
    other = site({"logs": {"size": "1G"}})
    text = f"{path} is not declared any more, but was changed since Salt wrote it. Remove it, or take its first line away to keep it."
    assert other.refuses() == text
    assert other.refuses("absent") == text
    path.write_text(path.read_text().partition("\n")[2])
    assert sorted(other.converges()) == [f"{folder}/30-persistentvolume-logs.yaml", f"{folder}/40-persistentvolumeclaim-db.yaml"]
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "link", "shared"])
def test_a_folder_of_others_is_refused(site, folder, kind, tmp_path):
    one = site()
    if kind == "file":
        folder.write_text("")
        assert one.refuses() == f"{folder} is no folder; nothing is written there."
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
        assert one.refuses() == f"{folder} is no folder; nothing is written there."
    else:
        folder.mkdir(mode=0o755)
        (folder / "static-pod.yaml").write_text("kind: Pod\n")
        assert "name a folder of its own" in one.refuses()
        folder.chmod(0o700)
        one.converges()


def test_a_folder_must_be_its_own(site):
    one = site()
    for path in ("/", "/srv", "manifests", "/srv/../etc", "/srv/x/", "//srv/x"):
        one.folder = path
        for function in ("present", "absent"):
            for test in (True, False):
                ran = one.state(test, function)
                assert (ran.result, ran.changes) == (False, {})
                assert "must be an absolute path" in ran.comment


# Each of another layer; all others are rows of unit/test_kubernetes_pillar and unit/test_kubernetes_objects.
REFUSED = [
    ({"volumes": {"db": {"size": "1G", "encryption": {"passphrase": "a planted passphrase"}}}}, "it is encrypted"),
    ({"volumes": {"db": {"sise": "1G"}}}, "unknown key 'sise'"),
    ({"kubernetes": {"names": {}}}, "has unknown keys: 'names'"),
    ({"kubernetes": {"pods": {"app": {**POD, "containers": [{"name": "app", "image": 5}]}}}}, "spec.containers.0.image must be text"),
    ({"kubernetes": {"user": "nobody"}}, "No key of client.nobody was found on this host"),
    ({"kubernetes": None}, "The pillar of this node has no kubernetes:"),
]


@pytest.mark.parametrize(("declared", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_refusals(make_loaders, folder, declared, words):
    kubernetes = {"folder": str(folder), **declared["kubernetes"]} if declared.get("kubernetes") else declared.get("kubernetes", {})
    loaders = make_loaders({"rbd": {"volumes": declared.get("volumes", VOLUMES)}, "kubernetes": kubernetes})
    assert words in Site(loaders, folder).refuses()
    assert not folder.exists()


def test_the_key_in_another_object_is_refused(site, key, folder):
    one = site(pods={"app": {**POD, "containers": [{"name": "app", "image": "app:1", "args": ["--key=" + key]}]}})
    assert "Pod app: it holds the Ceph user's key, which belongs into the Secret alone" in one.refuses()


def test_sizes_of_clones(site, pool, rbd_cli, folder):
    """A clone without a size has that of the snapshot, which may be less than its parent's; before there is one, the parent's."""
    clones = {"copy": {"parent": f"{pool}/grown@s"}}
    one = site({"grown": {"size": "16M", "snapshots": {"s": {}}}}, clones)
    path = f"{folder}/30-persistentvolume-copy.yaml"
    one.converges()
    assert one.document(Path(path).name)["spec"]["capacity"]["storage"] == "16Mi"
    rbd_cli("create", f"{pool}/grown", "--size", "8M")
    rbd_cli("snap", "create", f"{pool}/grown@s")
    rbd_cli("resize", f"{pool}/grown", "--size", "16M")
    assert one.converges()[path] == {"spec.capacity.storage": {"old": "16Mi", "new": "8Mi"}}
    rbd_cli("snap", "protect", f"{pool}/grown@s")
    rbd_cli("clone", f"{pool}/grown@s", f"{pool}/copy")
    rbd_cli("resize", f"{pool}/copy", "--size", "12M")
    assert one.converges()[path] == {"spec.capacity.storage": {"old": "8Mi", "new": "12Mi"}}


def test_functions(site, folder, key):
    one = site(pods={"app": POD})
    built = one.call("build")
    assert [item["kind"] for item in built[:2]] == ["Secret", "ConfigMap"]
    assert built[0]["stringData"] == {"userID": "(not shown)", "userKey": "(not shown)"}
    assert one.call("validate") == []
    assert one.call("diff", str(folder)) == one.call("write", str(folder))
    assert one.call("diff") == one.call("write") == {}
    (folder / "broken.yaml").write_text("{")
    (folder / "90-more.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "A"}, "data": {"x": "planted-token"}})
    )
    found = one.call("validate", str(folder))
    assert found == [
        f"{folder}/broken.yaml: It is no YAML (line 1).",
        "Secret A: metadata.name 'A' is no name of RFC 1123.",
        "Secret A: metadata.namespace None is no name of RFC 1123.",
        "Secret A: data.x is no base64.",
    ]
    assert len(one.call("diff_absent")) == 9
    assert len(one.call("remove")) == 9
    assert one.call("diff_absent") == one.call("remove") == {}
    assert sorted(path.name for path in folder.iterdir()) == ["90-more.json", "broken.yaml"]


def test_a_hundred_volumes(site, folder):
    one = site({f"db{number:03}": {"size": "1G"} for number in range(100)})
    assert len(one.converges()) == 205
    assert len(list(folder.iterdir())) == 204
    assert one.call("validate", str(folder)) == []
    for version in ("1.25", "1.37"):
        assert one.call("validate", str(folder), version=version) == []


def test_the_state_tree(site, folder, repo):
    one = site()
    states = Path(one.loaders.opts["file_roots"]["base"][0])
    (states / "kubernetes").symlink_to(repo / "salt/kubernetes")
    for sls, there in (("kubernetes", True), ("kubernetes.clean", False)):
        for test, result in ((True, None), (False, True), (False, True), (True, True)):
            (ran,) = one.loaders.modules.state.apply(sls, test=test)
            one.said.append(json.dumps([str(ran.comment), ran.changes]))
            assert ran.result is result, ran.comment
        assert folder.exists() is there


@pytest.fixture
def scripts():
    """The scripts of the init containers, run by this host's shell as a container would run them."""
    from saltplatform import kubernetes_pod

    def run(script, *words, before=""):
        argv = ["unshare", "--mount", "sh", "-c", before + 'exec sh -c "$@"', "sh", script, *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    return run, kubernetes_pod


def test_the_init_container_waits_for_each_volume(scripts, tmp_path):
    run, pods = scripts
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    mount = f"mount -t tmpfs none {one};"
    ran = run(pods._WAIT, "wait", "1", str(one), str(two), before=mount)
    assert (ran.returncode, ran.stderr) == (1, f"No volume is at {two}.\n")
    assert run(pods._WAIT, "wait", "1", str(one), before=mount).returncode == 0
    # One that comes later.
    late = f"(sleep 2; mount -t tmpfs none {two}) & {mount}"
    assert run(pods._WAIT, "wait", "30", str(one), str(two), before=late).returncode == 0


def test_the_init_container_prepares(scripts, tmp_path):
    run, pods = scripts
    place = tmp_path / "volume"
    place.mkdir()
    for _ in range(2):
        ran = run(pods._PREPARE, "prepare-1", str(place), "123:456", "0750", "a/b", "c")
        assert (ran.returncode, ran.stderr) == (0, "")
        facts = place.stat()
        assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (123, 456, 0o750)
        assert [(place / name).stat().st_uid for name in ("a/b", "c")] == [123, 123]
    assert run(pods._PREPARE, "prepare-1", str(place), "", "").returncode == 0
    (place / "c").rmdir()
    (place / "c").write_text("in the way")
    assert run(pods._PREPARE, "prepare-1", str(place), "", "0700", "c").returncode != 0
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o750
