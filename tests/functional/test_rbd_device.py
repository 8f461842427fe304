"""Images as block devices: mapped, used, refused, unmapped, and what is left after something died."""

import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from saltrbd import boot, device_find, mapping, proc, users
from saltrbd import spec as specs
from state_checks import both, refused

# Holds an image open for writing, as any librbd client does, until its stdin ends.
HOLD = """
import rados, rbd, sys
cluster = rados.Rados(conffile=sys.argv[1], name="client." + sys.argv[2], conf={"keyring": sys.argv[3]})
cluster.connect()
with cluster.open_ioctx(sys.argv[4]) as ioctx, rbd.Image(ioctx, sys.argv[5]) as image:
    print(cluster.get_addrs() if hasattr(cluster, "get_addrs") else "", flush=True)
    print(cluster.get_instance_id(), flush=True)
    sys.stdin.read()
"""

# They stand in for rbd-mirror daemons, which have the image open: one of another site watches the pool's object rbd_mirroring, one of this
# site writes its number, as a text with its length before it, into rbd_mirror_leader.
MIRRORS = {
    "another site": "ioctx.watch('rbd_mirroring', print)",
    "this site": "[name := str(cluster.get_instance_id()).encode(), "
    "ioctx.execute('rbd_mirror_leader', 'rbd', 'mirror_instances_add', len(name).to_bytes(4, 'little') + name)]",
}


def run(*argv, check=True, **more):
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=60, **more).stdout.strip()


@pytest.fixture
def image(rbd_cli, spec):
    """An empty image of 64 MiB."""
    rbd_cli("create", spec, "--size", "64M")
    return spec


@pytest.fixture
def holder(cluster):
    """Start another client that has an image open for writing: ``holder(spec)``; returns its number."""
    started = []

    def hold(spec, code=HOLD):
        pool, _, name = spec.partition("/")
        argv = ["/usr/bin/python3", "-c", code, cluster.conf, cluster.user, cluster.keyring, pool, name]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        process.stdout.readline()
        return process.stdout.readline().strip()

    yield hold
    for process in started:
        process.communicate(timeout=30)


def changes(cluster, name, old, new):
    """What mapping or unmapping says; where systemd runs the unit for the boot comes and goes along."""
    fields = {"device": {"old": old, "new": new}}
    if boot.possible():
        unit = boot.unit(mapping.link_path(cluster.fsid, specs.parse(name)))
        fields["at_boot"] = {"old": old and unit, "new": new and unit}
    return {name: fields}


def test_a_bare_name_lies_in_the_configured_pool(states, modules, image):
    both(states.rbd_device.mapped, image.partition("/")[2])
    assert list(modules.rbd_device.list()) == [image]
    assert modules.rbd_device.info(image.partition("/")[2])["fault"] is None
    both(states.rbd_device.unmapped, image.partition("/")[2])
    assert modules.rbd_device.list() == {}


def test_a_filesystem_lives_on_the_device(states, modules, image, cluster, rbd_cli, tmp_path, driver):
    # Ceph's defaults, and every driver maps them.
    assert set(rbd_cli.json("info", image)["features"]) == {"layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"}
    result = both(states.rbd_device.mapped, image)
    assert result.changes == changes(cluster, image, None, f"mapped by {driver}")
    shown = modules.rbd_device.list()[image]
    assert shown["driver"] == driver and shown["fault"] is None and not shown["read_only"]
    assert shown["link"] == f"/run/rbd-volumes/{cluster.fsid}/{image}"
    assert os.path.realpath(shown["link"]) == shown["device"]
    assert run("blockdev", "--getsize64", shown["link"]) == str(64 << 20)
    run("mkfs.ext4", "-q", shown["link"])
    run("mount", shown["link"], tmp_path)
    (tmp_path / "edit").write_text("edit1\n")
    assert f"it is mounted on {tmp_path}" in refused(states.rbd_device.unmapped, image)
    run("umount", tmp_path)
    gone = both(states.rbd_device.unmapped, image)
    assert gone.changes == changes(cluster, image, f"mapped by {driver}", None)
    assert not os.path.lexists(shown["link"])
    assert modules.rbd_device.list() == {}
    assert (
        b"edit1\n"
        in subprocess.run(
            ["rbd", "--conf", cluster.conf, "--keyring", cluster.keyring, "export", image, "-"], capture_output=True, check=True, timeout=60
        ).stdout
    )
    assert rbd_cli.json("status", image)["watchers"] == []


def test_what_a_killed_run_left_half_made_is_cleared_away(states, image):
    """A link and the folder for a daemon's last words, of a process that is dead; those of one that lives stay."""
    folder = Path("/run/rbd-volumes")
    folder.mkdir(mode=0o700, exist_ok=True)
    ended = subprocess.Popen(["true"])
    ended.wait(timeout=20)
    left, alive, young = (folder / f".start.{pid}.x" for pid in (ended.pid, os.getpid(), f"{ended.pid}.young"))
    link = folder / f".link.{ended.pid}"
    link.symlink_to("/dev/null")
    for path in (left, alive, young):
        path.mkdir()
        (path / "stderr").write_text("last words")
    for path in (left, alive, link):
        os.utime(path, (1, 1), follow_symlinks=False)
    try:
        assert states.rbd_device.mapped(image).result is True
        assert [path.name for path in (left, alive, young, link) if os.path.lexists(path)] == [alive.name, young.name]
    finally:
        for path in (alive, young):
            shutil.rmtree(path)


def test_a_snapshot_is_mapped_read_only(cluster, states, modules, image, rbd_cli, driver):
    both(states.rbd_device.mapped, image)
    Path(modules.rbd_device.info(image)["device"]).write_bytes(b"before")
    states.rbd_device.unmapped(image)
    rbd_cli("snap", "create", image + "@s1")
    both(states.rbd_device.mapped, image)
    Path(modules.rbd_device.info(image)["device"]).write_bytes(b"after!")
    result = both(states.rbd_device.mapped, image + "@s1")
    assert result.changes == changes(cluster, image + "@s1", None, f"mapped read-only by {driver}")
    shown = modules.rbd_device.info(image + "@s1")
    with open(shown["device"], "rb") as file:
        assert file.read(6) == b"before"
    assert run("blockdev", "--getro", shown["device"]) == "1"
    assert set(modules.rbd_device.list()) == {image, image + "@s1"}
    both(states.rbd_device.unmapped, image + "@s1")
    both(states.rbd_device.unmapped, image)


def test_read_only_takes_no_lock_and_other_ways_are_refused(states, modules, image, holder, driver):
    holder(image)
    both(states.rbd_device.mapped, image, read_only=True)
    assert run("blockdev", "--getro", modules.rbd_device.info(image)["device"]) == "1"
    assert modules.rbd_device.users(image)["owner"] is None
    assert "read-only, not writable as declared; unmap it first" in refused(states.rbd_device.mapped, image)
    other = "nbd" if driver == "krbd" else "krbd"
    assert f"by {driver}, not by {other}" in refused(states.rbd_device.mapped, image, read_only=True, driver=other)
    both(states.rbd_device.unmapped, image)


def test_exclusive_and_shared_are_not_the_same(states, modules, image, rbd_cli):
    both(states.rbd_device.mapped, image, exclusive=False)
    assert "not exclusively" in refused(states.rbd_device.mapped, image)
    both(states.rbd_device.unmapped, image)
    both(states.rbd_device.mapped, image)
    owned = modules.rbd_device.users(image)["owner"]
    assert owned["host"] == "tests" and owned["address"] == rbd_cli.json("status", image)["watchers"][0]["address"]
    assert "mapped exclusively" in refused(states.rbd_device.mapped, image, exclusive=False)
    both(states.rbd_device.unmapped, image)
    assert modules.rbd_device.users(image) == {"device": [], "watchers": [], "mirrors": [], "locks": [], "owner": None}


@pytest.mark.parametrize("site", MIRRORS)
def test_a_mirror_daemon_is_in_nobodys_way(site, states, modules, image, pool, holder, rbd_cli):
    """Told from any other user by what it watches, or by its entry in the pool; the image itself must be mirrored."""
    rbd_cli("mirror", "pool", "enable", pool, "image")
    rbd_cli("mirror", "image", "enable", image, "snapshot")
    number = holder(image, HOLD.replace("    print", f"    told = {MIRRORS[site]}\n    print", 1))
    found = modules.rbd_device.users(image)
    assert found["watchers"] == [] and [str(mirror["client"]) for mirror in found["mirrors"]] == [number]
    both(states.rbd_device.mapped, image)
    found = modules.rbd_device.users(image)
    assert [watcher["host"] for watcher in found["watchers"]] == ["tests"] and len(found["mirrors"]) == 1
    both(states.rbd_device.unmapped, image)
    other = holder(image)
    assert f"(client.{other}, host tests)" in refused(states.rbd_device.mapped, image)


def test_an_image_in_use_is_refused_with_the_address(states, image, holder, rbd_cli):
    number = holder(image)
    address = rbd_cli.json("status", image)["watchers"][0]["address"]
    comment = refused(states.rbd_device.mapped, image)
    assert f"{address} (client.{number}, host tests); unmap or close it there first. {users.DEAD}" in comment
    both(states.rbd_device.mapped, image, exclusive=False)
    both(states.rbd_device.unmapped, image)


def test_an_advisory_lock_is_refused(states, image, rbd_cli):
    rbd_cli("lock", "add", image, "backup")
    assert "advisory lock of " in refused(states.rbd_device.mapped, image)


@pytest.mark.parametrize(
    ("suffix", "arguments", "says"),
    [
        ("-none", {}, "does not exist"),
        ("@none", {}, "@none does not exist"),
        ("", {"driver": "krbd"}, "no module rbd"),
        ("", {"driver": "nbd"}, "no module nbd"),
        ("", {"driver": "iscsi"}, "auto, krbd, nbd or fuse"),
        ("", {"read_only": "yes"}, "read_only must be True or False"),
        ("", {"exclusive": 1}, "exclusive must be True or False"),
        ("", {"driver": "auto", "options": {"discard": "unmap"}}, "name it: driver"),
        ("", {"driver": "fuse", "options": {"cache": "no"}}, "no option cache=no"),
        ("", {"driver": "fuse", "options": ["discard=un map"]}, "plain words"),
        ("", {"driver": "fuse", "options": "discard=unmap"}, "a mapping or a list"),
        ("", {"driver": "fuse", "options": {"discard": ["unmap"]}}, "plain words"),
        ("", {"driver": "fuse", "options": {"discard": "unmap,read-only=off"}}, "plain words"),
        ("", {"driver": 5}, "auto, krbd, nbd or fuse"),
        ("@", {}, "is empty"),
    ],
)
def test_refusals(states, modules, image, suffix, arguments, says):
    if arguments.get("driver") in ("krbd", "nbd") and device_find.choose_driver(arguments["driver"])[0]:
        pytest.skip("this kernel has it")
    assert says in refused(states.rbd_device.mapped, image + suffix, **arguments)
    assert modules.rbd_device.list() == {}


def test_features_that_the_kernel_cannot_map(states, modules, rbd_cli, spec, driver):
    """They are found before the map, and the command that the message names helps."""
    if driver != "krbd":
        pytest.skip(f"mapped by {driver}")
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock,journaling")
    said = refused(states.rbd_device.mapped, spec)
    command = re.search("Run 'rbd (feature disable [^']*)'", said)[1]
    assert command == f"feature disable {spec} journaling"
    rbd_cli(*command.split())
    both(states.rbd_device.mapped, spec)
    assert modules.rbd_device.info(spec)["driver"] == "krbd"
    both(states.rbd_device.unmapped, spec)


def test_options_reach_the_daemon(states, modules, image, only_fuse):
    both(states.rbd_device.mapped, image, driver="fuse", options={"discard": "ignore", "detect-zeroes": True})
    argv = proc.argv_of(modules.rbd_device.info(image)["pid"])
    blockdev = json.loads(argv[argv.index("--blockdev") + 1])
    assert (blockdev["discard"], blockdev["detect-zeroes"]) == ("ignore", "on")
    both(states.rbd_device.unmapped, image)


@pytest.mark.parametrize("name", ["a,b", "it's", 'q"uote', "per%cent", "..dots", "back\\slash", "ümläut", "n" * 90])
def test_strange_names(states, modules, rbd_cli, pool, name):
    spec = f"{pool}/{name}"
    rbd_cli("create", spec, "--size", "8M")
    both(states.rbd_device.mapped, spec)
    shown = modules.rbd_device.list()[spec]
    assert os.path.realpath(shown["link"]) == shown["device"]
    assert "/../" not in shown["link"] and "\\" not in shown["link"]
    both(states.rbd_device.unmapped, spec)


def test_a_namespace_and_an_image_of_the_same_name(states, modules, rbd_cli, pool):
    rbd_cli("namespace", "create", f"{pool}/k8s")
    for spec in (f"{pool}/k8s", f"{pool}/k8s/k8s"):
        rbd_cli("create", spec, "--size", "8M")
        both(states.rbd_device.mapped, spec)
    shown = modules.rbd_device.list()
    assert set(shown) == {f"{pool}/k8s", f"{pool}/k8s/k8s"}
    assert len({os.path.realpath(facts["link"]) for facts in shown.values()}) == 2
    for spec in shown:
        both(states.rbd_device.unmapped, spec)


def test_the_dry_run_counts_what_it_plans(cluster, state_run, image, spec, pool, driver):
    new = f"{pool}/new-{uuid.uuid4().hex[:6]}"
    text = f"""
made:
  rbd_image.present: [{{name: {new}}}, {{size: 8M}}]
mapped:
  rbd_device.mapped: [{{name: {new}}}, {{require: [{{rbd_image: made}}]}}]
nobody makes it:
  rbd_device.mapped: [{{name: {new}-other}}]
removed:
  rbd_image.absent: [{{name: {image}}}]
mapped nevertheless:
  rbd_device.mapped: [{{name: {image}}}, {{require: [{{rbd_image: removed}}]}}]
gone again:
  rbd_device.unmapped: [{{name: {new}}}, {{require: [{{rbd_device: mapped}}]}}]
"""
    made, mapped, other, removed, nevertheless, gone = state_run(text, test=True)
    assert [made.result, mapped.result, removed.result, gone.result] == [None] * 4
    assert mapped.changes == changes(cluster, new, None, f"mapped by {driver}")
    assert gone.changes == changes(cluster, new, f"mapped by {driver}", None)
    assert (other.result, nevertheless.result) == (False, False)
    real = state_run(text.partition("nobody")[0])
    assert [one.changes for one in real] == [made.changes, mapped.changes]
    again = state_run(text.partition("nobody")[0])
    assert [one.changes for one in again] == [{}, {}]


def test_another_image_of_the_same_name_is_not_taken_for_it(states, modules, image, rbd_cli, driver):
    both(states.rbd_device.mapped, image)
    # rbd-nbd keeps the image's own lock, without which librbd moves nothing to the trash.
    rbd_cli(*(["mv", image, image + "-old"] if driver == "nbd" else ["trash", "mv", image]))
    assert "removed, renamed or moved to the trash" in modules.rbd_device.list()[image]["fault"]
    assert "does not exist" in refused(states.rbd_device.mapped, image)
    rbd_cli("create", image, "--size", "8M")
    assert "is another one by now" in modules.rbd_device.info(image)["fault"]
    assert "unmap it and map it again" in refused(states.rbd_device.mapped, image)
    both(states.rbd_device.unmapped, image)
    both(states.rbd_device.mapped, image)
    assert modules.rbd_device.info(image)["size"] == 8 << 20
    both(states.rbd_device.unmapped, image)


def test_a_snapshot_made_again_is_another_one(states, modules, image, rbd_cli):
    rbd_cli("snap", "create", image + "@s")
    both(states.rbd_device.mapped, image + "@s")
    rbd_cli("snap", "rm", image + "@s")
    rbd_cli("snap", "create", image + "@s")
    assert "the snapshot was removed since" in refused(states.rbd_device.mapped, image + "@s")
    both(states.rbd_device.unmapped, image + "@s")


def test_a_renamed_image_is_still_the_same(states, modules, image, rbd_cli):
    both(states.rbd_device.mapped, image)
    device_before = modules.rbd_device.info(image)["device"]
    rbd_cli("mv", image, image + "-new")
    result = both(states.rbd_device.mapped, image + "-new")
    assert set(result.changes[image + "-new"]) == {"link", "at_boot"} if boot.possible() else {"link"}
    assert modules.rbd_device.info(image + "-new")["device"] == device_before
    both(states.rbd_device.unmapped, image + "-new")


def test_a_missing_link_is_made_again(states, modules, image):
    both(states.rbd_device.mapped, image)
    link = modules.rbd_device.info(image)["link"]
    os.unlink(link)
    result = both(states.rbd_device.mapped, image)
    assert result.changes == {image: {"link": {"old": None, "new": link}}}
    both(states.rbd_device.unmapped, image)


def test_growth_reaches_the_device(states, modules, image, rbd_cli):
    both(states.rbd_device.mapped, image)
    rbd_cli("resize", image, "--size", "96M")
    assert modules.rbd_device.refresh(image) == 96 << 20
    assert modules.rbd_device.refresh(image) == 96 << 20
    assert rbd_cli.json("info", image)["size"] == 96 << 20
    with open(modules.rbd_device.info(image)["device"], "r+b") as file:
        file.seek((96 << 20) - 512)
        file.write(b"x" * 512)
    both(states.rbd_device.unmapped, image)


def test_users_in_other_mount_namespaces_and_open_files(states, modules, image, tmp_path):
    both(states.rbd_device.mapped, image)
    node = modules.rbd_device.info(image)["device"]
    run("mkfs.ext4", "-q", node)
    script = f"mount --make-rprivate / && mount {node} {tmp_path} && echo mounted && exec sleep 60"
    other = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "mounted\n"
        comment = refused(states.rbd_device.unmapped, image)
        assert f"mounted on {tmp_path} in another mount namespace (that of pid {other.pid}, sleep)" in comment
    finally:
        other.kill()
        other.communicate()
    reader = subprocess.Popen(["sleep", "60"], stdin=open(node, "rb"))
    try:
        assert f"pid {reader.pid} (sleep) has it open" in refused(states.rbd_device.unmapped, image)
    finally:
        reader.kill()
        reader.communicate()
    both(states.rbd_device.unmapped, image)


def test_no_secret_shows_and_files_are_roots_own(states, modules, image, cluster, only_fuse):
    both(states.rbd_device.mapped, image)
    pid = modules.rbd_device.info(image)["pid"]
    key = next(line.split("=", 1)[1].strip() for line in Path(cluster.keyring).read_text().splitlines() if "key =" in line)
    assert key not in " ".join(proc.argv_of(pid))
    argv = proc.argv_of(pid)
    folder = Path(json.loads(argv[argv.index("--export") + 1])["mountpoint"]).parent
    for path in [folder.parent.parent, folder.parent, folder, *folder.iterdir()]:
        if not os.path.ismount(path) and not path.is_socket():
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.is_dir() or key not in path.read_text()
    both(states.rbd_device.unmapped, image)


def test_without_a_configuration_file(make_loaders, cluster, image):
    pool = image.partition("/")[0]
    ceph = {"monitors": cluster.monitors, "keyring": cluster.keyring, "user": cluster.user, "fsid": cluster.fsid, "pool": pool}
    own = make_loaders(pillar={"ceph": ceph})
    both(own.states.rbd_device.mapped, image)
    both(own.states.rbd_device.unmapped, image)
