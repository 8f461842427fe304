"""What the tests of images share: the shape of changes, the trash as the rbd command sees it, and other clients of an image."""

import select
import subprocess

import pytest

M = 1 << 20
DEFAULT = ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]


def made(name, **fields):
    """The changes of a new image."""
    return {name: {key: {"old": None, "new": value} for key, value in {"image": "present", **fields}.items()}}


def changed(name, **fields):
    return {name: {key: {"old": old, "new": new} for key, (old, new) in fields.items()}}


def trashed(rbd_cli, spec):
    pool, name = spec.split("/")
    return [item["id"] for item in rbd_cli.json("trash", "ls", pool) if item["name"] == name]


OTHER_CLIENT = """
import sys
import rados, rbd
conf, keyring, pool, name, statement, *words = sys.argv[1:]
cluster = rados.Rados(conffile=conf, name="client.admin", conf={"keyring": keyring})
cluster.connect(timeout=20)
context = cluster.open_ioctx(pool)
with rbd.Image(context, name) as image:
    exec(statement)
"""

# Stands in for the rbd-mirror daemon of another site, which opens the image too.
MIRROR = "watch = context.watch('rbd_mirroring', print)"


@pytest.fixture
def start_client(cluster):
    """Start another client that opens an image and carries out a Python statement."""

    def start(spec, statement, *words):
        pool, name = spec.split("/")
        argv = ["/usr/bin/python3", "-c", OTHER_CLIENT, cluster.conf, cluster.keyring, pool, name, statement, *words]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return start


@pytest.fixture
def other_client(start_client):
    def run(*words):
        process = start_client(*words)
        process.communicate(timeout=60)
        assert process.returncode == 0, f"the other client ended with {process.returncode}"

    return run


@pytest.fixture
def held(start_client):
    """Hold an image open for writing by another client, as a virtual machine would; gives its client number. ``hold(spec, MIRROR)`` stands
    in for another one."""
    running = []

    def hold(spec, statement="image.write(b'x', 0)"):
        process = start_client(spec, statement + "; print(cluster.get_instance_id(), flush=True); sys.stdin.read()")
        running.append(process)
        assert select.select([process.stdout], [], [], 30)[0], "the other client did not open the image"
        return process.stdout.readline().strip()

    def let_go():
        while running:
            process = running.pop()
            process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=30)

    hold.let_go = let_go
    yield hold
    let_go()
