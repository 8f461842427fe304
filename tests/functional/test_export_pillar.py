"""rbd_image.export_pillar: what the rbd command made, as a pillar that changes nothing; and that makes the same elsewhere."""

import json
from pathlib import Path

import pytest
import yaml

EVERY = "layering,exclusive-lock,object-map,fast-diff,deep-flatten,journaling"


@pytest.fixture(scope="module")
def site(make_pool, rbd_cli):
    """Two pools, made by the rbd command alone: (pool, pool of data and of a foreign parent)."""
    pool, other = make_pool(), make_pool()

    def clone(number, parent, child, *words):
        rbd_cli("clone", "--rbd-default-clone-format", str(number), parent, child, *words)

    def snap(spec, *words):
        rbd_cli("snap", "create", "--no-progress", spec)
        for word in words:
            rbd_cli("snap", word, spec)

    for namespace in ("a", "b"):
        rbd_cli("namespace", "create", f"{pool}/{namespace}")
        rbd_cli("create", f"{pool}/{namespace}/db", "--size", "16M", "--image-feature", EVERY)
    rbd_cli("create", f"{pool}/db", "--size", "12345K", "--data-pool", other, "--object-size", "1M")
    rbd_cli("create", f"{pool}/striped", "--size", "64M", "--object-size", "8M", "--stripe-unit", "64K", "--stripe-count", "4")
    rbd_cli("create", f"{pool}/plain", "--size", "8M", "--image-feature", "layering")
    rbd_cli("create", f"{pool}/bare", "--size", "8M", "--image-feature", "exclusive-lock")
    for key, value in (("owner", "{{ me }} {% raw"), ("note", "true"), ("lines", "one\\ntwo: '3'"), ("conf_rbd_cache", "false")):
        rbd_cli("image-meta", "set", f"{pool}/plain", key, value)
    # A chain over namespaces, pools and both formats.
    snap(f"{pool}/db@one", "protect")
    snap(f"{pool}/db@two")
    clone(1, f"{pool}/db@one", f"{pool}/first", "--object-size", "2M")
    snap(f"{pool}/first@s", "protect")
    clone(2, f"{pool}/first@s", f"{pool}/a/second")
    snap(f"{pool}/a/second@s")
    clone(2, f"{pool}/a/second@s", f"{pool}/b/third")
    rbd_cli("resize", "--no-progress", f"{pool}/b/third", "--size", "32M")
    rbd_cli("create", f"{other}/base", "--size", "8M")
    snap(f"{other}/base@s", "protect")
    clone(1, f"{other}/base@s", f"{pool}/foreign")
    return pool, other


@pytest.fixture
def inexpressible(site, rbd_cli):
    """What no pillar can say, in a namespace of its own."""
    pool, place = site[0], f"{site[0]}/odd"
    rbd_cli("namespace", "create", place)
    for name in ("white space", "grouped", "old", "above", "hidden"):
        rbd_cli("create", "--size", "8M", "--pool", pool, "--namespace", "odd", name)
    rbd_cli("group", "create", f"{place}/g")
    rbd_cli("group", "image", "add", f"{place}/g", f"{place}/grouped")
    for name in ("above", "hidden"):
        rbd_cli("snap", "create", "--no-progress", f"{place}/{name}@s")
        rbd_cli("clone", "--rbd-default-clone-format", "2", f"{place}/{name}@s", f"{place}/of-{name}")
    rbd_cli("snap", "rm", "--no-progress", f"{place}/hidden@s")
    for name in ("old", "above"):
        rbd_cli("trash", "mv", f"{place}/{name}")
    # Another one of that name, with a snapshot of that name: it is not the parent.
    rbd_cli("create", f"{place}/above", "--size", "8M")
    rbd_cli("snap", "create", "--no-progress", f"{place}/above@s")
    yield "odd"
    rbd_cli("group", "rm", f"{place}/g")


@pytest.fixture
def applied(repo, make_loaders):
    """Apply ``salt/rbd`` with an SLS as the pillar, dry or for real; nothing may fail: ``applied(text)(test)`` returns the results."""

    def prepare(text):
        loaders = make_loaders()
        (Path(loaders.opts["file_roots"]["base"][0]) / "rbd").symlink_to(repo / "salt/rbd")
        pillar = Path(loaders.opts["pillar_roots"]["base"][0])
        (pillar / "exported.sls").write_text(text)
        (pillar / "top.sls").write_text(json.dumps({"base": {"*": ["all", "exported"]}}))

        def apply(test):
            ran = list(loaders.modules.state.apply("rbd", test=test))
            assert [result.comment for result in ran if result.result is False] == []
            return ran

        return apply

    return prepare


def as_sls(section):
    return "#!yaml\n" + json.dumps({"rbd": section})


def changed(ran):
    return [(result.id, result.changes) for result in ran if result.changes or result.result is not True]


def seen(rbd_cli, pool, namespaces=("", "a", "b")):
    """All that the rbd command says of a pool's images, without ids and times."""
    found = {}
    for namespace in namespaces:
        for name in rbd_cli.json("ls", pool, "--namespace", namespace) if namespace else rbd_cli.json("ls", pool):
            spec = "/".join(part for part in (pool, namespace, name) if part)
            info = rbd_cli.json("info", spec)
            facts = {key: info.get(key) for key in ("size", "order", "features", "stripe_unit", "stripe_count", "data_pool", "parent")}
            facts["features"] = sorted(facts["features"])
            if facts["parent"]:
                facts["parent"] = {key: value for key, value in facts["parent"].items() if key not in ("id", "pool_id", "snapshot_id")}
            snapshots = rbd_cli.json("snap", "ls", spec)
            facts["snapshots"] = [(item["name"], item["size"], item["protected"]) for item in snapshots]
            facts["metadata"] = rbd_cli.json("image-meta", "ls", spec)
            found["/".join(part for part in (namespace, name) if part)] = facts
    return found


def test_applied_nothing_changes(site, applied, modules, rbd_cli):
    pool, other = site
    before = seen(rbd_cli, pool)
    exported = modules.rbd_image.export_pillar(pool)
    assert exported["warnings"] == []
    section = exported["rbd"]
    assert section["namespaces"] == [f"{pool}/a", f"{pool}/b"]
    assert sorted(section["volumes"]) == sorted(["db", f"{pool}/a/db", f"{pool}/b/db", "striped", "plain", "bare"])
    parents = {key: (entry["parent"], entry["clone_format"]) for key, entry in section["clones"].items()}
    assert parents == {
        "first": (f"{pool}/db@one", 1),
        "second": (f"{pool}/first@s", 2),
        "third": (f"{pool}/a/second@s", 2),
        "foreign": (f"{other}/base@s", 1),
    }
    assert section["volumes"]["db"]["snapshots"] == {"one": {"protected": True}, "two": {}}
    apply = applied(as_sls(section))
    for test in (True, False):
        ran = apply(test)
        assert changed(ran) == []
        assert len(ran) >= 2 + 6 + 4 + 4
    assert seen(rbd_cli, pool) == before


def test_applied_elsewhere_the_same_is_made(site, make_pool, applied, modules, rbd_cli):
    pool, other = site
    new = make_pool()
    section = json.loads(json.dumps(modules.rbd_image.export_pillar(pool)["rbd"]).replace(pool, new))
    apply = applied(as_sls(section))
    apply(False)
    assert changed(apply(True)) == []
    assert modules.rbd_image.export_pillar(new) == {"rbd": section, "warnings": []}
    expected = json.loads(json.dumps(seen(rbd_cli, pool)).replace(pool, new))
    made = json.loads(json.dumps(seen(rbd_cli, new)))
    for facts in (*expected.values(), *made.values()):
        # An image had its snapshots before it grew, and has them afterwards here.
        facts["snapshots"] = [[name, protected] for name, _, protected in facts["snapshots"]]
    assert made == expected


def test_what_no_pillar_can_say_is_told(site, inexpressible, applied, modules):
    pool, place = site[0], f"{site[0]}/odd"
    exported = modules.rbd_image.export_pillar(pool, inexpressible)
    told = "\n".join(exported["warnings"])
    for words in (
        f"{place}/white space is left out",
        f"{place}/grouped is in the group g of images",
        f"{place}/old (id ",
        f"{place}/above (id ",
        f"{place}/of-above is declared as a volume, without its parent {place}/above@s: the image lies in the trash.",
        f"{place}/of-hidden is declared as a volume, without its parent {place}/hidden@s: the snapshot was removed since.",
        f"{place}/hidden: the snapshot s of the type trash is left out.",
    ):
        assert words in told
    assert len(exported["warnings"]) == 7
    assert sorted(exported["rbd"]["volumes"]) == ["above", "grouped", "hidden", "of-above", "of-hidden"]
    apply = applied(as_sls(exported["rbd"]))
    for test in (True, False):
        assert changed(apply(test)) == []


def test_the_file(site, applied, modules, tmp_path):
    pool = site[0]
    path = tmp_path / "rbd.sls"
    exported = modules.rbd_image.export_pillar(pool, "", str(path))
    assert sorted(exported["rbd"]["volumes"]) == ["bare", "db", "plain", "striped"]
    assert yaml.safe_load(path.read_text()) == {"rbd": exported["rbd"]}
    with pytest.raises(Exception, match="exists already"):
        modules.rbd_image.export_pillar(pool, "", str(path))
    # Salt reads it as a pillar: {{ in somebody's metadata is no Jinja there.
    ran = applied(path.read_text())(True)
    assert len(ran) > 4, [result.comment for result in ran]
    assert changed(ran) == []
