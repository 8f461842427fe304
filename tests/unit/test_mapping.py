"""Mappings: the link to a device, which image a device is, and how the kernel and rbd-nbd tell it."""

import os

import pytest
from device_facts import GOOD, IMAGE, SNAP, SPEC
from saltrbd import device_find, device_fuse, device_krbd, device_nbd, errors, kernel, mapping
from saltrbd import spec as specs
from saltrbd.mapping import Mapping

PATHS = [
    ("rbd/a", "/run/rbd-volumes/F/rbd/a"),
    ("rbd/a@s", "/run/rbd-volumes/F/rbd/a@s"),
    ("rbd/k8s/a@s", "/run/rbd-volumes/F/rbd/k8s@/a@s"),
    ("rbd/..", "/run/rbd-volumes/F/rbd/%2E."),
    ("rbd/.", "/run/rbd-volumes/F/rbd/%2E"),
    ("rbd/%2E", "/run/rbd-volumes/F/rbd/%252E"),
    ("../x", "/run/rbd-volumes/F/%2E./x"),
    ("rbd/a\\b", "/run/rbd-volumes/F/rbd/a%5Cb"),
]


@pytest.mark.parametrize(("spec", "path"), PATHS)
def test_link_path(spec, path):
    assert mapping.link_path("F", specs.parse(spec)) == path


def test_links_of_different_images_differ():
    long = "n" * 255
    names = [spec for spec, _ in PATHS] + [f"rbd/{long}", f"rbd/{long}@{long}", f"rbd/{long}@{long[:-1]}m", f"rbd/{'ü' * 127}@{'ü' * 127}"]
    paths = {mapping.link_path("F", specs.parse(name)) for name in names}
    assert len(paths) == len(names)
    assert all(len(os.fsencode(part)) <= 255 for path in paths for part in path.split("/"))


def test_a_faulty_mapping_gets_no_link():
    with pytest.raises(errors.StaleMapping, match="rbd/a is mapped, but its daemon is dead"):
        mapping.ensure_link(GOOD._replace(fault="its daemon is dead"))


@pytest.mark.parametrize(
    ("local", "spec", "image", "expected"),
    [
        (GOOD, SPEC, IMAGE, GOOD),
        (GOOD, SPEC, {**IMAGE, "id": "def"}, "another one by now (id def)"),
        (GOOD, SPEC, None, "removed, renamed or moved to the trash"),
        (GOOD, specs.parse("rbd/b"), IMAGE, GOOD._replace(spec=specs.parse("rbd/b"))),
        (GOOD, specs.parse("rbd/b"), {**IMAGE, "id": "def"}, None),
        (GOOD, SNAP, IMAGE, None),
        (GOOD._replace(spec=SNAP, snapshot_id=4), SNAP, IMAGE, GOOD._replace(spec=SNAP, snapshot_id=4)),
        (GOOD._replace(spec=SNAP, snapshot_id=4), SPEC, IMAGE, None),
        (GOOD._replace(spec=SNAP, snapshot_id=3), SNAP, IMAGE, "the snapshot was removed since"),
        (GOOD._replace(spec=SNAP, snapshot_id=None), SNAP, IMAGE, GOOD._replace(spec=SNAP)),
        (GOOD._replace(image_id="", fault="it was started by hand"), SPEC, IMAGE, "started by hand"),
    ],
)
def test_a_mapping_is_recognised_by_the_image_id(local, spec, image, expected):
    found = device_find._match([local], spec, image)
    if isinstance(expected, str):
        assert expected in found.fault
        return
    assert found == expected


def sysfs(tmp_path, **devices):
    """A tree as the kernel's rbd shows it."""
    for number, attributes in devices.items():
        folder = tmp_path / "devices" / number.lstrip("n")
        folder.mkdir(parents=True)
        for name, text in attributes.items():
            (folder / name).write_text(text + "\n")
    return str(tmp_path)


HEAD = {"pool": "rbd", "pool_ns": "", "name": "a", "image_id": "abc", "current_snap": "-", "cluster_fsid": "F"}
HEAD["snap_id"] = "18446744073709551614"


def test_krbd_is_read_from_sysfs(tmp_path):
    root = sysfs(
        tmp_path,
        n0={**HEAD, "client_addr": "192.0.2.1:0/22", "client_id": "client4123"},
        n10={**HEAD, "pool_ns": "k8s", "current_snap": "s", "snap_id": "4"},
        n2={"pool": "rbd"},  # just being removed
    )
    assert device_krbd.mapped_list(root) == [
        Mapping(SPEC, "/dev/rbd0", "krbd", False, None, "F", "abc"),
        Mapping(specs.parse("rbd/k8s/a@s"), "/dev/rbd10", "krbd", True, None, "F", "abc", 4),
    ]


def test_krbd_without_the_module(tmp_path):
    assert device_krbd.mapped_list(str(tmp_path)) == []


# As rbd-nbd of Ceph 16.2 and 17.2 write it.
NBD = {"id": 77, "pool": "rbd", "namespace": "", "image": "a", "snap": "-", "device": "/dev/nbd0", "cookie": "x"}


@pytest.mark.parametrize(
    ("entry", "environ", "expected"),
    [
        (NBD, {"SALT_RBD_IMAGE": "F.abc"}, Mapping(SPEC, "/dev/nbd0", "nbd", False, 77, "F", "abc")),
        ({**NBD, "snap": ""}, {"SALT_RBD_IMAGE": "F.abc"}, Mapping(SPEC, "/dev/nbd0", "nbd", False, 77, "F", "abc")),
        (
            {**NBD, "snap": "@s", "namespace": "k"},
            {"SALT_RBD_IMAGE": "F.abc.4"},
            Mapping(specs.parse("rbd/k/a@s"), "/dev/nbd0", "nbd", False, 77, "F", "abc", 4),
        ),
        (NBD, {}, "started by hand"),
    ],
)
def test_nbd_is_read_from_its_list(entry, environ, expected):
    found = device_nbd.mapping_of(entry, environ)
    if isinstance(expected, str):
        assert expected in found.fault
        return
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0x3d", ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]), ("0x40", ["journaling"]), ("0x0", [])],
)
def test_supported_features(tmp_path, text, expected):
    path = tmp_path / "supported_features"
    path.write_text(text + "\n")
    assert kernel.supported_features(str(path)) == expected


def test_supported_features_without_the_module(tmp_path):
    assert "journaling" not in kernel.supported_features(str(tmp_path / "none"))
    assert "fast-diff" in kernel.supported_features(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "argv",
    [
        ["qemu-storage-daemon"],
        ["qemu-storage-daemon", "--blockdev", "driver=rbd,node-name=r,pool=rbd,image=a", "--export", "type=fuse,id=e,mountpoint=/mnt/f"],
        ["qemu-storage-daemon", "--blockdev", "{broken", "--export", "{}"],
        ["qemu-storage-daemon", "--blockdev", "{}", "--export", '{"mountpoint": "/srv/export"}'],
        ["qemu-storage-daemon", "--export", '{"mountpoint": "/run/rbd-volumes/.fuse/F.abc.0.t/export"}'],
    ],
)
def test_daemons_of_others_are_left_alone(argv):
    assert device_fuse._served(argv) == (None, None)
