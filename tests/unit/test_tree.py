"""What the state tree declares for the pillar's volumes: names, arguments, requisites."""

import fnmatch

from saltrbd import settings, tree, volumes

CHOSEN = settings.load({}, {})


def layout(section):
    return tree.layout(volumes.read(section, CHOSEN))


def test_nothing():
    assert tree.layout([]) == {
        "namespaces": [],
        "images": [],
        "clones": [],
        "encryption": [],
        "devices": [],
        "filesystems": [],
        "mounts": [],
        "snapshots": [],
    }


def test_the_example():
    found = layout(
        {
            "volumes": {
                "a": {
                    "size": "512M",
                    "mount": "/mnt/a",
                    "fs_type": "xfs",
                    "driver": "fuse",
                    "label": "data",
                    "mount_options": ["noatime"],
                    "persist": False,
                    "grow": False,
                    "metadata": {"owner": "x"},
                    "allow_shrink": True,
                    "snapshots": {"s": {"protected": True, "consistency": "filesystem"}},
                }
            },
            "clones": {"b": {"parent": "a@s", "mount": "/mnt/a/b", "clone_format": 2, "size": None}},
        }
    )
    assert found["images"] == [
        {
            "id": "rbd image rbd/a",
            "function": "rbd_image.present",
            "arguments": {"name": "rbd/a", "size": "512M", "metadata": {"owner": "x"}, "allow_shrink": True},
            "require": [],
        }
    ]
    assert found["clones"] == [
        {
            "id": "rbd clone rbd/b",
            "function": "rbd_clone.present",
            "arguments": {"name": "rbd/b", "parent": "rbd/a@s", "clone_format": 2},
            "require": [{"rbd_snapshot": "rbd snapshot rbd/a@s"}],
        }
    ]
    assert found["devices"] == [
        {
            "id": "rbd device rbd/a",
            "function": "rbd_device.mapped",
            "arguments": {"name": "rbd/a", "driver": "fuse", "persist": False},
            "require": [{"rbd_image": "rbd image rbd/a"}],
        },
        {
            "id": "rbd device rbd/b",
            "function": "rbd_device.mapped",
            "arguments": {"name": "rbd/b"},
            "require": [{"rbd_clone": "rbd clone rbd/b"}],
        },
    ]
    # A clone brings its filesystem along.
    assert found["filesystems"] == [
        {
            "id": "rbd filesystem rbd/a",
            "function": "rbd_filesystem.formatted",
            "arguments": {"name": "rbd/a", "fs_type": "xfs", "label": "data"},
            "require": [{"rbd_device": "rbd device rbd/a"}],
        }
    ]
    assert found["mounts"] == [
        {
            "id": "rbd mount /mnt/a",
            "function": "rbd_filesystem.mounted",
            "arguments": {
                "name": "/mnt/a",
                "image": "rbd/a",
                "fs_type": "xfs",
                "mount_options": ["noatime"],
                "persist": False,
                "grow": False,
            },
            "require": [{"rbd_filesystem": "rbd filesystem rbd/a"}],
        },
        {
            "id": "rbd mount /mnt/a/b",
            "function": "rbd_filesystem.mounted",
            "arguments": {"name": "/mnt/a/b", "image": "rbd/b", "fs_type": "xfs"},
            "require": [{"rbd_device": "rbd device rbd/b"}, {"rbd_filesystem": "rbd mount /mnt/a"}],
        },
    ]
    assert found["snapshots"] == [
        {
            "id": "rbd snapshot rbd/a@s",
            "function": "rbd_snapshot.protected",
            "arguments": {"name": "rbd/a@s", "consistency": "filesystem"},
            "require": [{"rbd_filesystem": "rbd mount /mnt/a"}],
        }
    ]


def test_snapshots_of_images_without_a_mount_are_gathered():
    section = {"volumes": {"v{:03}".format(number): {"size": "1G", "snapshots": {"s": {}}} for number in range(200)}}
    section["volumes"]["other"] = {"size": "1G", "snapshots": {"s": {"protected": True}, "t": {"consistency": "crash"}}}
    found = layout(section)["snapshots"]
    assert sorted((state["function"], state["arguments"]["name"], len(state["arguments"]["images"])) for state in found) == [
        ("rbd_snapshot.present", "s", 200),
        ("rbd_snapshot.present", "t", 1),
        ("rbd_snapshot.protected", "s", 1),
    ]
    big = max(found, key=lambda state: len(state["require"]))
    assert big["arguments"]["images"][0] == "rbd/v000"
    assert big["require"][0] == {"rbd_image": "rbd image rbd/v000"}
    assert len(big["require"]) == 200


def test_what_is_gathered_does_not_wait_for_itself():
    found = layout(
        {
            "volumes": {"a": {"size": "1G", "snapshots": {"s": {}}}},
            "clones": {"b": {"parent": "a@s", "snapshots": {"s": {}}}, "c": {"parent": "b@s"}},
        }
    )
    first, second = found["snapshots"]
    assert (first["arguments"]["images"], second["arguments"]["images"]) == (["rbd/a"], ["rbd/b"])
    assert [clone["require"] for clone in found["clones"]] == [[{"rbd_snapshot": first["id"]}], [{"rbd_snapshot": second["id"]}]]
    assert second["require"] == [{"rbd_clone": "rbd clone rbd/b"}]


def test_a_parent_outside_the_pillar_is_nobodys_requisite():
    assert layout({"clones": {"c": {"parent": "x@s"}}})["clones"][0]["require"] == []


def test_names_that_look_like_patterns():
    section = {"volumes": {name: {"size": "1G", "snapshots": {"s": {}}, "mount": "/mnt/" + name} for name in ("*", "?", "[ab]", "a", "]")}}
    found = layout(section)
    made = [state["id"] for states in found.values() for state in states]
    for states in found.values():
        for state in states:
            for requisite in state["require"]:
                (pattern,) = requisite.values()
                # Salt matches requisites as shell patterns; each must mean one state, and the same image's.
                (match,) = [identity for identity in made if fnmatch.fnmatch(identity, pattern)]
                assert match.rpartition("/")[2].partition("@")[0] == state["id"].rpartition("/")[2].partition("@")[0]


def test_images_come_after_their_namespace():
    section = {
        "namespaces": ["rbd/n[1]", "q/n"],
        "volumes": {"a": {"size": "1G", "pool": "rbd", "namespace": "n[1]", "snapshots": {"s": {}}}, "b": {"size": "1G"}},
        "clones": {"c": {"parent": "rbd/n[1]/a@s", "pool": "q", "namespace": "n"}},
    }
    found = tree.layout(volumes.read(section, CHOSEN), volumes.namespaces(section, CHOSEN))
    assert [(item["id"], item["function"], item["arguments"]) for item in found["namespaces"]] == [
        ("rbd namespace q/n", "rbd_namespace.present", {"name": "q/n"}),
        ("rbd namespace rbd/n[1]", "rbd_namespace.present", {"name": "rbd/n[1]"}),
    ]
    needs = {
        item["arguments"]["name"]: [one["rbd_namespace"] for one in item["require"] if "rbd_namespace" in one] for item in found["images"]
    }
    assert needs == {"rbd/n[1]/a": ["rbd namespace rbd/n[[]1]"], "rbd/b": []}
    assert found["clones"][0]["require"] == [{"rbd_namespace": "rbd namespace q/n"}, {"rbd_snapshot": "rbd snapshots s auto 0"}]
