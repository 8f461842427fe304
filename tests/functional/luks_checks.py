"""What the tests of encryption share: a pillar with passphrases, and images whose header opens in no time."""

import json
import subprocess
import time
import uuid

import pytest
from blank_checks import tool

PASSPHRASES = {"one": "first-Passphrase-9731", "two": "second-Passphrase-4410", "empty": ""}
MARK = "saltrbd.luks"


def key(name="one", kind="luks2"):
    """The argument ``encryption`` of the states."""
    return {"format": kind, "pillar": f"keys:{name}"}


@pytest.fixture(scope="module")
def loaders(make_loaders):
    return make_loaders(pillar={"keys": PASSPHRASES})


@pytest.fixture
def encrypted(rbd_cli, spec, tmp_path):
    """An image as ``rbd_encryption.formatted`` leaves it, but with a passphrase that is tried 1000 times only: librbd always makes
    one that takes seconds. ``encrypted(name, size_in_mib, kind, ours=True, features="layering")``"""

    def make(name=spec, size=64, kind="luks2", passphrase=PASSPHRASES["one"], ours=True, uuid_in_mark=True, features=None):
        file, identity = tmp_path / "header", str(uuid.uuid4())
        with open(file, "wb") as image:
            image.truncate(size << 20)
        words = ["--type", kind, "--pbkdf-force-iterations", "1000", "--uuid", identity, "--batch-mode", "--key-file", "-"]
        words += ["--pbkdf", "pbkdf2", "--sector-size", "4096"] if kind == "luks2" else ["--align-payload", "8192"]
        tool("cryptsetup", "luksFormat", *words, file, input=passphrase.encode())
        rbd_cli("import", "--no-progress", *(["--image-feature", features] if features else []), str(file), name)
        file.unlink()
        if ours:
            image_id = json.loads(rbd_cli("info", "--format", "json", name))["id"]
            mark = {"image": image_id, "format": kind, "uuid": identity if uuid_in_mark else "", "time": int(time.time())}
            rbd_cli("image-meta", "set", name, MARK, json.dumps(mark))
        return name

    return make


@pytest.fixture
def objects(cluster, rbd_cli, tmp_path):
    """Every data object of an image, as the OSDs have it: ``objects(spec)`` returns [bytes, ...]."""

    def read(spec):
        pool = spec.split("/")[0]
        prefix = json.loads(rbd_cli("info", "--format", "json", spec))["block_name_prefix"]
        argv = ["rados", "--conf", cluster.conf, "--id", cluster.user, "--keyring", cluster.keyring, "-p", pool]
        names = subprocess.run([*argv, "ls"], check=True, capture_output=True, text=True, timeout=60).stdout.split()
        found = []
        for name in (name for name in names if name.startswith(prefix)):
            subprocess.run([*argv, "get", name, str(tmp_path / "object")], check=True, timeout=60)
            found.append((tmp_path / "object").read_bytes())
        return found

    return read
