"""The one parser for pool[/namespace]/image[@snapshot]."""

import pytest
from saltrbd import spec
from saltrbd.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rbd/db", ("rbd", "", "db", "")),
        ("rbd/db@s", ("rbd", "", "db", "s")),
        ("rbd/k8s/db", ("rbd", "k8s", "db", "")),
        ("rbd/k8s/db@snap1", ("rbd", "k8s", "db", "snap1")),
        ("db", ("dflt", "", "db", "")),
        ("db@s", ("dflt", "", "db", "s")),
        ("a-b_c.d:e/f+g", ("a-b_c.d:e", "", "f+g", "")),
        ("p/[a]*?", ("p", "", "[a]*?", "")),
        ("p/ä日😀", ("p", "", "ä日😀", "")),
        ("./..", (".", "", "..", "")),
        ("p/" + "x" * 255, ("p", "", "x" * 255, "")),
    ],
)
def test_valid(text, parts):
    parsed = spec.parse(text, "dflt")
    assert tuple(parsed) == parts
    assert spec.parse(str(parsed)) == parsed
    assert spec.parse(parsed) is parsed


def test_a_bare_name_lies_in_the_default_namespace():
    assert str(spec.parse("db", "p", "n")) == "p/n/db"
    # A spec that names its pool says where it is.
    assert str(spec.parse("q/db", "p", "n")) == "q/db"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "image name in '' is empty"),
        ("/db", "pool in '/db' is empty"),
        ("rbd/", "image name in 'rbd/' is empty"),
        ("rbd//db", "namespace in 'rbd//db' is empty"),
        ("a/b/c/d", "more than pool/namespace/image"),
        ("rbd/db@", "snapshot name in 'rbd/db@' is empty"),
        ("rbd/db@a@b", "holds '/', '@'"),
        ("rbd/db@a/b", "holds '/', '@'"),
        ("rbd/d b", "white space"),
        ("rbd/db\n", "white space"),
        ("rbd/d\tb", "white space"),
        ("rbd/d\0b", "unprintable"),
        ("rbd/\ud800", "unprintable"),
        ("rbd/\u200b", "unprintable"),
        ("-rf/db", "begins with '-'"),
        ("rbd/--all", "begins with '-'"),
        ("rbd/db@-x", "begins with '-'"),
        ("rbd/" + "x" * 256, "longer than 255 bytes"),
        ("rbd/" + "ä" * 128, "longer than 255 bytes"),
        (7, "must be named as text"),
        (None, "must be named as text"),
        (b"rbd/db", "must be named as text"),
        (["rbd/db"], "must be named as text"),
        ({"rbd": "db"}, "must be named as text"),
        pytest.param(10**5000, "too long to be shown", id="huge"),
    ],
)
def test_invalid(text, words):
    with pytest.raises(InvalidSpec) as error:
        spec.parse(text, "dflt")
    assert words in str(error.value)
    assert len(str(error.value)) < 400


def test_a_bare_name_needs_a_pool():
    with pytest.raises(InvalidSpec, match="names no pool"):
        spec.parse("db")


def test_image_or_snapshot():
    assert spec.parse_image("p/i") == spec.Spec("p", "", "i", "")
    assert spec.parse_snapshot("p/i@s") == spec.Spec("p", "", "i", "s")
    with pytest.raises(InvalidSpec, match="names a snapshot, where an image is wanted; leave out '@s'"):
        spec.parse_image("p/i@s")
    with pytest.raises(InvalidSpec, match="names no snapshot; write p/i@SNAPSHOT"):
        spec.parse_snapshot("p/i")


def test_head_at_and_where():
    image = spec.parse("p/n/i@s")
    assert str(image.head) == "p/n/i"
    assert str(image.head.at("t")) == "p/n/i@t"
    assert image.where() == {"pool": "p", "namespace": "n", "image": "i", "snapshot": "s"}
    with pytest.raises(InvalidSpec):
        image.at("a@b")
