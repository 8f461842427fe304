"""The pillar for what is there: what is declared, and what is told instead; and what is declared changes nothing."""

import pytest
from image_facts import G, M, P, image, parent, snapshot
from saltrbd import clone, errors, export, settings, spec, volumes
from saltrbd import image as images

CHOSEN = settings.load({}, {})
PLACE = P._replace(image="")


def found(*names, parents=(), trash=(), places=(PLACE,), **facts):
    """What a pool has: the image p/i with these facts, and other plain ones."""
    there = {P: image(**facts), **{spec.parse(name): image(id="id-" + name) for name in names}}
    return export.Found(list(places), there, dict(parents), list(trash))


def test_a_plain_image():
    section, told = export.pillar(found())
    features = ["deep-flatten", "exclusive-lock", "fast-diff", "layering", "object-map"]
    assert section == {"volumes": {"i": {"pool": "p", "size": "1G", "features": features, "object_size": "4M"}}}
    assert told == []


def test_nothing():
    assert export.pillar(export.Found([PLACE], {}, {}, [])) == ({}, [])


@pytest.mark.parametrize(
    ("facts", "declared"),
    [
        ({"size": G + 1}, {"size": "1073741825B"}),
        ({"features": []}, {"features": []}),
        (
            {"features": ["layering", "data-pool", "operations", "striping"], "data_pool": "ec"},
            {"features": ["layering"], "data_pool": "ec"},
        ),
        ({"stripe_unit": M, "stripe_count": 4}, {"stripe_unit": "1M", "stripe_count": 4}),
        ({"stripe_count": 2}, {"stripe_unit": "4M", "stripe_count": 2}),
        ({"metadata": {"owner": "me", "saltrbd.mkfs": "{}"}}, {"metadata": {"owner": "me"}}),
        ({"config": {"rbd_cache": "false"}}, {"config": {"rbd_cache": "false"}}),
        ({"snapshots": [snapshot("s"), snapshot("t", protected=True)]}, {"snapshots": {"s": {}, "t": {"protected": True}}}),
    ],
)
def test_what_is_declared(facts, declared):
    section, told = export.pillar(found(**facts))
    assert told == []
    entry = section["volumes"]["i"]
    assert {key: entry[key] for key in declared} == declared


@pytest.mark.parametrize(
    ("facts", "words", "left"),
    [
        (
            {"features": ["layering", "exclusive-lock", "object-map"]},
            "p/i: features (exclusive-lock, layering, object-map) is left out",
            "features",
        ),
        ({"object_size": 64 * M, "stripe_unit": 64 * M}, "p/i: layout is left out", "object_size"),
        ({"metadata": {"a": ""}}, "p/i: metadata a is left out", "metadata"),
        ({"metadata": {"a": "x\ufffd"}}, "p/i: metadata a is left out: it is no text", "metadata"),
        ({"config": {"debug_rbd": "5"}}, "p/i: config debug_rbd is left out", "config"),
        ({"snapshots": [snapshot("a b")]}, "p/i: the snapshot 'a b' is left out", "snapshots"),
        (
            {"snapshots": [snapshot("f0", type="trash", original_name="s")]},
            "p/i: the snapshot s of the type trash is left out",
            "snapshots",
        ),
        ({"group": "g"}, "p/i is in the group g of images", "group"),
        ({"metadata": {"saltrbd.luks": "{}"}}, "p/i is encrypted; declare encryption:", "encryption"),
        ({"features": ["layering", "non-primary"]}, "p/i is the copy of a mirrored image", "mirror"),
        ({"features": ["layering", "migrating"]}, "p/i is being migrated", "migration"),
    ],
)
def test_what_is_told_instead(facts, words, left):
    section, told = export.pillar(found(**facts))
    assert len(told) == 1
    assert told[0].startswith(words)
    assert left not in section["volumes"]["i"]
    assert len(volumes.read({"volumes": section["volumes"]}, CHOSEN)) == 1


def test_images_that_are_left_out():
    there = {
        spec.Spec("p", "", "a b", ""): image(),
        spec.Spec("p", "", "empty", ""): image(size=0),
        spec.Spec("p", "", "broken", ""): errors.CephError("It cannot be read."),
    }
    entry = {"name": "old", "id": "77", "kept_until": 0}
    section, told = export.pillar(
        export.Found([PLACE, PLACE._replace(namespace="n"), PLACE._replace(namespace="n n")], there, {}, [(PLACE, entry)])
    )
    assert section == {"namespaces": ["p/n"]}
    for words in (
        "The namespace p/n n is left out",
        "p/a b is left out",
        "p/empty is left out",
        "p/broken is left out: It cannot be read.",
    ):
        assert len([line for line in told if line.startswith(words)]) == 1
    assert told[-1] == "p/old (id 77) is in the trash, of which the pillar says nothing."
    assert len(told) == 5


A = spec.parse("p/a")


@pytest.mark.parametrize(
    ("facts", "above", "why"),
    [
        (parent(id="1"), image(id="1", snapshots=[snapshot("s")]), None),
        (parent(id="1", trash=True), image(id="1", snapshots=[snapshot("s")]), "the snapshot was removed since"),
        (parent(id="1"), None, "the image lies in the trash"),
        (parent(id="1"), image(id="2", snapshots=[snapshot("s")]), "the image lies in the trash"),
        (parent(id="1"), errors.PermissionDenied("It is closed."), "p/a@s: It is closed."),
        (parent(id="1"), image(id="1", snapshots=[snapshot("s", type="group")]), "it is no snapshot of a user"),
        (parent(id="1", snapshot_name="s s"), image(id="1", snapshots=[snapshot("s s")]), "white space"),
    ],
)
def test_parents(facts, above, why):
    section, told = export.pillar(found(parents={A: above}, parent=facts, clone_format=1))
    if why is None:
        assert told == []
        assert (section["clones"]["i"]["parent"], section["clones"]["i"]["clone_format"]) == ("p/a@s", 1)
        return
    assert "clones" not in section
    assert len(told) == 1
    assert told[0].startswith("p/i is declared as a volume, without its parent p/a@s")
    assert why in told[0]


def test_one_name_in_many_namespaces():
    section, told = export.pillar(found("p/n/i", "p/m/i", "p/m/j"))
    assert told == []
    assert {key: (entry.get("namespace"), entry.get("image")) for key, entry in section["volumes"].items()} == {
        "i": (None, None),
        "p/m/i": ("m", "i"),
        "j": ("m", None),
        "p/n/i": ("n", "i"),
    }
    assert sorted(str(entry["spec"]) for entry in volumes.read(section, CHOSEN)) == ["p/i", "p/m/i", "p/m/j", "p/n/i"]


def test_what_is_declared_changes_nothing():
    above = image(id="1", snapshots=[snapshot("s", protected=True)])
    facts = image(
        size=G + 1,
        features=["layering", "operations"],
        stripe_unit=M,
        stripe_count=3,
        data_pool="ec",
        parent=parent(id="1"),
        clone_format=2,
        metadata={"owner": "{{ me }}"},
        config={"rbd_cache": "false"},
    )
    section, told = export.pillar(export.Found([PLACE], {A: above, P: facts}, {}, []))
    assert told == []
    for entry in volumes.read(section, CHOSEN):
        declared = dict(entry["image"])
        number = declared.pop("clone_format", "auto")
        names = {"size": "image_size", "features": "image_features"}
        want = images.desired(**{names.get(key, key): value for key, value in declared.items()})
        if entry["clone"]:
            plan = clone.plan_present(P, facts, entry["parent"], above, want, number, None)
        else:
            plan = images.plan_present(A, above, want)
        assert (plan.steps, plan.changes, plan.refusals) == ([], {}, [])


# The file.


def test_the_file(tmp_path):
    path = tmp_path / "rbd.sls"
    export.write(str(path), "rbd: {}\n", ["p/a is\nleft out"])
    assert path.read_text() == "#!yaml\n# Written by rbd_image.export_pillar.\n# p/a is left out\nrbd: {}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(errors.Refused, match="exists already"):
        export.write(str(path), "", [])
    with pytest.raises(errors.CommandFailed, match="cannot be written"):
        export.write(str(tmp_path / "none/rbd.sls"), "", [])
    for wrong in ("rbd.sls", 5):
        with pytest.raises(errors.InvalidArgument):
            export.write(wrong, "", [])
