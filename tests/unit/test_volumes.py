"""The pillar's rbd: section: every mistake is told at once, before anything is touched."""

import pytest
from saltrbd import settings, volumes
from saltrbd.errors import InvalidPillar

CHOSEN = settings.load({}, {})


def read(section, chosen=CHOSEN, exists=None):
    return volumes.read(section, chosen, exists)


def volume(**declared):
    return {"volumes": {"a": dict({"size": "1G"}, **declared)}}


def mistakes(section, **more):
    with pytest.raises(InvalidPillar) as error:
        read(section, **more)
    begin = "The pillar has mistakes, so nothing was touched. "
    assert str(error.value).startswith(begin)
    return str(error.value)[len(begin) :]


@pytest.mark.parametrize("section", [None, {}, {"volumes": None}, {"volumes": {}, "clones": {}}, {"timeout": 5, "threads": 9}])
def test_nothing_declared(section):
    assert read(section) == []


def test_the_example():
    chosen = settings.load({}, {"ceph": {"pool": "tank", "namespace": "n", "fs_type": "xfs"}})
    section = {
        "volumes": {
            "rbd0001": {"size": "512M", "mount": "/mnt/a", "snapshots": {"snap1": {"protected": True, "consistency": "filesystem"}}},
            "plain": {"size": "1G", "pool": "other", "fs_type": None},
        },
        "clones": {"rbd0002": {"parent": "rbd0001@snap1", "mount": "/mnt/b"}},
    }
    del section["volumes"]["plain"]["fs_type"]
    first, plain, clone = read(section, chosen)
    assert [str(entry["spec"]) for entry in (first, plain, clone)] == ["tank/n/rbd0001", "other/plain", "tank/n/rbd0002"]
    assert [entry["level"] for entry in (first, plain, clone)] == [0, 0, 1]
    # A clone has its parent's filesystem.
    assert (first["fs_type"], clone["fs_type"]) == ("xfs", "xfs")
    assert first["snapshots"] == {"snap1": {"protected": True, "consistency": "filesystem"}}
    assert str(clone["parent"]) == "tank/n/rbd0001@snap1"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (["a"], "rbd: must be a mapping, not ['a']"),
        ({"volume": {}}, "rbd: unknown key 'volume'"),
        ({"volumes": ["a"]}, "rbd:volumes: must be a mapping, not ['a']"),
        ({"volumes": {"a": "1G"}}, "rbd:volumes:a: must be a mapping, not '1G'"),
        ({"volumes": {"a": None}}, "rbd:volumes:a: has no size"),
        (volume(size=None), "rbd:volumes:a: has no size"),
        (volume(size="big"), "rbd:volumes:a: The size 'big' is not a size"),
        (volume(sise="1G"), "rbd:volumes:a: unknown key 'sise'"),
        (volume(sise="1G", sizes=1), "rbd:volumes:a: unknown keys 'sise', 'sizes' (there are allow_shrink, "),
        (volume(parent="b@s"), "rbd:volumes:a: unknown key 'parent'"),
        ({"volumes": {"a": {"size": "1G", 5: 5}}}, "rbd:volumes:a: unknown key 5"),
        ({"volumes": {1: {"size": "1G"}}}, "rbd:volumes:1: the name 1 is not text; put it in quotes"),
        ({"volumes": {True: {"size": "1G"}}}, "rbd:volumes:True: the name True is not text"),
        ({"volumes": {None: {"size": "1G"}}}, "rbd:volumes:None: the name None is not text"),
        ({"volumes": {"p/a": {"size": "1G"}}}, "the key is an image's name alone; declare pool and namespace below it"),
        ({"volumes": {"a@s": {"size": "1G"}}}, "the key is an image's name alone"),
        ({"volumes": {"a b": {"size": "1G"}}}, "white space"),
        ({"volumes": {"a\nb": {"size": "1G"}}}, r"rbd:volumes:'a\nb': "),
        ({"volumes": {"\ud800": {"size": "1G"}}}, r"rbd:volumes:'\ud800': "),
        ({"volumes": {"": {"size": "1G"}}}, "rbd:volumes:'': The image name is empty"),
        (volume(pool=5), "The pool must be text, not 5"),
        (volume(pool=None), "The pool must be text, not None"),
        (volume(pool="a/b"), "The pool 'a/b' holds '/'"),
        (volume(namespace=0), "The namespace must be text, not 0"),
        (volume(namespace=False), "The namespace must be text, not False"),
        (volume(features="magic"), "Unknown features 'magic'"),
        (volume(object_size="3M"), "not a power of two"),
        (volume(stripe_unit="64K"), "stripe_unit and stripe_count together"),
        (volume(metadata=["a"]), "The metadata must be a mapping"),
        (volume(config={"size": 1}), "they begin with rbd_"),
        (volume(allow_shrink="no"), "allow_shrink must be True or False, not 'no'"),
        (volume(restore_from_trash=5), "restore_from_trash must be True, False or an id in quotes, not 5"),
        (volume(mount="mnt/a"), "mount must be an absolute path in its plain form, below /, not 'mnt/a'"),
        (volume(mount="/mnt/../a"), "absolute path in its plain form"),
        (volume(mount="/mnt/"), "absolute path in its plain form"),
        (volume(mount="/"), "absolute path in its plain form"),
        (volume(mount="//a"), "absolute path in its plain form"),
        (volume(mount=5), "absolute path in its plain form"),
        (volume(mount="/mnt/a b"), "white space"),
        (volume(mount="/mnt/\udc00"), "unprintable"),
        (volume(mount="/mnt/a", fs_type="btrfs"), "fs_type must be one of ext4, xfs, not 'btrfs'"),
        (volume(mount="/mnt/a", fs_type=None), "fs_type must be one of ext4, xfs, not None"),
        (volume(mount="/mnt/a", fs_type=["ext4"]), "fs_type must be one of ext4, xfs, not ['ext4']"),
        (volume(mount="/mnt/a", driver="loop"), "driver must be one of auto, krbd, nbd, fuse, not 'loop'"),
        (volume(mount="/mnt/a", persist=1), "persist must be True or False, not 1"),
        (volume(mount="/mnt/a", grow=0), "grow must be True or False, not 0"),
        (volume(grow=True), "grow has no use without a mount"),
        (volume(mount="/mnt/a", exclusive="x"), "exclusive must be True or False"),
        (volume(mount="/mnt/a", mount_options=5), "mount_options must be a list of words, not 5"),
        (volume(mount="/mnt/a", mkfs_options=["-m", 0]), "mkfs_options must be a list of words"),
        (volume(mount="/mnt/a", map_options=[""]), "map_options must be a list of words"),
        (volume(mount="/mnt/a", label=5), "label must be text, not 5"),
        (volume(mount="/mnt/a", label="a\nb"), "label must be text"),
        (volume(fs_type="ext4"), "fs_type has no use without a mount"),
        (volume(label="x"), "label has no use without a mount"),
        (volume(snapshots=["s"]), "rbd:volumes:a:snapshots: must be a mapping, not ['s']"),
        (volume(snapshots={"s": {"protect": True}}), "rbd:volumes:a:snapshots:s: unknown key 'protect'"),
        (volume(snapshots={"s": {"protected": "yes"}}), "rbd:volumes:a:snapshots:s: protected must be True or False"),
        (volume(snapshots={"s": {"consistency": "perfect"}}), "must be one of auto, filesystem, crash"),
        (volume(snapshots={"s": {"consistency": ["auto"]}}), "must be one of auto, filesystem, crash"),
        (volume(snapshots={"s": {"consistency": "filesystem"}}), "consistency: filesystem needs a mount"),
        (volume(snapshots={5: {}}), "rbd:volumes:a:snapshots:5: The snapshot name must be text, not 5"),
        (volume(snapshots={"a@b": {}}), "rbd:volumes:a:snapshots:a@b: The snapshot name 'a@b' holds '/', '@'"),
        ({"clones": {"c": None}}, "rbd:clones:c: has no parent (pool/image@snapshot)"),
        ({"clones": {"c": {"parent": None}}}, "rbd:clones:c: An image must be named as text"),
        ({"clones": {"c": {"parent": "a"}}}, "names no snapshot; write rbd/a@SNAPSHOT"),
        ({"clones": {"c": {"parent": ["a@s"]}}}, "must be named as text"),
        ({"clones": {"c": {"parent": "a@s", "clone_format": 3}}}, "clone_format must be auto, 1 or 2, not 3"),
        ({"clones": {"c": {"parent": "a@s", "allow_shrink": True}}}, "unknown key 'allow_shrink'"),
        (
            dict(volume(), clones={"c": {"parent": "a@s"}}),
            "c: its parent rbd/a@s is not among the snapshots of rbd:volumes:a (it has none)",
        ),
        (
            dict(volume(snapshots={"t": {}, "before": None}), clones={"c": {"parent": "a@s"}}),
            "rbd:clones:c: its parent rbd/a@s is not among the snapshots of rbd:volumes:a (there are before, t).",
        ),
        (
            dict(volume(snapshots={7: {}, "t": {}}), clones={"c": {"parent": "a@s"}}),
            "rbd:clones:c: its parent rbd/a@s is not among the snapshots of rbd:volumes:a (there are 7, t).",
        ),
        (
            dict(volume(snapshots={f"s{number:02}": {} for number in range(30)}), clones={"c": {"parent": "a@s"}}),
            "(there are s00, s01, s02, s03, s04, s05, s06, s07, s08, s09 and 20 more).",
        ),
        (
            {"clones": {"b": {"parent": "x@y", "snapshots": {"s": {}}}, "c": {"parent": "b@S"}}},
            "rbd:clones:c: its parent rbd/b@S is not among the snapshots of rbd:clones:b (there are s).",
        ),
        (dict(volume(), clones={"a": {"parent": "x@s"}}), "rbd:clones:a: rbd/a is declared by rbd:volumes:a already"),
        pytest.param({"volumes": {10**5000: {"size": 10**5000, 10**5000: 1}}}, "too long to be shown", id="huge"),
    ],
)
def test_mistakes(section, words):
    assert words in mistakes(section)


def test_every_mistake_in_one_message():
    told = mistakes(
        {
            "volumes": {"a": {"size": "x", "mount": "y", "snapshots": {"s": {"protected": 1}}}, "b": 5},
            "clones": {"c": {"parent": "a"}},
            "extra": 1,
        }
    )
    for words in ("'x' is not a size", "not 'y'", "protected must be", "rbd:volumes:b: must be a mapping", "names no snapshot", "'extra'"):
        assert words in told
    assert told.endswith(".")
    assert ".." not in told


@pytest.mark.parametrize("key", ["fs_type", "driver"])
def test_what_is_not_declared_comes_from_the_configuration(key):
    name = "rbd:driver" if key == "driver" else "ceph:fs_type"
    chosen = CHOSEN._replace(**{key: ""})
    assert name + " must be one of" in mistakes(volume(mount="/mnt/a"), chosen=chosen)
    assert len(read(volume(), chosen)) == 1  # nothing is mounted
    good = "fuse" if key == "driver" else "xfs"
    assert len(read(volume(mount="/mnt/a", **{key: good}), chosen)) == 1


def test_one_mount_point_is_one_volumes():
    section = {"volumes": {name: {"size": "1G", "mount": "/mnt/a"} for name in ("a", "b")}}
    assert mistakes(section) == "rbd:volumes:b: the mount point /mnt/a is rbd:volumes:a's already."


def test_the_same_name_in_another_namespace_is_another_image():
    section = {"volumes": {"a": {"size": "1G"}}, "clones": {"a": {"parent": "a@s", "namespace": "n"}}}
    section["volumes"]["a"]["snapshots"] = {"s": {}}
    assert [str(entry["spec"]) for entry in read(section)] == ["rbd/a", "rbd/n/a"]


def test_a_parent_that_the_pillar_does_not_declare():
    asked = []

    def exists(specs):
        asked.extend(str(spec) for spec in specs)
        return {spec for spec in specs if spec.image == "there"}

    section = {"clones": {"b": {"parent": "q/there@s"}, "c": {"parent": "gone@s"}}}
    assert mistakes(section, exists=exists) == "rbd:clones:c: its parent rbd/gone@s is declared nowhere and does not exist."
    assert asked == ["q/there@s", "rbd/gone@s"]
    del section["clones"]["c"]
    assert read(section, exists=exists)[0]["fs_type"] is None  # nobody knows it here


def snapshots(*names):
    return {name: {} for name in names}


def test_clones_of_clones():
    section = {
        "volumes": {"a": {"size": "1G", "snapshots": snapshots("s")}},
        "clones": {
            "d": {"parent": "c@s"},
            "c": {"parent": "b@s", "snapshots": snapshots("s")},
            "b": {"parent": "a@s", "snapshots": snapshots("s")},
        },
    }
    assert {entry["spec"].image: entry["level"] for entry in read(section)} == {"a": 0, "b": 1, "c": 2, "d": 3}


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ({"clones": {"a": {"parent": "a@s", "snapshots": snapshots("s")}}}, ["clones:a"]),
        (
            {"clones": {"a": {"parent": "b@s", "snapshots": snapshots("s")}, "b": {"parent": "a@s", "snapshots": snapshots("s")}}},
            ["clones:a", "clones:b"],
        ),
        # The parent is mounted below its clone: its mount waits for the clone's, and the clone for the parent's snapshot.
        (
            {
                "volumes": {"a": {"size": "1G", "mount": "/mnt/c/a", "snapshots": snapshots("s")}},
                "clones": {"c": {"parent": "a@s", "mount": "/mnt/c"}, "d": {"parent": "c@s"}},
            },
            ["volumes:a", "clones:c"],
        ),
    ],
)
def test_nothing_waits_for_itself(section, names):
    if "d" in section["clones"]:  # hangs on what waits for itself, and is no mistake
        section["clones"]["c"]["snapshots"] = snapshots("s")
    told = mistakes(section)
    assert told.count("would have to be there before itself") == len(names)
    assert all("rbd:" + name in told for name in names)


def test_levels_count_what_a_mount_waits_for():
    section = {
        "volumes": {
            "u": {"size": "1G", "snapshots": snapshots("s")},
            "v": {"size": "1G", "mount": "/x/y", "snapshots": snapshots("t")},
        },
        "clones": {"c": {"parent": "u@s", "mount": "/x"}, "k": {"parent": "v@t", "snapshots": snapshots("s")}},
    }
    assert {entry["spec"].image: entry["level"] for entry in read(section)} == {"u": 0, "c": 1, "v": 2, "k": 3}


def test_a_parent_that_grew_is_no_mistake():
    section = {
        "volumes": {"a": {"size": "4G", "snapshots": snapshots("s")}},
        "clones": {"c": {"parent": "a@s", "size": "1G"}},
    }
    # The snapshot may be older than the growth; the state compares with the snapshot itself.
    assert len(read(section)) == 2


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"label": "a label that is much too long"}, "label"),
        ({"mkfs_options": ["-F"]}, "-F"),
        ({"mount_options": ["loop"]}, "mount_options"),
        ({"map_options": ["queue_depth=256"]}, "driver"),
    ],
)
def test_what_a_tool_would_refuse_later_is_a_mistake_now(declared, words):
    section = {"volumes": {"a": {"size": "1G", "mount": "/m", **declared}}}
    assert words in mistakes(section)
    assert read({"volumes": {"a": {"size": "1G", "mount": "/m"}}})
