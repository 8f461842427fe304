"""What rbd_image.present mends of an image that is there, and what it refuses to change; on the real cluster, dry and for real."""

import pytest
from image_checks import M, changed

# Sizes.


def test_grow(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    assert converges("rbd_image.present", spec, size="16M").changes == changed(spec, size=("8M", "16M"))
    assert rbd_cli.json("info", spec)["size"] == 16 * M


def test_shrink_only_when_allowed(spec, converges, refuses, rbd_cli):
    rbd_cli("create", spec, "--size", "16M")
    told = refuses("rbd_image.present", spec, size="8M")
    assert f"{spec}: it has 16M, and shrinking it to 8M would cut off data. Declare allow_shrink: True" in told
    assert rbd_cli.json("info", spec)["size"] == 16 * M
    assert converges("rbd_image.present", spec, size="8M", allow_shrink=True).changes == changed(spec, size=("16M", "8M"))
    assert rbd_cli.json("info", spec)["size"] == 8 * M


# Features.

LOCK = ["layering", "exclusive-lock"]
MAPS = [*LOCK, "object-map", "fast-diff"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["layering"], MAPS),
        (MAPS, ["layering"]),
        (MAPS, LOCK),
        ([*LOCK, "journaling"], MAPS),
        (MAPS, [*LOCK, "journaling"]),
        ([*MAPS, "journaling"], ["layering"]),
        (["layering"], [*MAPS, "journaling"]),
    ],
    ids=lambda names: "+".join(names),
)
def test_features(spec, converges, rbd_cli, before, after):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", ",".join(before))
    rbd_cli("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", spec)
    assert converges("rbd_image.present", spec, features=after).changes == changed(spec, features=(sorted(before), sorted(after)))
    info = rbd_cli.json("info", spec)
    assert sorted(info["features"]) == sorted(after)
    # Enabled again, the maps are invalid until they were rebuilt.
    assert info["flags"] == []
    rbd_cli("object-map", "check", spec) if "object-map" in after else None


def test_an_invalid_object_map_is_rebuilt(spec, converges, unchanged, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock")
    rbd_cli("feature", "enable", spec, "object-map")
    assert "object map invalid" in rbd_cli.json("info", spec)["flags"]
    unchanged("rbd_image.present", spec, size="8M")  # nobody declared the feature
    ran = converges("rbd_image.present", spec, features=MAPS)
    assert ran.changes == changed(spec, flags=(["fast-diff-invalid", "object-map-invalid"], []))
    assert rbd_cli.json("info", spec)["flags"] == []


def test_the_object_maps_of_snapshots_are_rebuilt_too(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering,exclusive-lock")
    rbd_cli("snap", "create", f"{spec}@s")
    converges("rbd_image.present", spec, features=MAPS)
    assert rbd_cli.json("info", f"{spec}@s")["flags"] == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (["layering"], ["exclusive-lock"], ["layering cannot be changed"]),
        (["exclusive-lock"], LOCK, ["layering cannot be changed"]),
        (LOCK, [*LOCK, "deep-flatten"], ["deep-flatten cannot be enabled"]),
        ([*LOCK, "deep-flatten"], LOCK, ["disabling deep-flatten cannot be undone", "rbd feature disable"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_features_that_cannot_change(spec, refuses, rbd_cli, before, after, words):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", ",".join(before))
    told = refuses("rbd_image.present", spec, features=after)
    assert all(word in told and spec in told for word in words)
    assert sorted(rbd_cli.json("info", spec)["features"]) == sorted(before)


# Layout.


def test_layout_cannot_change(pool, spec, refuses, rbd_cli, other_pool):
    data, other = other_pool, pool
    words = ["--size", "8M", "--object-size", "1M", "--stripe-unit", "64K", "--stripe-count", "2", "--data-pool", data]
    rbd_cli("create", spec, *words)
    for declared, told in (
        ({"object_size": "4M"}, "object_size is 1M and cannot be changed to 4M"),
        ({"stripe_unit": "32K", "stripe_count": 2}, "stripe_unit is 64K and cannot be changed to 32K"),
        ({"stripe_unit": "64K", "stripe_count": 4}, "stripe_count is 2 and cannot be changed to 4"),
        ({"data_pool": other}, f"data_pool is {data} and cannot be changed to {other}"),
    ):
        # What could be done is not done either.
        assert f"{spec}: {told}" in refuses("rbd_image.present", spec, size="16M", **declared)
    assert rbd_cli.json("info", spec)["size"] == 8 * M


# Metadata and config.


def test_metadata(spec, converges, unchanged, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    rbd_cli("image-meta", "set", spec, "other", "kept")
    ran = converges("rbd_image.present", spec, metadata={"owner": "a", "ä😀": "ö"})
    assert ran.changes == changed(spec, **{"metadata.owner": (None, "a"), "metadata.ä😀": (None, "ö")})
    assert converges("rbd_image.present", spec, metadata={"owner": "b"}).changes == changed(spec, **{"metadata.owner": ("a", "b")})
    ran = converges("rbd_image.present", spec, metadata={"owner": None, "never": None})
    assert ran.changes == changed(spec, **{"metadata.owner": ("b", None)})
    assert rbd_cli.json("image-meta", "list", spec) == {"other": "kept", "ä😀": "ö"}
    unchanged("rbd_image.present", spec, metadata={})


def test_config(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M")
    declared = {"rbd_qos_iops_limit": 100, "rbd_cache": False}
    ran = converges("rbd_image.present", spec, config=declared)
    assert ran.changes == changed(spec, **{"config.rbd_qos_iops_limit": (None, "100"), "config.rbd_cache": (None, "false")})
    converges("rbd_image.present", spec, config={"rbd_cache": None, "rbd_qos_iops_limit": 200})
    listed = {item["name"]: item for item in rbd_cli.json("config", "image", "list", spec)}
    assert (listed["rbd_qos_iops_limit"]["value"], listed["rbd_qos_iops_limit"]["source"]) == ("200", "image")
    assert listed["rbd_cache"]["source"] == "config"


def test_empty_values_that_somebody_else_set(spec, other_client, modules, converges, rbd_cli):
    # The bindings of 16.2 leave empty values out of their list, and every later key gets its neighbour's value.
    rbd_cli("create", spec, "--size", "8M")
    for key, value in (("a", ""), ("owner", "me"), ("z", "last")):
        other_client(spec, "image.metadata_set(*words)", key, value)
    assert modules.rbd_image.info(spec)["metadata"] == {"a": "", "owner": "me", "z": "last"}
    assert converges("rbd_image.present", spec, metadata={"a": "b", "owner": "me"}).changes == changed(spec, **{"metadata.a": ("", "b")})


SET_MANY = """
with rados.WriteOpCtx() as operation:
    context.set_omap(operation, ["metadata_key%04d" % n for n in range(1500)], [b"%d" % n for n in range(1500)])
    context.operate_write_op(operation, "rbd_header." + image.id())
"""


def test_more_metadata_than_an_osd_gives_at_once(spec, other_client, modules, rbd_cli):
    rbd_cli("create", spec, "--size", "1M")
    other_client(spec, SET_MANY)
    assert rbd_cli("image-meta", "get", spec, "key0000") == "0"
    assert modules.rbd_image.info(spec)["metadata"] == {f"key{number:04}": f"{number}" for number in range(1500)}


def test_many_changes_at_once(spec, converges, rbd_cli):
    rbd_cli("create", spec, "--size", "8M", "--image-feature", "layering")
    ran = converges("rbd_image.present", spec, size="16M", features=MAPS, metadata={"a": 1}, config={"rbd_cache": False})
    assert set(ran.changes[spec]) == {"size", "features", "metadata.a", "config.rbd_cache"}
